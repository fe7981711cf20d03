"""Model 3: a convolutional network."""

from typing import Annotated, Any, Literal

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from digits import schema
from digits.models import layers
from digits.models.activations import ActivationName, ACTIVATIONS
from digits.models.convolution import conv_pool
from digits.models.dense import Dense
from digits.models.registry import Published, register_model

_Width = Annotated[int, schema.Range(1, 4096)]


class ConvPool(nn.Module):
  """A convolution that keeps height and width, an activation, and a 2x2 max-pool; parameters as those of `nn.Conv`.

  Attributes:
    features: channels out.
    kernel_size: side of the kernel.
    activation: activation between convolution and pool.
    convolution: how the convolution is computed, see `conv_pool`; the result is the same up to rounding.
    dtype: dtype of the computation; parameters are float32.
  """

  features: int
  kernel_size: int
  activation: ActivationName
  convolution: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array | np.ndarray, 'batch height width channels']) -> Float[Array, 'batch h w features']:
    """Maps images to feature maps of half the height and width."""
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, self.features)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    activation = ACTIVATIONS[self.activation]
    if activation.is_increasing:  # Then it commutes with the maximum, and costs a quarter after it.
      return activation.function(conv_pool(x, kernel, self.convolution) + bias)

    def activate(y, axis):
      return activation.function(y + bias.reshape(-1, *[1] * (y.ndim - axis - 1)))

    return conv_pool(x, kernel, self.convolution, between=activate)


@register_model('cnn', title='convolutional network', published=Published(accuracy=0.9899, loss=0.0296))
class CNN(nn.Module):
  """Convolutions, each with a 2x2 max-pool, and one hidden layer: 123,222 parameters on MNIST with its defaults.

  Attributes:
    features: channels of each convolution.
    kernel_size: side of the convolutions' kernels, which are padded to keep height and width.
    conv_activation: activation of the convolutions.
    hidden_units: width of the hidden layer.
    hidden_activation: activation of the hidden layer.
    convolution: how convolutions are computed, see `ConvPool`.
    num_classes: number of classes C.
    dtype: dtype of the computation; parameters are float32.
  """

  features: Annotated[tuple[_Width, ...], schema.Range(1, 4)] = (16, 32, 64)
  kernel_size: Annotated[int, schema.Range(1, 28)] = 5  # A kernel that is larger than the image sees nothing more.
  conv_activation: ActivationName = 'relu'
  hidden_units: _Width = 100
  hidden_activation: ActivationName = 'sigmoid'
  convolution: Literal['auto', 'lax', 'matmul'] = 'auto'
  num_classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: Float[Array | np.ndarray, 'batch height width 1']) -> Float[Array, 'batch classes']:
    """Maps images to logits."""
    x = image
    for i, features in enumerate(self.features, 1):
      block = ConvPool(features, self.kernel_size, self.conv_activation, self.convolution, self.dtype, name=f'conv{i}')
      x = block(x)
      self.sow('intermediates', f'conv{i}_active', x)
    x = x.reshape(x.shape[0], -1)
    x = Dense(self.hidden_units, self.dtype, name='hidden')(x)
    x = ACTIVATIONS[self.hidden_activation].function(x)
    self.sow('intermediates', 'hidden_active', x)
    return Dense(self.num_classes, self.dtype, name='logits')(x)

  def layers(self) -> list[layers.Layer]:
    """See `digits.models.layers`."""
    blocks: list[layers.Layer] = []
    for i in range(1, len(self.features) + 1):
      name = f'conv{i}'
      blocks += [layers.Convolution(name), layers.Nonlinearity(self.conv_activation, of=name), layers.MaxPool()]
    hidden = layers.Nonlinearity(self.hidden_activation, of='hidden')
    return [*blocks, layers.Dense('hidden'), hidden, layers.Dense('logits')]

  def portable(self) -> 'CNN':
    """The same function in float32, with convolutions that every device has."""
    return self.clone(dtype=jnp.float32, convolution='lax')
