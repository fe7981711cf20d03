"""Measures a trained model on a split of its dataset.

Example: digits evaluate --workdir=runs/cnn --split=valid
"""

import argparse
from collections.abc import Sequence
import json
import sys

from digits import errors
from digits.commands import cli


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments."""
  parser = cli.make_parser('evaluate', __doc__, workdir='directory of a training run')
  parser.add_argument('--split', choices=('train', 'valid', 'test'), default='test', help='default: test')
  return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
  """Prints accuracy, loss and number of examples."""
  from digits import data
  from digits.train import evaluate, runs

  run = runs.load_run(args.workdir)
  dataset = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation)
  split = getattr(dataset, args.split)
  if not len(split.label):
    raise errors.UsageError(f'--split={args.split} is empty: the run had config.num_validation=0.')
  if not run.finished:
    print(f'The run is not finished; these are the best parameters so far, from step {run.step}.', file=sys.stderr)
  scores = evaluate.evaluate_split(run.variables, split, model=run.model, batch_size=run.config.eval_batch_size)
  if args.json:
    print(json.dumps({'model': run.name, 'step': run.step, 'split': args.split} | scores))
  else:
    print(f'{"":16}{"accuracy":>10}{"loss":>10}{"examples":>10}')
    title = f'{run.name}, {args.split}'
    print(f'{title:16}{scores["accuracy"]:>10.2%}{scores["loss"]:>10.4f}{scores["examples"]:>10}')
