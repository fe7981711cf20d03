"""Runs the experiment that a config file describes, or continues it.

Example: digits train --config=cnn --config.epochs=3
"""

import argparse
from collections.abc import Sequence
import difflib
import json
import pathlib
import re
from typing import Any

from digits import errors
from digits.commands import cli


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments; `overrides` are those that change fields of the config."""
  parser = cli.make_parser(
    'train', __doc__, workdir='where the run keeps its files; default: runs/NAME of the config', required=False
  )
  parser.add_argument('--config', metavar='FILE', help='a config file, or the name of one that is shipped, such as cnn')
  parser.add_argument('--config.FIELD', metavar='VALUE', dest='field', help='change a field of the config')
  parser.add_argument('--coordinator', metavar='HOST:PORT', help='address of process 0, if several train one model')
  parser.add_argument('--num_processes', type=int, metavar='N', help='how many processes train together')
  parser.add_argument('--process_id', type=int, metavar='I', help='which of them this is, from 0')
  args, overrides = parser.parse_known_args(argv)
  args.overrides = overrides
  if args.field is not None:
    raise errors.UsageError('--config.FIELD stands for a field of the config, as in --config.epochs=1.')
  if args.overrides and not args.overrides[0].startswith('-'):
    raise errors.UsageError(_stray(args.overrides[0]))
  if args.config is None:
    raise errors.UsageError('--config is missing: give it as --config=cnn.')
  if args.workdir is None:
    args.workdir = f'runs/{pathlib.Path(args.config).stem}'
  if not args.workdir:
    raise errors.UsageError('--workdir is empty: name a directory.')
  return args


def run(args: argparse.Namespace) -> None:
  """Runs the experiment and prints its results."""
  values = read_config(args.config, args.overrides)

  from digits import config as config_lib
  from digits import experiments
  from digits.runtime import distributed

  config = config_lib.from_dict(values)
  with distributed.session(args.coordinator, args.num_processes, args.process_id) as joined:
    if joined and config.experiment != 'train':
      raise errors.UsageError(
        f'config.experiment={config.experiment} runs in one process, which spreads its runs over all devices: '
        'leave --coordinator, --num_processes and --process_id out.'
      )
    results = experiments.run(config, args.workdir)
    if distributed.is_main():
      print(json.dumps(results) if args.json else experiments.format_results(results, args.workdir))


def read_config(path: str, overrides: Sequence[str]) -> dict[str, Any]:
  """Loads a config file and changes some of its fields; it is not checked yet.

  Args:
    path: as in `config.get_config`.
    overrides: arguments of the form `--config.FIELD=VALUE`.

  Raises:
    UsageError: the file cannot be loaded, or an override is not one, has a wrong type, or names an unknown field.
  """
  from absl import flags
  from ml_collections import config_flags

  from digits import config as config_lib

  values, flag_values = config_lib.get_config(path), flags.FlagValues()
  for name in re.findall(r'^--?(?:no)?config\.([^=\n]*)', '\n'.join(overrides), re.MULTILINE):
    _check_field(path, values, name)
  argv = ['train', *overrides]
  try:
    config_flags.DEFINE_config_dict('config', values, flag_values=flag_values, sys_argv=argv)
    stray = flag_values(argv)[1:]
  except flags.Error as error:
    text = ' '.join(str(error).split()).rstrip(' .')
    raise errors.UsageError(f'{text[:1].upper()}{text[1:]}; see --help.') from error
  if stray:
    raise errors.UsageError(_stray(stray[0]))
  return values.to_dict()


def _check_field(path: str, values: Any, name: str) -> None:
  """Raises UsageError unless a config has a field such as `mesh.data`."""
  for part in name.split('.'):
    fields = list(values) if hasattr(values, 'items') else []
    if part not in fields:
      similar = difflib.get_close_matches(part, fields, 1)
      raise errors.UsageError(
        f'config.{name} is not in the config file {path}: '
        + (
          f'did you mean {similar[0]}?' if similar else 'an option can only change fields of the file, so add it there.'
        )
      )
    values = values[part]


def _stray(word: str) -> str:
  return f'{word!r} is not a flag: options start with --, as in --config.epochs=1.'
