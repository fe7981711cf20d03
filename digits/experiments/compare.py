"""The comparison: trains every recipe with every seed, and tests whether the models really differ."""

from collections.abc import Callable, Mapping, Sequence
import logging
import pathlib
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from digits import errors
from digits.config import CompareConfig, TrainConfig
from digits.data import arrays
from digits.handwriting.predict import apply_batched
from digits.models import registry
from digits.report import summary
from digits.runtime.progress import Stopwatch
from digits.store import workdir as workdir_lib
from digits.train import compiled, population
from digits.train.recipe import check_recipe
from digits.train.runs import load_run, Run

_logger = logging.getLogger(__name__)


def check(config: CompareConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  population.num_seed_devices(config.num_seeds, config.mesh['seeds'])
  for train_configs in config.train_configs().values():
    check_recipe(train_configs[0], dataset)


def work(config: CompareConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains the runs that are missing, then writes report.html.

  A run that is finished is never repeated: each is an ordinary workdir, `WORKDIR/RECIPE/seed-N`.
  """
  del watch
  train_all(config, workdir, dataset)
  return write_page(config, workdir, dataset)


def write_page(config: CompareConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """See `runner.Experiment`."""
  comparison = load_comparison(config, workdir, dataset)
  from digits.report import page  # Matplotlib takes a second to import.

  page.write_report(comparison, workdir)
  return summary.summarize(comparison)


def run_directory(workdir: pathlib.Path, name: str, train_config: TrainConfig) -> pathlib.Path:
  """The workdir of one run of an experiment that has many."""
  return workdir / name / f'seed-{train_config.seed}'


def train_all(
  config: CompareConfig,
  workdir: pathlib.Path,
  dataset: arrays.Dataset,
  everything: Mapping[str, Sequence[TrainConfig]] | None = None,
  make_probe: Callable[[nn.Module], population.Probe] | None = None,
) -> None:
  """Trains every run that is not finished, the seeds of a recipe together.

  Args:
    config: the experiment's config.
    workdir: its directory.
    dataset: the data.
    everything: the runs by recipe; None for all of the config.
    make_probe: a function of a model that gives a probe as in `train_population`.
  """
  everything = config.train_configs() if everything is None else everything
  for position, (name, train_configs) in enumerate(everything.items(), 1):
    missing = [one for one in train_configs if _is_missing(one, run_directory(workdir, name, one))]
    size = _group_size(config, train_configs[0])
    for start in range(0, len(missing), size):
      group = missing[start : start + size]
      seeds = ', '.join(str(one.seed) for one in group)
      _logger.info('[recipe %d of %d] %s, seeds %s of %d', position, len(everything), name, seeds, config.num_seeds)
      members = population.train_population(
        group,
        dataset,
        method='auto' if config.population == 'serial' else config.population,
        num_devices=config.mesh['seeds'],
        probe=make_probe(group[0].make_model()) if make_probe else None,
      )
      for member in sorted(members, key=lambda member: member.failed_step >= 0):  # One that failed raises.
        population.write_member(member, run_directory(workdir, name, member.config), dataset)


def _is_missing(train_config: TrainConfig, directory: pathlib.Path) -> bool:
  return workdir_lib.finished_results(train_config, directory) is None


def _group_size(config: CompareConfig, train_config: TrainConfig) -> int:
  """How many seeds to train at once.

  All of them, but on a CPU, where a convolutional network takes a minute, one per device: an interruption then costs
  little, and nothing is gained by more.
  """
  if config.population == 'serial':
    return 1
  if jax.default_backend() == 'cpu' and compiled.convolution_of(train_config.make_model()):
    return population.num_seed_devices(config.num_seeds, config.mesh['seeds'])
  return config.num_seeds


def load_comparison(config: CompareConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> summary.Comparison:
  """Loads the finished runs of an experiment, verified, with their logits."""
  models = {}
  for name, train_configs in config.train_configs().items():
    runs = [load_run(run_directory(workdir, name, one)) for one in train_configs]
    models[name] = measure_runs(runs, dataset)
  return summary.Comparison(models, dataset.test, dataset.valid)


def measure_runs(runs: Sequence[Run], dataset: arrays.Dataset) -> summary.ModelRuns:
  """The logits of some finished runs of one recipe, and what else a comparison asks of them.

  Raises:
    UsageError: one of them is not finished.
  """
  results = []
  for run in runs:
    if run.results is None:
      raise errors.UsageError(f'{run.workdir} is not finished: run its training command again first.')
    results.append(run.results)
  config = runs[0].config
  published = registry.about(config.model).published if config.dataset == 'mnist' else None
  return summary.ModelRuns(
    config=config,
    num_parameters=results[0]['num_parameters'],
    published=published and published._asdict(),
    histories=[run.history for run in runs],
    seconds=[result['seconds'] for result in results],
    devices=[result['device'] for result in results],
    seeds=[run.config.seed for run in runs],
    valid_logits=np.stack([apply_batched(run, dataset.valid.image) for run in runs]),
    test_logits=np.stack([apply_batched(run, dataset.test.image) for run in runs]),
    variables=runs[0].variables,
    model=runs[0].model,
  )


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """Test accuracy and loss of each model, mean and deviation over the seeds."""
  lines = [f'{"":12}{"test accuracy":>22}{"test loss":>22}{"published":>20}']

  for name, model in results['models'].items():
    published = model['published']
    beside = f'{published["accuracy"]:.2%}, {published["loss"]:.4f}' if published else ''
    accuracy = _spread(model['test']['accuracy'], 100, 2) + ' %'
    lines.append(f'{name:12}{accuracy:>22}{_spread(model["test"]["loss"], 1, 4):>22}{beside:>20}')
  return '\n'.join([*lines, f'The report is {workdir / "report.html"}.'])


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  accuracies = [f'{name} {_spread(model["test"]["accuracy"], 100, 2)} %' for name, model in results['models'].items()]
  return f'Test accuracy: {", ".join(accuracies)}.'


def _spread(values: dict[str, Any], scale: float, digits: int) -> str:
  """Mean and deviation of a `statistics.spread`; only the mean for one seed."""
  text = f'{scale * values["mean"]:.{digits}f}'
  return text if values['std'] is None else f'{text} ± {scale * values["std"]:.{digits}f}'
