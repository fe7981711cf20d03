"""How strongly to bend and to thicken the digits: chosen on the validation split.

python launch.py --config=configs/sweep_augmentation.py
"""

import ml_collections

import digits


def get_config():
  config = digits.get_config('sweep')
  config.recipe = digits.get_config('cnn_augmented')
  config.recipe.epochs = 12
  config.search = ml_collections.ConfigDict()
  config.search.augment = ml_collections.ConfigDict({'elastic': (0.5, 0.8), 'thickness': (0.0, 0.5)})
  config.num_validation = 10_000
  return config
