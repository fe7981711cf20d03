"""A grid of learning rates and weight decays for the MLP, chosen on the validation split.

python launch.py --config=configs/sweep.py

1 minute on 2 CPU cores (jax 0.10.2). Best: learning rate 1.5, weight decay 5e-05, validation loss 0.0545.
"""

import ml_collections

import digits


def get_config():
  config = ml_collections.ConfigDict()
  config.experiment = 'sweep'
  config.recipe = digits.get_config('mlp')
  config.search = ml_collections.ConfigDict()
  config.search.learning_rate = (0.5, 1.0, 1.5, 2.0)
  config.search.weight_decay = (2e-5, 5e-5, 1e-4)
  config.method = 'grid'
  config.num_trials = 20
  config.scale = 'log'
  config.metric = 'loss'
  config.num_seeds = 2
  config.seed = 100
  config.dataset = 'mnist'
  config.data_dir = ''
  config.num_validation = 5000
  config.population = 'auto'
  config.mesh = ml_collections.ConfigDict({'seeds': 0})
  return config
