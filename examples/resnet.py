"""A fourth model, from outside the package: a small residual network with batch normalization and dropout.

python launch.py --config=examples/resnet.py
python -m digits predict --workdir=runs/resnet --import=examples/resnet.py photo.png

It trains with Adam, random shifts, label smoothing and averaged weights. Nothing in `digits/` knows of it.
"""

from flax import linen as nn
import ml_collections

import digits


class Block(nn.Module):
  """Two convolutions, each normalized over the batch, beside an identity."""

  features: int

  @nn.compact
  def __call__(self, x, train):
    y = x
    for _ in range(2):
      y = nn.Conv(self.features, (3, 3), use_bias=False)(nn.silu(y))
      y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
    return x + y


@digits.register_model('resnet', title='residual network')
class ResNet(nn.Module):
  """Halves the image before every block but the first."""

  widths: tuple[int, ...] = (16, 32)
  dropout: float = 0.1
  num_classes: int = 10

  @nn.compact
  def __call__(self, image, train=False):
    x = image
    for i, features in enumerate(self.widths):
      x = nn.Conv(features, (3, 3), strides=2 if i else 1)(x)
      x = Block(features)(x, train)
    x = nn.silu(x).mean(axis=(1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_classes)(x)


def get_config():
  config = digits.get_config('cnn')
  config.model = 'resnet'
  config.architecture = ml_collections.ConfigDict({'widths': (16, 32), 'dropout': 0.1})
  config.optimizer = ml_collections.ConfigDict({'name': 'adam', 'b2': 0.99})
  config.learning_rate = 3e-3
  config.momentum = 0.0
  config.nesterov = False
  config.label_smoothing = 0.05
  config.augment = ml_collections.ConfigDict({'name': 'random_shift', 'max_pixels': 2})
  config.ema_decay = 0.99
  return config
