"""Model 3: a convolutional network."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from digits.models.activations import ACTIVATIONS
from digits.models.convolution import conv_pool
from digits.models.dense import Dense


class ConvPool(nn.Module):
  """A convolution that keeps height and width, and a 2x2 max-pool; parameters as those of `nn.Conv`.

  Attributes:
    features: channels out.
    kernel_size: side of the kernel.
    convolution: how it is computed, one of `convolution.METHODS`; the result is the same to rounding.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: int
  convolution: str
  dtype: Any

  @nn.compact
  def __call__(self, x):
    """Maps float[B, H, W, C] to float[B, H // 2, W // 2, features]."""
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, self.features)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return conv_pool(x, kernel, self.convolution) + bias


class CNN(nn.Module):
  """Convolutions, each with a 2x2 max-pool, and one hidden layer: 123,222 parameters on MNIST with its defaults.

  Attributes:
    features: channels of each convolution.
    kernel_size: side of the convolutions' kernels; they are padded to keep height and width.
    conv_activation: of the convolutions, a key of `ACTIVATIONS`.
    hidden_units: width of the hidden layer.
    hidden_activation: of the hidden layer.
    convolution: how convolutions are computed, see `ConvPool`.
    num_classes: C.
    dtype: of the computation; parameters are float32.
  """

  features: Sequence[int] = (16, 32, 64)
  kernel_size: int = 5
  conv_activation: str = 'relu'
  hidden_units: int = 100
  hidden_activation: str = 'sigmoid'
  convolution: str = 'auto'
  num_classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image):
    """Maps images float[B, H, W, 1] to logits float[B, C]."""
    x = image
    for i, features in enumerate(self.features):
      x = ConvPool(features, self.kernel_size, self.convolution, self.dtype, name=f'conv{i + 1}')(x)
      # After the pool and not before: the same values, as every activation is increasing, at a quarter of the cost.
      x = ACTIVATIONS[self.conv_activation](x)
      self.sow('intermediates', f'conv{i + 1}_active', x)
    x = x.reshape(x.shape[0], -1)
    x = Dense(self.hidden_units, self.dtype, name='hidden')(x)
    x = ACTIVATIONS[self.hidden_activation](x)
    self.sow('intermediates', 'hidden_active', x)
    return Dense(self.num_classes, self.dtype, name='logits')(x)
