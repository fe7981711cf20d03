"""Models of a user's own."""

from flax import linen as nn
import jax
import numpy as np

import digits
from digits.models import ACTIVATIONS, layers
from digits.models.dense import Dense


class _Block(nn.Module):
  features: int

  @nn.compact
  def __call__(self, x, train):
    y = nn.Conv(self.features, (3, 3), use_bias=False, name='conv')(x)
    y = nn.BatchNorm(use_running_average=not train, name='norm')(y)
    return nn.silu(x + y)


class OwnResNet(nn.Module):
  """Nested modules, batch statistics and dropout; it says nothing of its layers."""

  features: int = 3
  num_classes: int = 10

  @nn.compact
  def __call__(self, image, train=False):
    x = nn.Conv(self.features, (5, 5), strides=4, name='stem')(image)
    x = _Block(self.features, name='block')(x, train)
    x = nn.Dropout(0.1, deterministic=not train)(x.reshape(x.shape[0], -1))
    return nn.Dense(self.num_classes, name='head')(x)


class OwnDescribed(nn.Module):
  """Layers in an order of their own, which it describes but does not sow."""

  inner: str = 'gelu'
  outer: str = 'silu'
  num_classes: int = 10

  @nn.compact
  def __call__(self, image):
    x = nn.Conv(3, (3, 3), name='first')(image)
    x = ACTIVATIONS[self.inner].function(x)
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.Conv(4, (5, 5), name='second')(x)
    x = nn.max_pool(x, (2, 2), (2, 2))  # 7 rows become 3.
    x = ACTIVATIONS[self.outer].function(x)
    x = Dense(6, None, name='third')(x.reshape(x.shape[0], -1))
    x = ACTIVATIONS[self.inner].function(x)
    return ACTIVATIONS['identity'].function(Dense(self.num_classes, None, name='last')(x))

  def layers(self):
    return [
      layers.Convolution('first'),
      layers.Nonlinearity(self.inner, of='first'),
      layers.MaxPool(),
      layers.MaxPool(),
      layers.Convolution('second'),
      layers.MaxPool(),
      layers.Nonlinearity(self.outer, of='second'),
      layers.Dense('third'),
      layers.Nonlinearity(self.inner, of='third'),
      layers.Dense('last'),
      layers.Nonlinearity('identity', of='last'),
    ]


def register():
  """Makes them known. Not at import: other tests are written for every model that is known when they are collected."""
  digits.register_model('own_resnet')(OwnResNet)
  digits.register_model('own_described', title='layers of my own')(OwnDescribed)


def random_variables(model):
  """Variables of a model that were never trained, biases and statistics included, with outputs of the order of 1."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1].key in ('mean', 'var', 'scale'):
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    # A dense kernel of this package is [outputs, inputs]; others have their outputs last.
    inputs = leaf.shape[-1] if leaf.ndim == 2 and leaf.shape[0] < leaf.shape[1] else leaf.size / leaf.shape[-1]
    return rng.standard_normal(leaf.shape, np.float32) / np.float32(np.sqrt(inputs + 1))

  return jax.tree_util.tree_map_with_path(draw, shapes)
