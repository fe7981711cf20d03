"""Model 3, trained for longer on stronger distortions: the best that is known of its 123,222 parameters.

python launch.py --config=configs/cnn_record.py
"""

import digits


def get_config():
  config = digits.get_config('cnn_augmented')
  config.epochs = 90
  return config
