"""The ensemble: networks that differ in their seeds, trained here or taken from a comparison, answer together."""

import pathlib
from typing import Any

from digits import config as config_lib
from digits import errors
from digits.config import CompareConfig, EnsembleConfig
from digits.data import arrays
from digits.experiments import compare
from digits.report import ensembles, summary
from digits.runtime.progress import Stopwatch
from digits.store import workdir as workdir_lib


def check(config: EnsembleConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  members, _ = _members(config, pathlib.Path())
  if members is config:
    compare.check(config, dataset)
  if members.num_seeds * len(members.recipes) < 2:
    raise errors.UsageError('An ensemble has at least two members: raise config.num_seeds, or add a recipe.')


def work(config: EnsembleConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains the runs that are missing, as a comparison does, then measures their ensembles.

  Returns:
    The content of results.json: that of a comparison; `ensembles`, which is what `report.ensembles.measure` returns;
    and `test` and `valid`, the scores of the ensemble that answers for this workdir, which is that of all members.
  """
  del watch
  members, _ = _members(config, workdir)
  if members is config:
    compare.train_all(config, workdir, dataset)
  return write_page(config, workdir, dataset)


def write_page(config: EnsembleConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """See `runner.Experiment`."""
  members, where = _members(config, workdir)
  comparison = compare.load_comparison(members, where, dataset)
  measured = ensembles.measure(comparison)
  answering = list(measured.values())[-1]
  from digits.report import page  # Matplotlib takes a second to import.

  page.write_report(comparison, workdir, measured)
  return summary.summarize(comparison) | {
    'experiment': 'ensemble',
    'ensembles': measured,
    'test': answering['test'],
    'valid': answering['valid'],
  }


def _members(config: EnsembleConfig, workdir: pathlib.Path) -> tuple[CompareConfig, pathlib.Path]:
  """The comparison whose runs are the members, and its directory."""
  if not config.trained_in:
    return config, workdir
  saved = workdir_lib.read_config(pathlib.Path(config.trained_in))
  members = config_lib.from_dict(saved) if saved else None
  if not isinstance(members, CompareConfig):
    raise errors.UsageError(
      f'config.trained_in={config.trained_in!r} is not the workdir of a comparison: name one that is finished.'
    )
  for field in ('dataset', 'num_validation'):
    if getattr(members, field) != getattr(config, field):
      raise errors.UsageError(
        f'config.{field}={getattr(config, field)!r} is not that of {config.trained_in}: set it to '
        f'{getattr(members, field)!r}.'
      )
  return members, pathlib.Path(config.trained_in)


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """Test accuracy and loss of single networks, mean and deviation over the seeds, and of their ensembles."""
  lines = [f'{"":12}{"members":>10}{"single, accuracy":>20}{"ensemble, accuracy":>22}{"95 % interval":>20}{"loss":>10}']
  for name, ensemble in results['ensembles'].items():
    single = ensemble['single']
    low, high = ensemble['interval_95']
    spread = f'{single["mean"]:.2%}' + (f' ± {100 * single["std"]:.2f}' if single['std'] is not None else '')
    lines.append(
      f'{name:12}{ensemble["members"]:>10}{spread:>20}{ensemble["accuracy"]:>22.2%}'
      f'{f"{100 * low:.2f} to {100 * high:.2f} %":>20}{ensemble["loss"]:>10.4f}'
    )
  return '\n'.join([*lines, f'The report is {workdir / "report.html"}.'])


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  answering = list(results['ensembles'].values())[-1]
  return (
    f'Test accuracy of all {answering["members"]} networks together: {100 * answering["accuracy"]:.2f} %; of one, on '
    f'average: {100 * answering["single"]["mean"]:.2f} %.'
  )
