"""A search over numeric fields of a recipe, chosen on the validation split; the test split is never looked at."""

import dataclasses
import itertools
import json
import logging
import pathlib
import pprint
import shlex
import sys
from typing import Any

import jax
import numpy as np

from digits import config as config_lib
from digits import errors
from digits.config import flatten, SweepConfig
from digits.data import arrays
from digits.models import MODELS
from digits.runtime import files, sealed_json
from digits.runtime.progress import Stopwatch
from digits.store import workdir as workdir_lib
from digits.train import population
from digits.train.recipe import check_recipe, make_recipe, VARIABLE_FIELDS

_BEST = '''"""The best recipe of a sweep, by its validation split."""

import ml_collections


def get_config():
  return ml_collections.ConfigDict(
    {}
  )
'''

_logger = logging.getLogger(__name__)


def check(config: SweepConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  population.num_seed_devices(config.num_seeds, config.mesh['seeds'])
  tried = set()  # Tracing takes a while, and what varies within a program needs it once.
  for trial in make_trials(config):
    train_config = config.make_train_config('recipe', config.recipe, **trial)
    fixed = tuple(item for item in trial.items() if item[0] not in VARIABLE_FIELDS)
    if fixed in tried:
      make_recipe(train_config, num_steps=2)
    else:
      check_recipe(train_config, dataset)
    tried.add(fixed)


def work(config: SweepConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains every trial that is not yet trained, then draws what was found.

  Returns:
    The content of results.json: every trial with its values and its validation scores, best first.

  Raises:
    DigitsError: the sweep was interrupted, or every trial diverged.
  """
  del watch
  trials = make_trials(config)
  results = summarize(config, trials, _train_trials(config, workdir, dataset, trials))
  from digits.report import sweep_figures  # Matplotlib takes a second to import.

  sweep_figures.save_sweep(results, workdir / 'figures')
  _write_best(config, results['trials'][0]['values'], workdir)
  return results


def make_trials(config: SweepConfig) -> list[dict[str, float]]:
  """The trials: a list of dicts, the value of each searched field.

  Returns:
    For `grid` every combination of the values; for `random`, `num_trials` draws between the lowest and the highest, a
    function of `config.seed`.
  """
  searched = config.searched()
  if config.method == 'grid':
    return [dict(zip(searched, values, strict=True)) for values in itertools.product(*searched.values())]
  rng = np.random.default_rng(config.seed)
  base = flatten(dataclasses.asdict(config.make_train_config('recipe', config.recipe)))
  trials = []
  for _ in range(config.num_trials):
    trial = {}
    for name, (low, high) in searched.items():
      if config.scale == 'log':
        value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
      else:
        value = float(rng.uniform(low, high))
      whole = type(base[name]) is int
      trial[name] = round(value) if whole else float(f'{value:.4g}')
    trials.append(trial)
  return trials


def _train_trials(
  config: SweepConfig, workdir: pathlib.Path, dataset: arrays.Dataset, trials: list[dict[str, float]]
) -> dict[str, Any]:
  """Trains the runs that trials.jsonl does not hold yet, those that may at once together; returns all of them."""
  path = workdir / 'trials.jsonl'
  done = _read_trials(path, config)
  groups: dict[Any, list] = {}
  for trial in trials:
    for seed in config.seeds():
      if _key(trial, seed) not in done:
        fixed = tuple((name, value) for name, value in trial.items() if name not in VARIABLE_FIELDS)
        groups.setdefault(fixed, []).append((trial, seed))
  # A group is trained in parts, so that an interruption loses one part.
  parts = []
  for group in groups.values():
    size = 1 if config.population == 'serial' else max(8, len(jax.devices()))
    parts += [group[i : i + size] for i in range(0, len(group), size)]
  for position, part in enumerate(parts, 1):
    _logger.info('[part %d of %d] %d runs', position, len(parts), len(part))
    members = population.train_population(
      [config.make_train_config('recipe', config.recipe, **trial, seed=seed) for trial, seed in part],
      dataset,
      method='auto' if config.population == 'serial' else config.population,
      num_devices=config.mesh['seeds'],
    )
    for (trial, seed), member in zip(part, members, strict=True):
      done[_key(trial, seed)] = sealed_json.seal(
        {'recipe': _recipe(config), 'trial': trial, 'seed': seed, 'valid': _selected_scores(member)}
      )
    # The whole file is rewritten: it has a few hundred lines, and must never end in half a line.
    with files.replace_atomically(path) as file:
      file.writelines(sealed_json.encode(run) for run in done.values())
  return done


def _read_trials(path: pathlib.Path, config: SweepConfig) -> dict[str, Any]:
  """The runs in trials.jsonl, with a warning for each that is damaged: it is trained again."""
  try:
    lines = path.read_bytes().splitlines(keepends=True)
  except FileNotFoundError:
    return {}
  done = {}
  for number, line in enumerate(lines, 1):
    try:
      run = sealed_json.decode(line)
    except ValueError as error:
      _logger.warning('Line %d of %s is damaged (%s); training it again.', number, path, error)
      continue
    if run['recipe'] != _recipe(config):
      raise errors.UsageError(f'{path} holds trials of another recipe: choose another --workdir, or delete it.')
    done[_key(run['trial'], run['seed'])] = run
  return done


def _recipe(config: SweepConfig) -> dict[str, Any]:
  """What a trial starts from, as JSON types, but for where its data lies: a trial is of no use to another recipe."""
  recipe = config_lib.to_dict(config.make_train_config('recipe', config.recipe, seed=config.seed))
  return {name: value for name, value in recipe.items() if name != 'data_dir'}


def _key(trial: dict[str, float], seed: int) -> str:
  return json.dumps([trial, seed], sort_keys=True)


def _selected_scores(member: population.Member) -> dict[str, float] | None:
  """The validation scores of the member's selected weights; None where it diverged."""
  step = int(member.selected.state.step)
  if member.failed_step >= 0:
    return None
  (record,) = (record for record in member.history if record['split'] == 'valid' and record['step'] == step)
  return {name: record[name] for name in ('accuracy', 'loss')}


def summarize(config: SweepConfig, trials: list[dict[str, float]], runs: dict[str, Any]) -> dict[str, Any]:
  """Ranks the trials by the mean of the metric over their seeds; a trial with a diverged seed comes last.

  Args:
    config: the sweep.
    trials: the trials from `make_trials`.
    runs: the record of every trial and seed, by `_key`.

  Returns:
    dict of experiment, metric, num_seeds, and trials, best first.

  Raises:
    DigitsError: every trial diverged.
  """
  ranked: list[dict[str, Any]] = []
  for trial in trials:
    scores = [runs[_key(trial, seed)]['valid'] for seed in config.seeds()]
    means = None
    if None not in scores:
      means = {name: float(np.mean([score[name] for score in scores])) for name in ('accuracy', 'loss')}
    ranked.append({'values': trial, 'valid': means})
  sign = -1 if config.metric == 'accuracy' else 1
  ranked.sort(key=lambda one: (one['valid'] is None, one['valid'] and sign * one['valid'][config.metric]))
  if ranked[0]['valid'] is None:
    raise errors.DigitsError('Every trial diverged: lower the values of config.search.learning_rate.')
  return {
    'experiment': 'sweep',
    'metric': config.metric,
    'num_seeds': config.num_seeds,
    'trials': ranked,
  }


def _write_best(config: SweepConfig, values: dict[str, float], workdir: pathlib.Path) -> None:
  """Writes the best recipe as a config file, best.py, whole: nothing in it depends on other files."""
  recipe = dataclasses.asdict(config.make_train_config('recipe', config.recipe, **values))
  text = pprint.pformat(recipe, width=100, sort_dicts=False).replace('\n', '\n    ')
  with files.replace_atomically(workdir / 'best.py') as file:
    file.write(_BEST.format(text).encode())


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """The ten best trials, best first, and the command that runs the best one."""
  names = list(results['trials'][0]['values'])
  widths = {name: max(16, len(name) + 2) for name in names}
  lines = [''.join(f'{name:>{width}}' for name, width in {**widths, 'valid loss': 16, 'valid accuracy': 16}.items())]
  for trial in results['trials'][:10]:
    values = ''.join(f'{trial["values"][name]:>{width}g}' for name, width in widths.items())
    scores = trial['valid']
    lines.append(values + (f'{scores["loss"]:>16.4f}{scores["accuracy"]:>16.2%}' if scores else f'{"diverged":>16}'))
  command = ['python', 'launch.py', f'--config={workdir / "best.py"}', f'--workdir={workdir / "best"}']
  saved = workdir_lib.read_config(workdir) or {'recipe': {'model': ''}}
  module = sys.modules.get(getattr(MODELS.get(saved['recipe']['model']), '__module__', ''))
  if module is not None and module.__file__ and not module.__name__.startswith('digits.'):
    command.append(f'--import={module.__file__}')
  return '\n'.join([*lines, f'The best recipe runs with: {shlex.join(command)}'])


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  best = results['trials'][0]
  values = ', '.join(f'{name.replace("_", " ")} {value:g}' for name, value in best['values'].items())
  scores = best['valid']
  return (
    f'The best of {len(results["trials"])} trials is {values}: validation loss {scores["loss"]:.4f}, accuracy '
    f'{100 * scores["accuracy"]:.2f} %.'
  )
