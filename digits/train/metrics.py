"""Loss and accuracy as sums over examples, so that batches of any size add up to the exact mean."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

Logits = Float[Array | np.ndarray, 'batch classes']
Labels = Int[Array | np.ndarray, ' batch']
# The loss of each example.
Loss = Callable[[Logits, Labels], Float[Array, ' batch']]
Batch = Mapping[str, Any]


def cross_entropy(logits: Logits, labels: Labels) -> Float[Array, ' batch']:
  """The cross-entropy of each example, in nats."""
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def smoothed_cross_entropy(logits: Logits, labels: Labels, *, smoothing: float) -> Float[Array, ' batch']:
  """The cross-entropy against targets of which a share is spread evenly over all classes, in nats.

  Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
  """
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets)


def cross_entropy_with_outliers(logits: Logits, labels: Labels, *, known: Loss) -> Float[Array, ' batch']:
  """The loss where some images are of no class: of such an image every class is equally right.

  Hendrycks, Mazeika and Dietterich 2019, arXiv:1812.04606, who call it outlier exposure: the network learns to be
  unsure of such images.

  Args:
    logits: the logits.
    labels: the labels; `NO_DIGIT`, or any other that is negative, for an image of no class.
    known: the loss of all other images.
  """
  unsure = optax.softmax_cross_entropy(logits, jnp.full_like(logits, 1 / logits.shape[-1]))
  return jnp.where(labels < 0, unsure, known(logits, jnp.maximum(labels, 0)))


def distillation_loss(
  logits: Logits, labels: Labels, teacher_logits: Logits, *, hard: Loss, weight: float, temperature: float
) -> Float[Array, ' batch']:
  """The loss of a student: its distance from a teacher's answers, and a part of the loss by the labels.

  Hinton, Vinyals and Dean 2015, arXiv:1503.02531: cross-entropy against the teacher's probabilities, both at one
  temperature, times its square, so that the gradient does not shrink with it.

  Args:
    logits: the student's logits.
    labels: the labels.
    teacher_logits: the teacher's logits of the same images.
    hard: the loss by the labels.
    weight: share of the teacher, from 0 to 1.
    temperature: what both logits are divided by.
  """
  answers = jax.nn.softmax(teacher_logits / temperature)
  soft = temperature**2 * optax.softmax_cross_entropy(logits / temperature, answers)
  return weight * soft + (1 - weight) * hard(logits, labels)


class Metrics(struct.PyTreeNode):
  """Sums over examples, and the largest gradient norm of the training steps among them.

  Attributes:
    loss: sum of the loss, in nats.
    correct: number of examples that were classified correctly.
    count: number of examples; exact up to 2^24.
    grad_norm: the largest of the merged training steps, NaN if one is; 0 in evaluation.
  """

  loss: Float[Array, '*members']
  correct: Float[Array, '*members']
  count: Float[Array, '*members']
  grad_norm: Float[Array, '*members']

  @classmethod
  def empty(cls) -> 'Metrics':
    """The neutral element of `merge`: four buffers of their own, so that they can be donated."""
    return cls(*(jnp.zeros((), jnp.float32) for _ in range(4)))

  @classmethod
  def from_logits(cls, logits: Logits, batch: Batch, loss: Loss = cross_entropy) -> 'Metrics':
    """Measures one batch, of which the rows with mask 0 are padding; of an image of no class any answer is right."""
    correct = ((jnp.argmax(logits, axis=-1) == batch['label']) | (batch['label'] < 0)).astype(jnp.float32)
    return cls(
      loss=jnp.sum(batch['mask'] * loss(logits, jnp.asarray(batch['label']))),
      correct=jnp.sum(batch['mask'] * correct),
      count=jnp.sum(batch['mask']),
      grad_norm=jnp.zeros((), jnp.float32),
    )

  def merge(self, other: 'Metrics') -> 'Metrics':
    """The metrics of both sets of examples together."""
    return Metrics(
      loss=self.loss + other.loss,
      correct=self.correct + other.correct,
      count=self.count + other.count,
      grad_norm=jnp.maximum(self.grad_norm, other.grad_norm),
    )

  def compute(self) -> dict[str, Any]:
    """Returns the means as Python numbers: accuracy as a fraction, loss in nats, examples. Waits for the device."""
    sums = jax.device_get(self)
    count = max(float(sums.count), 1.0)
    return {'accuracy': float(sums.correct) / count, 'loss': float(sums.loss) / count, 'examples': int(sums.count)}
