"""Model 1: softmax regression."""

from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from digits.models import layers
from digits.models.dense import Dense
from digits.models.registry import Published, register_model


@register_model('softmax', title='softmax regression', published=Published(accuracy=0.9229, loss=0.2753))
class SoftmaxRegression(nn.Module):
  """One linear layer from pixels to logits: 7,850 parameters on MNIST.

  Attributes:
    num_classes: number of classes C.
    dtype: dtype of the computation; parameters are float32.
  """

  num_classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: Float[Array | np.ndarray, 'batch height width 1']) -> Float[Array, 'batch classes']:
    """Maps images to logits."""
    x = image.reshape(image.shape[0], -1)
    return Dense(self.num_classes, self.dtype, name='logits')(x)

  def layers(self) -> list[layers.Layer]:
    """See `digits.models.layers`."""
    return [layers.Dense('logits')]
