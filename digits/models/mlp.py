"""Model 2: a multi-layer perceptron with one hidden layer."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from digits.models.activations import ACTIVATIONS
from digits.models.dense import Dense


class MLP(nn.Module):
  """One hidden layer: 79,510 parameters on MNIST with its default of 100 sigmoid units.

  Attributes:
    hidden_units: width of the hidden layer.
    activation: of the hidden layer, a key of `ACTIVATIONS`.
    num_classes: C.
    dtype: of the computation; parameters are float32.
  """

  hidden_units: int = 100
  activation: str = 'sigmoid'
  num_classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image):
    """Maps images float[B, H, W, 1] to logits float[B, C]."""
    x = image.reshape(image.shape[0], -1)
    x = Dense(self.hidden_units, self.dtype, name='hidden')(x)
    x = ACTIVATIONS[self.activation](x)
    self.sow('intermediates', 'hidden_active', x)
    return Dense(self.num_classes, self.dtype, name='logits')(x)
