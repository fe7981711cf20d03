"""One training step and one evaluation step, as pure functions of arrays."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from digits import metrics as metrics_lib


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


def train_step(state, batch, *, model, optimizer):
  """Does one update of stochastic gradient descent on the mean cross-entropy of a batch.

  Args:
    state: `TrainState`.
    batch: dict of image uint8[B, 28, 28, 1], label int32[B] and mask float32[B].
    model: an unbound `nn.Module` from images to logits.
    optimizer: the `optax.GradientTransformation` that made `state.opt_state`.

  Returns:
    The next `TrainState` and the `Metrics` of the batch, measured before the update.
  """

  def loss_fn(params):
    logits = apply_model(model, params, batch['image'])
    loss = metrics_lib.masked_cross_entropy(logits, batch['label'], batch['mask'])
    return loss / jnp.maximum(jnp.sum(batch['mask']), 1.0), logits

  grads, logits = jax.grad(loss_fn, has_aux=True)(state.params)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = metrics_lib.Metrics.from_logits(logits, batch, grad_norm=optax.tree.norm(grads))
  return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def eval_step(params, batch, *, model):
  """Measures a batch.

  Args:
    params: the model's parameters.
    batch: dict of image uint8[B, 28, 28, 1], label int32[B] and mask float32[B].
    model: an unbound `nn.Module` from images to logits.

  Returns:
    The `Metrics` of the batch.
  """
  return metrics_lib.Metrics.from_logits(apply_model(model, params, batch['image']), batch)
