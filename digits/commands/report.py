"""Lists all results in a folder on one page, DIR/index.html, with links to the reports of single experiments.

Example: digits report --workdir=runs

Where DIR is itself a finished experiment that has a report, this is written again too, from the runs that are there.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib

from digits import errors
from digits.commands import cli


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments."""
  return cli.make_parser('report', __doc__, workdir='a folder that holds results, at any depth').parse_args(argv)


def run(args: argparse.Namespace) -> None:
  """Writes the page, and prints a line for each experiment."""
  from digits.experiments import collect, runner
  from digits.report import index

  workdir = pathlib.Path(args.workdir)
  failure = None
  try:
    runner.write_page(workdir)
  except errors.DigitsError as error:
    failure = error
  entries = collect.collect(workdir)
  path = index.write_index(entries, workdir)
  if args.json:
    print(json.dumps({'index': str(path), 'experiments': [entry._asdict() for entry in entries]}))
  else:
    for entry in entries:
      print(f'{entry.workdir}: {"" if entry.state == "finished" else f"{entry.state}. "}{entry.headline}')
    print(f'The page is {path}.')
  # The page says what is damaged; anything else keeps the report from being what it should be.
  if failure is not None and not isinstance(failure, errors.DamagedError):
    raise failure
