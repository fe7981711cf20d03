"""Model 3, trained for longer on distorted images.

python launch.py --config=configs/cnn_record.py

Its accuracy has not been measured yet.
"""

import digits


def get_config():
  config = digits.get_config('cnn_augmented')
  config.epochs = 90
  config.select = 'last'
  return config
