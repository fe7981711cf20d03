"""What each ingredient of `cnn_augmented.py` is worth, alone and left out, and what it is worth to each model.

python launch.py --config=configs/ablation.py

20 recipes of five seeds: about 4 hours on 2 CPU cores, by the time of an epoch; not run yet.
"""

import ml_collections

import digits

_EPOCHS = 20
# A field of the recipe, or of its augmentation, and its value where the ingredient is left out.
_INGREDIENTS = {
  'affine': {'augment': {'rotation': 0.0, 'scale': 0.0, 'shear': 0.0, 'shift': 0.0}},
  'elastic': {'augment': {'elastic': 0.0}},
  'thickness': {'augment': {'thickness': 0.0}},
  'smoothing': {'label_smoothing': 0.0},
}
# What the recipe lacks.
_EXTRAS = {
  'erasing': {'augment': {'erase_side': 8}},
  'averaging': {'ema_decay': 0.998},
}


def _recipe(model, *changes, epochs=_EPOCHS):
  """The recipe of a model with the augmentation and the smoothing of `cnn_augmented`, changed."""
  augmented = digits.get_config('cnn_augmented')
  recipe = digits.get_config(model)
  recipe.epochs = epochs
  recipe.augment = augmented.augment
  recipe.label_smoothing = augmented.label_smoothing
  for change in changes:
    recipe.update(change)
  return recipe


def get_config():
  config = digits.get_config('compare')
  recipes = {'everything': _recipe('cnn'), 'nothing': _recipe('cnn', *_INGREDIENTS.values())}
  for name, left_out in _INGREDIENTS.items():
    recipes[f'without_{name}'] = _recipe('cnn', left_out)
    recipes[f'only_{name}'] = _recipe('cnn', *(change for other, change in _INGREDIENTS.items() if other != name))
  for name, added in _EXTRAS.items():
    recipes[f'with_{name}'] = _recipe('cnn', added)
    recipes[f'only_{name}'] = _recipe('cnn', *_INGREDIENTS.values(), added)
  recipes['half_as_long'] = _recipe('cnn', epochs=_EPOCHS // 2)
  recipes['twice_as_long'] = _recipe('cnn', epochs=2 * _EPOCHS)
  for model in ('mlp', 'softmax'):
    recipes[model] = _recipe(model, *_INGREDIENTS.values())
    recipes[f'{model}_augmented'] = _recipe(model)
  config.recipes = ml_collections.ConfigDict(recipes, sort_keys=False)
  config.num_seeds = 5
  return config
