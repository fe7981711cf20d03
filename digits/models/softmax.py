"""Model 1: softmax regression."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from digits.models.dense import Dense


class SoftmaxRegression(nn.Module):
  """One linear layer from pixels to logits: 7,850 parameters on MNIST.

  Attributes:
    num_classes: C.
    dtype: of the computation; parameters are float32.
  """

  num_classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image):
    """Maps images float[B, H, W, 1] to logits float[B, C]."""
    x = image.reshape(image.shape[0], -1)
    return Dense(self.num_classes, self.dtype, name='logits')(x)
