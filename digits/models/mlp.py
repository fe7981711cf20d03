"""Model 2: a multi-layer perceptron with one hidden layer."""

from typing import Annotated, Any

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from digits import schema
from digits.models import layers
from digits.models.activations import ActivationName, ACTIVATIONS
from digits.models.dense import Dense
from digits.models.registry import Published, register_model


@register_model('mlp', title='one hidden layer', published=Published(accuracy=0.9497, loss=0.1791))
class MLP(nn.Module):
  """One hidden layer: 79,510 parameters on MNIST with its default of 100 sigmoid units.

  Attributes:
    hidden_units: width of the hidden layer.
    activation: activation of the hidden layer.
    num_classes: number of classes C.
    dtype: dtype of the computation; parameters are float32.
  """

  hidden_units: Annotated[int, schema.Range(1, 4096)] = 100
  activation: ActivationName = 'sigmoid'
  num_classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: Float[Array | np.ndarray, 'batch height width 1']) -> Float[Array, 'batch classes']:
    """Maps images to logits."""
    x = image.reshape(image.shape[0], -1)
    x = Dense(self.hidden_units, self.dtype, name='hidden')(x)
    x = ACTIVATIONS[self.activation].function(x)
    self.sow('intermediates', 'hidden_active', x)
    return Dense(self.num_classes, self.dtype, name='logits')(x)

  def layers(self) -> list[layers.Layer]:
    """See `digits.models.layers`."""
    return [layers.Dense('hidden'), layers.Nonlinearity(self.activation, of='hidden'), layers.Dense('logits')]
