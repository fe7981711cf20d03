"""One training step and one evaluation step, as pure functions of arrays."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8
import numpy as np
import optax

from digits.models.registry import takes_train
from digits.train import augment as augment_lib
from digits.train.metrics import Batch, cross_entropy, Metrics

# What Flax calls so: `params` and the model's other collections, such as `batch_stats`, by name.
Variables = Mapping[str, PyTree]

# From images to the logits that a student learns.
Teacher = Callable[[Float[Array, 'batch h w 1']], Float[Array, 'batch classes']]


class TrainState(struct.PyTreeNode):
  """All that training changes, and nothing but arrays.

  Attributes:
    step: number of finished updates.
    params: the model's parameters, float32.
    opt_state: the optimizer's state.
    collections: the model's other variables by collection; empty for most models.
    ema: exponential moving average of all variables; None where none is kept.
  """

  step: Int[Array, '*members']
  params: PyTree
  opt_state: PyTree
  collections: Variables
  ema: Variables | None = None

  @property
  def variables(self) -> Variables:
    """The variables to evaluate with: the average where there is one."""
    return self._latest if self.ema is None else self.ema

  @property
  def _latest(self) -> Variables:
    return {'params': self.params, **self.collections}


def normalize(image: UInt8[Array | np.ndarray, '*shape']) -> Float[Array, '*shape']:
  """Maps pixels to float32 in [0, 1]."""
  return jnp.asarray(image).astype(jnp.float32) / 255.0


def init_state(
  rng: Key[Array, ''],
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  image_shape: tuple[int, int, int] = (28, 28, 1),
  ema: bool = False,
) -> TrainState:
  """Draws the initial parameters.

  Args:
    rng: key of the initial values.
    model: an unbound module from images to logits.
    optimizer: the optimizer.
    image_shape: height, width and channels of one image.
    ema: whether to keep an average of the variables.
  """
  variables = dict(model.init(rng, jnp.zeros((1, *image_shape), jnp.float32)))
  params = variables.pop('params')
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), variables)
  # A copy, so that both can be donated.
  return state.replace(ema=jax.tree.map(jnp.copy, state.variables)) if ema else state


def apply_model(
  model: nn.Module, variables: Variables, image: UInt8[Array | np.ndarray, 'batch h w 1']
) -> Float[Array, 'batch classes']:
  """Logits in inference, float32 in whatever dtype the model computes."""
  logits: Any = model.apply(variables, normalize(image))
  return logits.astype(jnp.float32)


def train_step(
  state: TrainState,
  batch: Batch,
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  loss: Callable[..., Float[Array, ' batch']] = cross_entropy,
  augment: augment_lib.Augmentation | None = None,
  teacher: Teacher | None = None,
  rng: Key[Array, ''] | None = None,
  ema_decay: float = 0.0,
  microbatch_size: int = 0,
  axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
  """Does one update on the mean loss of a batch.

  Args:
    state: the state.
    batch: dict of image uint8[B, H, W, 1], label int32[B] and mask float32[B], 1 for a real row and 0 for padding.
    model: an unbound module from images to logits.
    optimizer: the optimizer that made `state.opt_state`.
    loss: maps logits and labels to the loss of each example.
    augment: a pure function `(key, images) -> images` of float images in [0, 1], called for each image alone.
    teacher: maps images as the model sees them to a teacher's logits, which `loss` then takes as its third argument.
    rng: key of the run, for augmentation and for a model that draws random numbers; a step uses
      `fold_in(rng, state.step)`. It may be left out where nothing is random.
    ema_decay: decay of the average of the variables, where the state keeps one.
    microbatch_size: how many images go through the model at once, so that what lies between its layers stays in a
      processor's cache; 0 for the whole batch. The result is the same to rounding. Not for a model that takes `train`.
    axis_name: name of the mesh axis over which the images are spread, inside `jax.shard_map`; else None.

  Returns:
    The next state, and the metrics of the batch, measured before the update.
  """
  if microbatch_size and takes_train(model):
    raise ValueError('A model that takes `train` needs the whole batch at once: leave microbatch_size out.')
  count = jnp.sum(batch['mask'])
  if axis_name is not None:
    count = jax.lax.psum(count, axis_name)
  model_rng = None
  if rng is not None:
    augment_rng, model_rng = jax.random.split(jax.random.fold_in(rng, state.step))
  if augment is not None:
    if rng is None:
      raise ValueError('An augmentation needs random numbers: give train_step the argument rng.')
    size = len(batch['label'])
    first_row = 0 if axis_name is None else size * jax.lax.axis_index(axis_name)
    batch = {**batch, 'image': augment_lib.augment_each(augment, augment_rng, normalize(batch['image']), first_row)}

  def loss_fn(params, part):
    logits, collections = _apply_in_training(model, {'params': params, **state.collections}, part['image'], model_rng)
    objective = loss if teacher is None else functools.partial(_teach, loss, teacher(_as_float(part['image'])))
    metrics = Metrics.from_logits(logits, part, objective)
    # Only a model that takes `train` changes them; those of any other must not be added up over the parts.
    return metrics.loss / jnp.maximum(count, 1.0), (metrics, collections if takes_train(model) else {})

  grads, (metrics, collections) = _sum_parts(jax.grad(loss_fn, has_aux=True), state.params, batch, microbatch_size)
  if axis_name is not None:
    grads, metrics = jax.lax.psum((grads, metrics), axis_name)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = metrics.replace(grad_norm=optax.tree.norm(grads))
  after = TrainState(state.step + 1, params, opt_state, collections or state.collections)
  if state.ema is not None:
    after = after.replace(ema=_average(state.ema, after.variables, ema_decay))
  return after, metrics


def eval_step(variables: Variables, batch: Batch, *, model: nn.Module, microbatch_size: int = 0) -> Metrics:
  """Measures a batch by plain cross-entropy, and changes nothing.

  Args:
    variables: the model's variables, such as `state.variables`.
    batch: as in `train_step`.
    model: an unbound module from images to logits.
    microbatch_size: as in `train_step`, for any model.
  """

  def measure(variables, batch):
    return Metrics.from_logits(apply_model(model, variables, batch['image']), batch)

  return _sum_parts(measure, variables, batch, microbatch_size)


def _teach(loss, teacher_logits, logits, labels):
  return loss(logits, labels, teacher_logits)


def _as_float(image):
  return normalize(image) if image.dtype == jnp.uint8 else image


def _apply_in_training(model, variables, image, rng):
  """Logits in training, float32, and the collections afterwards."""
  image = _as_float(image)
  options = {'train': True} if takes_train(model) else {}
  collections = [name for name in variables if name != 'params']
  # Flax takes this one key for every kind of random number that a model asks for.
  result = model.apply(variables, image, rngs=rng, mutable=collections or False, **options)
  logits, updated = result if collections else (result, {})
  return logits.astype(jnp.float32), updated


def _average(average: Variables, latest: Variables, decay: float) -> Variables:
  def update(old, new):
    return decay * old + (1 - decay) * new if jnp.issubdtype(new.dtype, jnp.floating) else new

  return jax.tree.map(update, average, latest)


def _sum_parts(function: Callable[[Any, Batch], PyTree], variables: PyTree, batch: Batch, size: int) -> PyTree:
  """Sums `function(variables, part)` over the parts of a batch, each of at most `size` rows; 0 for all at once."""
  batch_size = len(batch['label'])
  num_parts = -(-batch_size // (size or batch_size))
  if num_parts == 1:
    return function(variables, batch)

  def split(rows):
    padding = [(0, -batch_size % num_parts), *[(0, 0)] * (rows.ndim - 1)]  # Zeros, in the mask too.
    return jnp.pad(rows, padding).reshape(num_parts, -1, *rows.shape[1:])

  def add(sums, part):
    return jax.tree.map(jnp.add, sums, function(variables, part)), None

  parts = jax.tree.map(split, batch)
  shapes = jax.eval_shape(function, variables, jax.tree.map(lambda rows: rows[0], parts))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  return jax.lax.scan(add, zeros, parts)[0]
