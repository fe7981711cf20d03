"""One training step and one evaluation step, as pure functions of arrays."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from digits.train import metrics as metrics_lib


class TrainState(struct.PyTreeNode):
  """All that training changes, and nothing but arrays.

  Attributes:
    step: int32[], updates finished.
    params: the model's parameters, float32.
    opt_state: the optimizer's.
  """

  step: jax.Array
  params: Any
  opt_state: Any


def normalize(image):
  """Maps uint8 pixels to float32 in [0, 1]."""
  return image.astype(jnp.float32) / 255.0


def init_state(rng, *, model, optimizer, image_shape=(28, 28, 1)):
  """Draws the initial parameters.

  Args:
    rng: PRNG key, spent here.
    model: an unbound `nn.Module` from images to logits.
    optimizer: an `optax.GradientTransformation`.
    image_shape: [H, W, C] of one image.

  Returns:
    A `TrainState` at step 0.
  """
  params = model.init(rng, jnp.zeros((1, *image_shape), jnp.float32))['params']
  return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def apply_model(model, params, image):
  """Logits float32[B, C] of images uint8[B, H, W, 1], whatever dtype the model computes in."""
  return model.apply({'params': params}, normalize(image)).astype(jnp.float32)


def train_step(state, batch, *, model, optimizer, microbatch_size=0, axis_name=None):
  """Does one update of stochastic gradient descent on the mean cross-entropy of a batch.

  Args:
    state: `TrainState`.
    batch: dict of image uint8[B, 28, 28, 1], label int32[B] and mask float32[B].
    model: an unbound `nn.Module` from images to logits.
    optimizer: the `optax.GradientTransformation` that made `state.opt_state`.
    microbatch_size: how many images go through the model at once, so that what lies between its layers stays in a
      processor's cache; 0 for the whole batch. The result is the same to rounding.
    axis_name: of the mesh axis over which the images are spread, inside `jax.shard_map`; None on one device.

  Returns:
    The next `TrainState` and the `Metrics` of the batch, measured before the update.
  """
  count = jnp.sum(batch['mask'])
  if axis_name is not None:
    count = jax.lax.psum(count, axis_name)

  def loss_fn(params, batch):
    metrics = eval_step(params, batch, model=model)
    return metrics.loss / jnp.maximum(count, 1.0), metrics

  grads, metrics = _sum_parts(jax.grad(loss_fn, has_aux=True), state.params, batch, microbatch_size)
  if axis_name is not None:
    grads, metrics = jax.lax.psum((grads, metrics), axis_name)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = metrics.replace(grad_norm=optax.tree.norm(grads))
  return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def eval_step(params, batch, *, model, microbatch_size=0):
  """Measures a batch.

  Args:
    params: the model's parameters.
    batch: dict of image uint8[B, 28, 28, 1], label int32[B] and mask float32[B].
    model: an unbound `nn.Module` from images to logits.
    microbatch_size: as in `train_step`.

  Returns:
    The `Metrics` of the batch.
  """

  def measure(params, batch):
    return metrics_lib.Metrics.from_logits(apply_model(model, params, batch['image']), batch)

  return _sum_parts(measure, params, batch, microbatch_size)


def _sum_parts(function, params, batch, size):
  """Sums `function(params, part)` over the parts of a batch, each of at most `size` rows; 0 for all at once."""
  batch_size = len(batch['label'])
  num_parts = -(-batch_size // (size or batch_size))
  if num_parts == 1:
    return function(params, batch)

  def split(rows):
    padding = [(0, -batch_size % num_parts), *[(0, 0)] * (rows.ndim - 1)]  # Zeros, in the mask too.
    return jnp.pad(rows, padding).reshape(num_parts, -1, *rows.shape[1:])

  def add(sums, part):
    return jax.tree.map(jnp.add, sums, function(params, part)), None

  parts = jax.tree.map(split, batch)
  shapes = jax.eval_shape(function, params, jax.tree.map(lambda rows: rows[0], parts))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  return jax.lax.scan(add, zeros, parts)[0]
