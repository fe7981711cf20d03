"""Many training steps: on a split that lies on the devices, or on batches that stream to them."""

from collections.abc import Callable
import functools
import itertools
import math
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np

from digits import data
from digits.config import TrainConfig
from digits.data import arrays
from digits.models.registry import takes_train
from digits.runtime import devices
from digits.train.metrics import Batch, Metrics
from digits.train.recipe import Recipe
from digits.train.step import TrainState

# Images that go through a convolutional model at once on a CPU, where what lies between its layers is to stay in the
# cache of a core; and on any device the fewest that are worth a device of their own.
_MICROBATCH_SIZE = 32

Update = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Carry(struct.PyTreeNode):
  """What one call of the compiled steps hands to the next, and what a checkpoint holds.

  Attributes:
    state: the train state.
    window: metrics of the steps since the last training record.
    failed_step: the first step whose loss or gradient was not finite; -1 while there is none.
    failed_grad_norm: the norm of that gradient.
  """

  state: TrainState
  window: Metrics
  failed_step: Int[Array, '*members']
  failed_grad_norm: Float[Array, '*members']


def init_carry(recipe: Recipe) -> Carry:
  """The carry of a run that has done nothing yet."""
  return Carry(
    state=recipe.init_state(),
    window=Metrics.empty(),
    failed_step=jnp.full((), -1, jnp.int32),
    failed_grad_norm=jnp.zeros((), jnp.float32),
  )


def run_batch(carry: Carry, batch: Batch, *, update: Update) -> Carry:
  """Trains on one batch; `update` is a `train_step` with all its options."""
  state, metrics = update(carry.state, batch)
  fails = (carry.failed_step < 0) & ~(jnp.isfinite(metrics.loss) & jnp.isfinite(metrics.grad_norm))
  return Carry(
    state=state,
    window=carry.window.merge(metrics),
    failed_step=jnp.where(fails, carry.state.step, carry.failed_step),
    failed_grad_norm=jnp.where(fails, metrics.grad_norm, carry.failed_grad_norm),
  )


def run_step(
  carry: Carry, split: arrays.Split, order: Int[Array, 'steps batch'], index: Int[Array, ''], *, update: Update
) -> Carry:
  """Trains on one batch of an epoch.

  Args:
    carry: the carry.
    split: the training split, on the device.
    order: the epoch's batches, from `shuffled_order`.
    index: number of the batch within the epoch.
    update: see `run_batch`.
  """
  return run_batch(carry, data.take_batch(split, order[index]), update=update)


def run_steps(
  carry: Carry,
  split: arrays.Split,
  order: Int[Array, 'steps batch'],
  start: Int[Array, ''],
  stop: Int[Array, ''],
  *,
  update: Update,
) -> Carry:
  """Trains on the batches `start` to `stop` of an epoch in one call; see `run_step`."""
  return jax.lax.fori_loop(start, stop, lambda index, carry: run_step(carry, split, order, index, update=update), carry)


@functools.cache
def convolution_of(model: nn.Module) -> str | None:
  """How a model convolves on this backend: `lax`, `matmul` (see `models.convolution`), or None where it does not."""
  image = np.zeros((_MICROBATCH_SIZE, *arrays.IMAGE_SHAPE), np.float32)
  program = jax.make_jaxpr(model.init)(jax.random.key(0), image)
  if 'conv_general_dilated' in str(program):
    return 'lax'
  return 'matmul' if any(leaf.ndim == 4 for leaf in program.out_avals) else None


def is_slow_in_loops(model: nn.Module) -> bool:
  """Whether to call a model once per step: XLA's CPU backend runs a convolution in a loop on one thread."""
  return jax.default_backend() == 'cpu' and convolution_of(model) == 'lax'


def gains_from_devices(model: nn.Module) -> bool:
  """Whether spreading a batch over devices pays: on accelerators for convolutions, on the cores of a CPU for products.

  `lax.conv` takes all cores by itself, and a step of the small models is over before their gradients are summed.
  """
  return convolution_of(model) in (('matmul',) if jax.default_backend() == 'cpu' else ('lax', 'matmul'))


def choose_microbatch_size(model: nn.Module, requested: int = 0) -> int:
  """How many images go through a model at once: those requested, or as many as fit a CPU's cache; 0 for all."""
  if requested or jax.default_backend() != 'cpu' or convolution_of(model) != 'matmul' or takes_train(model):
    return requested
  return _MICROBATCH_SIZE


def make_mesh(model: nn.Module, batch_size: int, requested: int = 0) -> Mesh:
  """The mesh that a run's batches are spread over; see `devices.make_data_mesh`."""
  least_images = _MICROBATCH_SIZE if gains_from_devices(model) else batch_size
  return devices.make_data_mesh(batch_size, requested, least_images=least_images)


