"""The activations that a config can name."""

from flax import linen as nn

ACTIVATIONS = {
  'elu': nn.elu,
  'gelu': nn.gelu,
  'relu': nn.relu,
  'sigmoid': nn.sigmoid,
  'silu': nn.silu,
  'tanh': nn.tanh,
}
