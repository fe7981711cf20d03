"""Many training steps: on a split that lies on the devices, or on batches that stream to them."""

import functools
import itertools
import math

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from digits import data
from digits.data import arrays
from digits.runtime import devices
from digits.train import metrics as metrics_lib
from digits.train import step as step_lib

# Images that go through a convolutional model at once on a CPU, where what lies between its layers is to stay in the
# cache of a core; and on any device the fewest that are worth a device of their own.
_MICROBATCH_SIZE = 32


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


def run_batch(carry, batch, *, model, optimizer, **options):
  """Trains on one batch.

  Args:
    carry: `Carry`.
    batch: dict as from `take_batch`.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.
    **options: the others of `train_step`.

  Returns:
    The next `Carry`.
  """
  state, metrics = step_lib.train_step(carry.state, batch, model=model, optimizer=optimizer, **options)
  fails = (carry.failed_step < 0) & ~(jnp.isfinite(metrics.loss) & jnp.isfinite(metrics.grad_norm))
  return Carry(
    state=state,
    window=carry.window.merge(metrics),
    failed_step=jnp.where(fails, carry.state.step, carry.failed_step),
    failed_grad_norm=jnp.where(fails, metrics.grad_norm, carry.failed_grad_norm),
  )


def run_step(carry, split, order, index, **options):
  """Trains on one batch of an epoch.

  Args:
    carry: `Carry`.
    split: `Split` on the device.
    order: int32[steps, B], the epoch's batches, from `shuffled_order`.
    index: int32[], which of them.
    **options: see `run_batch`.

  Returns:
    The next `Carry`.
  """
  return run_batch(carry, data.take_batch(split, order[index]), **options)


def run_steps(carry, split, order, start, stop, **options):
  """Trains on the batches `start` to `stop` of an epoch in one call; see `run_step`."""
  return jax.lax.fori_loop(start, stop, lambda index, carry: run_step(carry, split, order, index, **options), carry)


@functools.cache
def convolution_of(model):
  """How a model convolves on this backend: `lax`, `matmul` (see `models.convolution`), or None where it does not.

  Args:
    model: an unbound `nn.Module`.
  """
  image = np.zeros((_MICROBATCH_SIZE, *arrays.IMAGE_SHAPE), np.float32)
  program = jax.make_jaxpr(model.init)(jax.random.key(0), image)
  if 'conv_general_dilated' in str(program):
    return 'lax'
  return 'matmul' if any(leaf.ndim == 4 for leaf in program.out_avals) else None


def is_slow_in_loops(model):
  """Whether a model is to be called once a step: XLA's CPU backend runs a convolution in a loop on one thread."""
  return jax.default_backend() == 'cpu' and convolution_of(model) == 'lax'


def gains_from_devices(model):
  """Whether spreading a batch over devices pays: on accelerators for convolutions, on the cores of a CPU for products.

  `lax.conv` takes all cores by itself, and of the small models a step is over before their gradients are summed.
  """
  return convolution_of(model) in (('matmul',) if jax.default_backend() == 'cpu' else ('lax', 'matmul'))


def choose_microbatch_size(model, requested=0):
  """How many images go through a model at once: those requested, or as many as fit a CPU's cache; 0 for all."""
  if requested or jax.default_backend() != 'cpu' or convolution_of(model) != 'matmul':
    return requested
  return _MICROBATCH_SIZE


def make_mesh(model, batch_size, requested=0):
  """The mesh that a run's batches are spread over; see `devices.make_data_mesh`."""
  least_images = _MICROBATCH_SIZE if gains_from_devices(model) else batch_size
  return devices.make_data_mesh(batch_size, requested, least_images=least_images)


class InMemory:
  """Training on a split that lies on every device, whole: a batch is gathered there, each device its part.

  Args:
    config: `TrainConfig`.
    split: `Split` of NumPy arrays.
    carry: a `Carry` on the mesh.
    mesh: as from `make_mesh`.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.
  """

  def __init__(self, config, split, carry, mesh, *, model, optimizer):
    self._config, self._mesh, self._num_examples = config, mesh, len(split.label)
    self._steps_per_epoch = math.ceil(self._num_examples / config.batch_size)
    self._split = devices.replicate(split, mesh)
    self._epoch, self._order = 0, self._make_order(0)
    self._run = self._compile(carry, model=model, optimizer=optimizer)

  def _make_order(self, epoch):
    order = data.shuffled_order(self._config.seed, epoch, self._num_examples, self._config.batch_size)
    return devices.spread(order, self._mesh, axis=1)

  def _compile(self, carry, *, model, optimizer):
    """Compiles `(carry, split, order, start, stop) -> carry`, which takes over the arrays of the carry."""
    config, mesh = self._config, self._mesh
    over = (devices.WHOLE, devices.WHOLE, devices.by_data(axis=1))
    options = _options(config, mesh, model=model, optimizer=optimizer)
    if config.step_loop == 'device' or (config.step_loop == 'auto' and not is_slow_in_loops(model)):
      many = devices.jit_over_data(functools.partial(run_steps, **options), mesh, (*over, devices.WHOLE, devices.WHOLE))
      compiled = many.lower(carry, self._split, self._order, np.int32(0), np.int32(1)).compile()
      return lambda carry, split, order, start, stop: compiled(carry, split, order, np.int32(start), np.int32(stop))

    one = devices.jit_over_data(functools.partial(run_step, **options), mesh, (*over, devices.WHOLE))
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
    mesh: as from `make_mesh`.
    loader_state: of the checkpoint to go on from, or None.
    model: an unbound `nn.Module`.
    optimizer: an `optax.GradientTransformation`.
  """

  def __init__(self, config, num_examples, carry, mesh, loader_state, *, model, optimizer):
    from digits.data import streaming  # Imports Grain and TFDS, which take a second.

    self._batches = streaming.BatchIterator(
      streaming.open_records(config.dataset, config.data_dir),
      functools.partial(data.shuffled_order, config.seed, num_examples=num_examples, batch_size=config.batch_size),
      num_epochs=config.epochs,
      part=devices.local_rows(mesh, config.batch_size),
      num_workers=config.loader_workers,
      state=loader_state,
    )
    self._sharding = devices.over_data(mesh)
    options = _options(config, mesh, model=model, optimizer=optimizer)
    run = devices.jit_over_data(functools.partial(run_batch, **options), mesh, (devices.WHOLE, devices.by_data()))
    batch = {'image': (arrays.IMAGE_SHAPE, np.uint8), 'label': ((), np.int32), 'mask': ((), np.float32)}
    batch = {
      name: jax.ShapeDtypeStruct((config.batch_size, *shape), dtype, sharding=self._sharding)
      for name, (shape, dtype) in batch.items()
    }
    self._run = run.lower(carry, batch).compile()

  def advance(self, carry, start, stop):
    """Trains from step `start` to step `stop` of the run; the carry given is used up."""
    for batch in itertools.islice(self._batches, stop - start):
      batch = {name: jax.make_array_from_process_local_data(self._sharding, rows) for name, rows in batch.items()}
      carry = self._run(carry, batch)
    return carry

  def state(self):
    """Where the pipeline is, as JSON."""
    return self._batches.state()


def _options(config, mesh, *, model, optimizer):
  """The arguments of `run_batch` for a run."""
  return {
    'model': model,
    'optimizer': optimizer,
    'microbatch_size': choose_microbatch_size(model, config.microbatch_size),
    'axis_name': devices.data_axis(mesh),
  }
