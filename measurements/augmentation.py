"""Measures what augmentation costs: python -m measurements.augmentation [--config=cnn_augmented] [--rounds=9].

Trains on a part of an epoch with and without the augmentation of a config, in turn, and prints the time per step of
each and the median of their ratio. The machine should be quiet.
"""

import argparse
import statistics
import time

import jax

from digits import config as config_lib
from digits import data
from digits.commands import cli
from digits.runtime import devices
from digits.train import compiled, recipe

_NUM_STEPS = 100


def start(config, dataset):
  """Compiles training in memory, as `loop.train` does."""
  made = recipe.make_recipe(config, num_steps=1000)
  mesh = compiled.make_mesh(made.model, config.batch_size)
  carry = devices.replicate(jax.jit(lambda: compiled.init_carry(made))(), mesh)
  return compiled.InMemory(config, dataset.train, carry, mesh, made)


def measure(training):
  """Seconds of a step."""
  began = time.perf_counter()
  training.advance(0, _NUM_STEPS)
  training.metrics()
  return (time.perf_counter() - began) / _NUM_STEPS


def main():
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m measurements.augmentation', description=__doc__)
  parser.add_argument('--config', default='cnn_augmented')
  parser.add_argument('--rounds', type=int, default=9)
  args = parser.parse_args()
  devices.use_all_cores()
  config = config_lib.load_config(args.config)
  dataset = data.load_dataset(config.dataset, config.data_dir, config.num_validation)
  plain = config_lib.load_config(args.config, augment={'name': 'none'})
  with_it, without = start(config, dataset), start(plain, dataset)
  ratios = []
  for number in range(args.rounds + 1):
    seconds = [measure(training) for training in (with_it, without)]
    if number:  # The first round warms up.
      ratios.append(seconds[0] / seconds[1])
      print(f'{1000 * seconds[0]:.2f} ms with augmentation, {1000 * seconds[1]:.2f} ms without', flush=True)
  print(f'ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}')


if __name__ == '__main__':
  cli.run(main)
