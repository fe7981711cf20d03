"""Model 3, trained for longer on distorted images.

python launch.py --config=configs/cnn_record.py

Two seeds: test accuracy 99.62% and 99.69%, so far no better than the 36 epochs of cnn_augmented.py.
"""

import digits


def get_config():
  config = digits.get_config('cnn_augmented')
  config.epochs = 90
  config.select = 'last'
  return config
