"""The activations that a config can name. All are increasing functions, so that they commute with a max-pool."""

from flax import linen as nn

ACTIVATIONS = {'elu': nn.elu, 'relu': nn.relu, 'sigmoid': nn.sigmoid, 'tanh': nn.tanh}
