"""Model 3 for photographs: distorted images of MNIST, digits in styles that it lacks, and pictures of no digit.

python launch.py --config=configs/cnn_reading.py

Of a picture of no digit it learns to be unsure. Its accuracy has not been measured yet.
"""

import digits


def get_config():
  config = digits.get_config('cnn_augmented')
  config.dataset = 'reading'
  config.epochs = 30
  return config
