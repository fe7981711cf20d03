"""Puts together what several experiments reached: python -m measurements.record NAME=PATH [NAME=PATH ...] --json=FILE.

A PATH is the workdir of a run, of a comparison or of an ensemble, or a file that `digits export --format=safetensors`
wrote; all networks of one NAME are its seeds. What is written has the form of an ensemble's results.json. Every network
is measured anew, and must score on the test split what it scored when it was trained.
"""

import argparse
import pathlib
import sys

import numpy as np

from digits import data, errors
from digits.commands import cli
from digits.experiments import compare
from digits.report import ensembles, summary
from digits.runtime import devices, sealed_json
from digits.store import results
from digits.train import runs


def load_networks(path):
  """The single networks of a path."""
  path = pathlib.Path(path)
  members = {} if path.is_file() else runs.find_members(path)
  if members:
    return [runs.load_run(one) for directories in members.values() for one in directories if results.read_results(one)]
  run = runs.load_run(path)
  return list(run.members) or [run]


def measure(named):
  """Measures networks by name of their recipe.

  Args:
    named: a list of runs by name.

  Returns:
    What an ensemble's results.json holds, but for `test` and `valid` of the ensemble that answers.

  Raises:
    DigitsError: a network does not score what its results say.
  """
  first = next(iter(named.values()))[0].config
  dataset = data.load_dataset(first.dataset, first.data_dir, first.num_validation)
  models = {}
  for name, networks in named.items():
    print(f'{name}: {len(networks)} networks', file=sys.stderr, flush=True)
    models[name] = compare.measure_runs(networks, dataset)
  comparison = summary.Comparison(models, dataset.test, dataset.valid)
  measured = summary.summarize(comparison)
  for name, networks in named.items():
    scored = [network.results['test']['accuracy'] for network in networks]
    # An image or two may change sides where another machine rounds differently.
    if np.abs(np.array(scored) - measured['models'][name]['test']['accuracy']['per_seed']).max() > 2.5e-4:
      raise errors.DigitsError(f'{name} scores differently than when it was trained: {scored}.')
  return measured | {'experiment': 'ensemble', 'ensembles': ensembles.measure(comparison)}


def main(argv=None):
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('networks', nargs='+', metavar='NAME=PATH')
  parser.add_argument('--json', required=True, type=pathlib.Path, metavar='FILE')
  args = parser.parse_args(argv)
  named = {}
  for word in args.networks:
    name, _, path = word.partition('=')
    if not name or not path:
      raise errors.UsageError(f'{word} is not NAME=PATH, such as record=runs/record.')
    named.setdefault(name, []).extend(load_networks(path))
  content = measure(named) | {'device': devices.device_name(), 'versions': results.versions()}
  sealed_json.write(args.json, content)


if __name__ == '__main__':
  cli.run(main)
