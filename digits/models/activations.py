"""The activations that a config can name, each written once for JAX and once for people who run a model without it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from flax import linen as nn
import jax


class Activation(NamedTuple):
  """An elementwise function.

  Attributes:
    function: the JAX function.
    is_increasing: whether it never falls. Such a function commutes with a max-pool.
    numpy: the same function as a NumPy expression of `x`, for people who load only the parameters.
  """

  function: Callable[[jax.Array], jax.Array]
  is_increasing: bool
  numpy: str


# `gelu` is the tanh approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415), as in `nn.gelu`.
ACTIVATIONS = {
  'elu': Activation(nn.elu, True, 'np.where(x > 0, x, np.expm1(np.minimum(x, 0)))'),
  'gelu': Activation(nn.gelu, False, 'x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))'),
  'identity': Activation(lambda x: x, True, 'x'),
  'relu': Activation(nn.relu, True, 'np.maximum(x, 0)'),
  'sigmoid': Activation(nn.sigmoid, True, '1 / (1 + np.exp(-x))'),
  'silu': Activation(nn.silu, False, 'x / (1 + np.exp(-x))'),
  'tanh': Activation(nn.tanh, True, 'np.tanh(x)'),
}
ActivationName = Literal['elu', 'gelu', 'identity', 'relu', 'sigmoid', 'silu', 'tanh']
