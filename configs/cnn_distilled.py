"""Model 3, taught by ten networks of its own kind: it learns their mean answer to every distorted image it sees.

python launch.py --config=configs/ensemble.py
python launch.py --config=configs/cnn_distilled.py

Its accuracy has not been measured yet.
"""

import digits


def get_config():
  config = digits.get_config('cnn_augmented')
  config.label_smoothing = 0.0
  config.distill.workdir = 'runs/ensemble'
  return config
