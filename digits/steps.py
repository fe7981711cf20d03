"""Many training steps: on a split that lies on the devices, or on batches that stream to them."""

import functools
import itertools
import math

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from digits import data
from digits import devices
from digits import metrics as metrics_lib
from digits import step as step_lib


class Carry(struct.PyTreeNode):
  """What one call of the compiled steps hands to the next, and what a checkpoint holds.

  Attributes:
    state: the `TrainState`.
    window: `Metrics` of the steps since the last training record.
    failed_step: int32[], the first step whose loss or gradient was not finite; -1 while there is none.
    failed_grad_norm: float32[], the norm of that gradient.
  """

  state: step_lib.TrainState
  window: metrics_lib.Metrics
  failed_step: jax.Array
  failed_grad_norm: jax.Array


def init_carry(rng, *, model, optimizer):
  """The carry of a run that has done nothing yet; see `init_state`."""
  return Carry(
    state=step_lib.init_state(rng, model=model, optimizer=optimizer),
    window=metrics_lib.Metrics.empty(),
    failed_step=jnp.full((), -1, jnp.int32),
    failed_grad_norm=jnp.zeros((), jnp.float32),
  )


def run_batch(carry, batch, *, model, optimizer):
  """Trains on one batch.

  Args:
    carry: `Carry`.
    batch: dict as from `take_batch`.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.

  Returns:
    The next `Carry`.
  """
  state, metrics = step_lib.train_step(carry.state, batch, model=model, optimizer=optimizer)
  fails = (carry.failed_step < 0) & ~(jnp.isfinite(metrics.loss) & jnp.isfinite(metrics.grad_norm))
  return Carry(
    state=state,
    window=carry.window.merge(metrics),
    failed_step=jnp.where(fails, carry.state.step, carry.failed_step),
    failed_grad_norm=jnp.where(fails, metrics.grad_norm, carry.failed_grad_norm),
  )


def run_step(carry, split, order, index, *, model, optimizer):
  """Trains on one batch of an epoch.

  Args:
    carry: `Carry`.
    split: `Split` on the device.
    order: int32[steps, B], the epoch's batches, from `shuffled_order`.
    index: int32[], which of them.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.

  Returns:
    The next `Carry`.
  """
  return run_batch(carry, data.take_batch(split, order[index]), model=model, optimizer=optimizer)


def run_steps(carry, split, order, start, stop, *, model, optimizer):
  """Trains on the batches `start` to `stop` of an epoch in one call; see `run_step`."""

  def body(index, carry):
    return run_step(carry, split, order, index, model=model, optimizer=optimizer)

  return jax.lax.fori_loop(start, stop, body, carry)


def split_seed(seed):
  """The two keys of a run, `(rng_init, rng_shuffle)`: the shuffle of epoch e is `fold_in(rng_shuffle, e)`."""
  return jax.random.split(jax.random.key(seed))


def is_slow_in_loops(jaxpr):
  """Whether a program is to be called once a step: XLA's CPU backend runs a convolution in a loop on one thread."""
  return jax.default_backend() == 'cpu' and 'conv_general_dilated' in str(jaxpr)


def epoch_order(epoch, *, seed, num_examples, batch_size):
  """The shuffle of an epoch of a run, a function of the seed and the epoch alone; see `shuffled_order`."""
  _, rng_shuffle = split_seed(seed)
  return data.shuffled_order(jax.random.fold_in(rng_shuffle, epoch), num_examples, batch_size)


class InMemory:
  """Training on a split that lies on every device, whole: a batch is gathered there, each device its part.

  Args:
    config: `TrainConfig`.
    split: `Split` of NumPy arrays.
    carry: a `Carry` on the mesh.
    mesh: as from `devices.make_data_mesh`.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.
  """

  def __init__(self, config, split, carry, mesh, *, model, optimizer):
    self._steps_per_epoch = math.ceil(len(split.label) / config.batch_size)
    self._split = devices.replicate(split, mesh)
    self._make_order = jax.jit(
      functools.partial(epoch_order, seed=config.seed, num_examples=len(split.label), batch_size=config.batch_size),
      out_shardings=devices.over_data(mesh, axis=1),
      compiler_options=devices.compiler_options(),
    )
    self._epoch, self._order = 0, self._make_order(0)
    self._run = self._compile(config, carry, mesh, model=model, optimizer=optimizer)

  def _compile(self, config, carry, mesh, *, model, optimizer):
    """Compiles `(carry, split, order, start, stop) -> carry`, which takes over the arrays of the carry."""
    jit = functools.partial(
      jax.jit,
      donate_argnums=0,
      out_shardings=devices.everywhere(mesh),
      compiler_options=devices.compiler_options(),
    )
    many = jit(functools.partial(run_steps, model=model, optimizer=optimizer))
    many = many.trace(carry, self._split, self._order, np.int32(0), np.int32(1))
    if config.step_loop == 'device' or (config.step_loop == 'auto' and not is_slow_in_loops(many.jaxpr)):
      compiled = many.lower().compile()
      return lambda carry, split, order, start, stop: compiled(carry, split, order, np.int32(start), np.int32(stop))

    one = jit(functools.partial(run_step, model=model, optimizer=optimizer))
    compiled = one.lower(carry, self._split, self._order, np.int32(0)).compile()

    def run(carry, split, order, start, stop):
      for index in range(start, stop):
        carry = compiled(carry, split, order, np.int32(index))
      return carry

    return run

  def advance(self, carry, start, stop):
    """Trains from step `start` to step `stop` of the run, both of one epoch; the carry given is used up."""
    epoch, index = divmod(start, self._steps_per_epoch)
    if epoch != self._epoch:
      self._epoch, self._order = epoch, self._make_order(epoch)
    return self._run(carry, self._split, self._order, index, index + stop - start)

  def state(self):
    """What a checkpoint has to keep of the loader: nothing, as an order is a function of the epoch."""
    return None


class Streaming:
  """Training on batches that Grain reads from the prepared records, in the order of `InMemory`.

  Every process reads its part of each batch and no more.

  Args:
    config: `TrainConfig`.
    num_examples: of the training split.
    carry: a `Carry` on the mesh.
    mesh: as from `devices.make_data_mesh`.
    loader_state: of the checkpoint to go on from, or None.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.
  """

  def __init__(self, config, num_examples, carry, mesh, loader_state, *, model, optimizer):
    from digits.data import streaming  # Imports Grain and TFDS, which take a second.

    self._batches = streaming.BatchIterator(
      streaming.open_records(config.dataset, config.data_dir),
      functools.partial(epoch_order, seed=config.seed, num_examples=num_examples, batch_size=config.batch_size),
      num_epochs=config.epochs,
      part=devices.local_rows(mesh, config.batch_size),
      num_workers=config.loader_workers,
      state=loader_state,
    )
    self._sharding = devices.over_data(mesh)
    self._run = jax.jit(
      functools.partial(run_batch, model=model, optimizer=optimizer),
      donate_argnums=0,
      out_shardings=devices.everywhere(mesh),
      compiler_options=devices.compiler_options(),
    )

  def advance(self, carry, start, stop):
    """Trains from step `start` to step `stop` of the run; the carry given is used up."""
    for batch in itertools.islice(self._batches, stop - start):
      batch = {name: jax.make_array_from_process_local_data(self._sharding, rows) for name, rows in batch.items()}
      carry = self._run(carry, batch)
    return carry

  def state(self):
    """Where the pipeline is, as JSON."""
    return self._batches.state()