class _Training:
  """The parts that training in memory and from a stream share: the carry, and how a step is compiled.

  A model that behaves differently in training, such as normalizing by the batch, sees the whole batch: XLA then spreads
  the step over the devices of the mesh as if they were one. For any other model each device computes the gradients of
  its own images, which costs one all-reduce and nothing else.

  Attributes:
    carry: the `Carry` as it is after the latest step, on the mesh.
  """

  def __init__(self, config: TrainConfig, recipe: Recipe, carry: Carry, mesh: Mesh):
    self.carry = carry
    self._config, self._mesh = config, mesh
    self._is_mapped = not takes_train(recipe.model)
    self._update = functools.partial(
      recipe.train_step,
      microbatch_size=choose_microbatch_size(recipe.model, config.microbatch_size),
      axis_name=devices.data_axis(mesh) if self._is_mapped else None,
    )
    self._empty_window = jax.jit(Metrics.empty, out_shardings=devices.everywhere(mesh))

  def _jit(self, function: Callable[..., Carry], *in_specs: Any) -> Any:
    function = functools.partial(function, update=self._update)
    return devices.jit_over_data(function, self._mesh, in_specs, is_mapped=self._is_mapped)

  def metrics(self) -> dict[str, Any]:
    """Loss and accuracy of the steps since the last record. Waits for the device."""
    return self.carry.window.compute()

  def reset_window(self) -> None:
    """Begins a new record."""
    self.carry = self.carry.replace(window=self._empty_window())


class InMemory(_Training):
  """Training on a split that lies on every device, whole: a batch is gathered there, each device its part.

  Args:
    config: the run's config.
    split: the training split, on the host.
    carry: a carry on the mesh, which is used up.
    mesh: as from `make_mesh`.
    recipe: the run's recipe.
  """

  def __init__(self, config: TrainConfig, split: arrays.Split, carry: Carry, mesh: Mesh, recipe: Recipe):
    super().__init__(config, recipe, carry, mesh)
    self._num_examples = len(split.label)
    self._steps_per_epoch = math.ceil(self._num_examples / config.batch_size)
    self._split = devices.replicate(split, mesh)
    self._epoch, self._order = 0, self._make_order(0)
    one, over = np.int32(0), (devices.WHOLE, devices.WHOLE, devices.by_data(axis=1), devices.WHOLE)
    self._in_loop = config.step_loop == 'device' or (config.step_loop == 'auto' and not is_slow_in_loops(recipe.model))
    if self._in_loop:
      many = self._jit(run_steps, *over, devices.WHOLE)
      self._run = many.lower(carry, self._split, self._order, one, one).compile()
    else:
      self._run = self._jit(run_step, *over).lower(carry, self._split, self._order, one).compile()

  def _make_order(self, epoch: int) -> Int[Array, 'steps batch']:
    order = data.shuffled_order(self._config.seed, epoch, self._num_examples, self._config.batch_size)
    return devices.spread(order, self._mesh, axis=1)

  def advance(self, start: int, stop: int) -> None:
    """Trains from step `start` to step `stop` of the run, both of one epoch."""
    epoch, index = divmod(start, self._steps_per_epoch)
    if epoch != self._epoch:
      self._epoch, self._order = epoch, self._make_order(epoch)
    end = index + stop - start
    if self._in_loop:
      self.carry = self._run(self.carry, self._split, self._order, np.int32(index), np.int32(end))
    else:
      for i in range(index, end):
        self.carry = self._run(self.carry, self._split, self._order, np.int32(i))

  def loader_state(self) -> None:
    """What a checkpoint has to keep of the loader: nothing, as an order is a function of the epoch."""


class Streaming(_Training):
  """Training on batches that Grain reads from the prepared records, in the order of `InMemory`.

  Every process reads its part of each batch and no more.

  Args:
    config: the run's config.
    num_examples: number of images of the training split.
    carry: a carry on the mesh, which is used up.
    mesh: as from `make_mesh`.
    recipe: the run's recipe.
    loader_state: the loader state in the checkpoint to continue from, or None.
  """

  def __init__(
    self, config: TrainConfig, num_examples: int, carry: Carry, mesh: Mesh, recipe: Recipe, loader_state: Any
  ):
    super().__init__(config, recipe, carry, mesh)
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
    batch = {
      name: jax.ShapeDtypeStruct((config.batch_size, *shape), dtype, sharding=self._sharding)
      for name, (shape, dtype) in arrays.BATCH.items()
    }
    self._run = self._jit(run_batch, devices.WHOLE, devices.by_data()).lower(carry, batch).compile()

  def advance(self, start: int, stop: int) -> None:
    """Trains from step `start` to step `stop` of the run."""
    for batch in itertools.islice(self._batches, stop - start):
      batch = {name: jax.make_array_from_process_local_data(self._sharding, rows) for name, rows in batch.items()}
      self.carry = self._run(self.carry, batch)

  def loader_state(self) -> Any:
    """Where the pipeline is, as JSON."""
    return self._batches.state()
