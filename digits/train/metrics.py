"""Loss and accuracy as sums over examples, so that batches of any size add up to the exact mean."""

from flax import struct
import jax
import jax.numpy as jnp
import optax


def masked_cross_entropy(logits, labels, mask):
  """Sums the cross-entropy of the rows that are real.

  Args:
    logits: float32[B, C], unnormalised log-probabilities.
    labels: int32[B], classes 0 to C - 1.
    mask: float32[B], 1 for a real row, 0 for padding.

  Returns:
    float32[], nats: a sum, so uneven batches add up; divide once, by sum(mask).
  """
  return jnp.sum(mask * optax.softmax_cross_entropy_with_integer_labels(logits, labels))


class Metrics(struct.PyTreeNode):
  """Sums over examples, and the largest gradient norm of the training steps among them.

  Attributes:
    loss: float32[], nats, summed.
    correct: float32[], how many examples were classified rightly.
    count: float32[], how many examples; exact up to 2^24.
    grad_norm: float32[], the largest of the merged training steps, NaN if one is; 0 in evaluation.
  """

  loss: jax.Array
  correct: jax.Array
  count: jax.Array
  grad_norm: jax.Array

  @classmethod
  def empty(cls):
    """The neutral element of `merge`; four buffers of their own, so that they can be donated."""
    return cls(*(jnp.zeros((), jnp.float32) for _ in range(4)))

  @classmethod
  def from_logits(cls, logits, batch, grad_norm=0.0):
    """Measures one batch.

    Args:
      logits: float32[B, C].
      batch: dict with label int32[B] and mask float32[B].
      grad_norm: float32[], norm of the gradient that this batch gave.
    """
    correct = (jnp.argmax(logits, axis=-1) == batch['label']).astype(jnp.float32)
    return cls(
      loss=masked_cross_entropy(logits, batch['label'], batch['mask']),
      correct=jnp.sum(batch['mask'] * correct),
      count=jnp.sum(batch['mask']),
      grad_norm=jnp.asarray(grad_norm, jnp.float32),
    )

  def merge(self, other):
    """The metrics of both sets of examples together."""
    return Metrics(
      loss=self.loss + other.loss,
      correct=self.correct + other.correct,
      count=self.count + other.count,
      grad_norm=jnp.maximum(self.grad_norm, other.grad_norm),
    )

  def compute(self):
    """Returns the means as Python numbers: accuracy as a fraction, loss in nats, examples. Waits for the device."""
    sums = jax.device_get(self)
    count = max(float(sums.count), 1.0)
    return {'accuracy': float(sums.correct) / count, 'loss': float(sums.loss) / count, 'examples': int(sums.count)}
