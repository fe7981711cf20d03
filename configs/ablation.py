"""What each ingredient of `cnn_augmented.py` is worth, alone and left out, and what it is worth to each model.

python launch.py --config=configs/ablation.py

20 recipes of five seeds: 6 min on an H100 GPU, ten processes at a time (jax 0.11.2); about 4 hours on 2 CPU cores, by
the time of an epoch. The ingredients gain 0.23 points of test accuracy together; affine changes alone 0.16, elastic
ones 0.14.
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
  config.experiment = 'ablation'
  recipes = {'everything': _recipe('cnn'), 'nothing': _recipe('cnn', *_INGREDIENTS.values())}
  effects = [('nothing', 'everything')]
  for name, left_out in _INGREDIENTS.items():
    recipes[f'without_{name}'] = _recipe('cnn', left_out)
    recipes[f'only_{name}'] = _recipe('cnn', *(change for other, change in _INGREDIENTS.items() if other != name))
    effects += [('nothing', f'only_{name}'), (f'without_{name}', 'everything')]
  for name, added in _EXTRAS.items():
    recipes[f'with_{name}'] = _recipe('cnn', added)
    recipes[f'only_{name}'] = _recipe('cnn', *_INGREDIENTS.values(), added)
    effects += [('nothing', f'only_{name}'), ('everything', f'with_{name}')]
  recipes['half_as_long'] = _recipe('cnn', epochs=_EPOCHS // 2)
  recipes['twice_as_long'] = _recipe('cnn', epochs=2 * _EPOCHS)
  effects += [('half_as_long', 'everything'), ('everything', 'twice_as_long')]
  for model in ('mlp', 'softmax'):
    recipes[model] = _recipe(model, *_INGREDIENTS.values())
    recipes[f'{model}_augmented'] = _recipe(model)
    effects.append((model, f'{model}_augmented'))
  config.recipes = ml_collections.ConfigDict(recipes, sort_keys=False)
  config.effects = tuple(effects)
  config.num_seeds = 5
  return config
