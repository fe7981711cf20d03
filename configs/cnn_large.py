"""A wider model 3 on distorted images.

python launch.py --config=configs/cnn_large.py

Its accuracy has not been measured yet.
"""

import digits


def get_config():
  config = digits.get_config('cnn_augmented')
  config.architecture.features = (32, 64, 128)
  config.architecture.hidden_units = 256
  config.epochs = 40
  config.select = 'last'
  return config
