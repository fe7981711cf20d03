"""Measures a trained model: python -m digits.commands.evaluate --workdir=runs/cnn [--split=test|valid|train]."""

import json
import sys

from digits.commands import cli


def main():
  """Runs the command."""
  parser = cli.ArgumentParser(prog='python -m digits.commands.evaluate', description=__doc__)
  parser.add_argument('--workdir', required=True, help='the workdir of a run of launch.py')
  parser.add_argument('--split', choices=('train', 'valid', 'test'), default='test', help='default: test')
  parser.add_argument('--json', action='store_true', help='print one JSON document instead of a table')
  args = parser.parse_args()

  from digits import data  # Imported here, so that --help and a wrong flag answer at once.
  from digits import errors
  from digits.runtime import devices
  from digits.train import loop
  from digits.train import runs

  run = runs.load_run(args.workdir)
  devices.check_devices()
  dataset = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation)
  split = getattr(dataset, args.split)
  if not len(split.label):
    raise errors.UsageError(f'--split={args.split} is empty: the run had config.num_validation=0.')
  if not run.finished:
    print(f'The run is not finished; these are the best parameters so far, of step {run.step}.', file=sys.stderr)
  scores = loop.evaluate_split(run.params, split, model=run.model, batch_size=run.config.eval_batch_size)
  if args.json:
    print(json.dumps({'model': run.config.model, 'step': run.step, 'split': args.split} | scores))
  else:
    print(f'{"":16}{"accuracy":>10}{"loss":>10}{"examples":>10}')
    title = f'{run.config.model}, {args.split}'
    print(f'{title:16}{scores["accuracy"]:>10.2%}{scores["loss"]:>10.4f}{scores["examples"]:>10}')


if __name__ == '__main__':
  cli.run(main)
