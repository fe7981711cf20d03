"""Ten networks of one recipe, and the mean of their probabilities.

python launch.py --config=configs/ensemble.py

The networks of a comparison that is finished: --config.trained_in=runs/compare
"""

import ml_collections

import digits


def get_config():
  config = digits.get_config('compare')
  config.experiment = 'ensemble'
  config.recipes = ml_collections.ConfigDict({'record': digits.get_config('cnn_record')}, sort_keys=False)
  config.trained_in = ''
  config.num_seeds = 10
  return config
