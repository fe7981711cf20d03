"""Finds the experiments in a folder, finished or not, and says of each in a few words what it is and what came out."""

from collections.abc import Iterator, Mapping
import itertools
import os
import pathlib
import re
from typing import Any
import urllib.parse

from digits import config as config_lib
from digits import errors
from digits.experiments import runner
from digits.report.index import Entry
from digits.runtime import files
from digits.store import workdir as workdir_lib
from digits.store.results import read_results

_MAX_NAMES = 6


def collect(directory: pathlib.Path) -> list[Entry]:
  """Describes a directory's own experiment and those below it, by kind and then by name.

  The runs that an experiment of many trained, at RECIPE/seed-N, are left out.

  Raises:
    UsageError: there is no such directory, or no experiment in it.
  """
  if not directory.is_dir():
    raise errors.UsageError(f'{directory} is not a directory: name one that holds results.')
  entries = [_describe(workdir, directory) for workdir in _find_workdirs(directory)]
  if not entries:
    raise errors.UsageError(f'There are no results in {directory}: name the directory of an experiment, or one above.')
  kinds = [*config_lib.CONFIGS, None]
  return sorted(entries, key=lambda entry: (kinds.index(entry.experiment), entry.workdir))


def _find_workdirs(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  found = set()
  for name, below, names in os.walk(directory):
    folder = pathlib.Path(name)
    if not {'config.json', 'results.json'}.isdisjoint(names):
      found.add(folder)
      yield folder
    is_recipe = folder != directory and folder.parent in found
    below[:] = [one for one in below if one != 'checkpoints' and not (is_recipe and re.fullmatch(r'seed-\d+', one))]


def _describe(workdir: pathlib.Path, directory: pathlib.Path) -> Entry:
  saved, results, problem = None, None, None
  try:
    with files.describe_os_errors(workdir):
      saved = workdir_lib.read_config(workdir)
      results = read_results(workdir)
  except errors.DigitsError as error:
    problem = str(error)
  saved = saved or {}
  kind = saved.get('experiment')
  subject, headline, seconds = '', 'The command that began it continues it.', None
  if kind in config_lib.CONFIGS:
    try:
      subject = _say_subject(saved)
      if results is not None:
        headline, seconds = runner.headline(results), _count_seconds(results)
    except (AttributeError, IndexError, KeyError, TypeError):
      problem = 'Its config.json or its results.json does not hold what this version writes.'
  elif problem is None:
    problem = f'This version knows no experiment {kind!r}.' if saved else 'Its config.json is missing.'
  page = workdir / 'report.html'
  return Entry(
    workdir=str(workdir.relative_to(directory)) if workdir != directory else directory.resolve().name,
    experiment=kind if kind in config_lib.CONFIGS else None,
    subject=subject,
    state='damaged' if problem else 'unfinished' if results is None else 'finished',
    headline=problem or headline,
    num_seeds=1 if kind == 'train' else (results or saved).get('num_seeds'),
    seconds=seconds,
    report=urllib.parse.quote(page.relative_to(directory).as_posix()) if page.is_file() else None,
  )


def _say_subject(saved: Mapping[str, Any]) -> str:
  """What an experiment is about, by its config."""
  if saved.get('trained_in'):
    return f'the networks of {saved["trained_in"]}'
  if 'recipes' in saved:
    names = list(saved['recipes'])
    return ', '.join(names) if len(names) <= _MAX_NAMES else f'{len(names)} recipes'
  if 'recipe' in saved:
    return f'{saved["recipe"]["model"]}, by {", ".join(config_lib.flatten(saved["search"]))}'
  return saved['model']


def _count_seconds(results: Mapping[str, Any]) -> float | None:
  """Seconds of all runs together, where the results say so."""
  if 'models' in results:
    totals = [model['seconds']['total'] for model in results['models'].values()]
    return sum(total['mean'] * total['n'] for total in totals)
  if 'recipes' in results:
    records = itertools.chain.from_iterable(recipe.get('valid', ()) for recipe in results['recipes'].values())
    return sum(history[-1]['seconds'] for history in records) or None
  return results['seconds']['total'] if 'seconds' in results else None
