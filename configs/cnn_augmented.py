"""Model 3 on distorted images: the layers of `cnn.py`, each image changed anew in every epoch.

python launch.py --config=configs/cnn_augmented.py

Seed 0: test accuracy 99.67%, test loss 0.0548, 408 s on 2 CPU cores (jax 0.10.2), where cnn.py took 50 s.
Ten seeds: 99.64 %.
"""

import ml_collections

import digits


def get_config():
  config = digits.get_config('cnn')
  config.epochs = 36
  config.label_smoothing = 0.05
  config.augment = ml_collections.ConfigDict(
    {
      'name': 'distort',
      'rotation': 10.0,
      'scale': 0.1,
      'shear': 0.15,
      'shift': 2.0,
      'elastic': 0.5,
      'grid': 5,
      'thickness': 0.5,
      'erase_side': 0,
      'erase_probability': 1.0,
    }
  )
  return config
