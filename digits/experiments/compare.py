"""The comparison: trains every recipe with every seed, and says what the differences between the models are worth."""

import functools
import logging
import pathlib

import jax
import numpy as np

from digits import data
from digits.report import summary as comparison_lib
from digits.runtime import devices
from digits.runtime import files
from digits.store import results as results_lib
from digits.store import workdir as workdir_lib
from digits.train import loop
from digits.train import population
from digits.train import runs as runs_lib
from digits.train import step as step_lib

_logger = logging.getLogger(__name__)


def run(config, workdir):
  """Trains what is not yet trained, then writes results.json and page.html.

  A run that is finished is never repeated: each is an ordinary workdir, `WORKDIR/RECIPE/seed-N`.

  Args:
    config: `CompareConfig`.
    workdir: directory for the runs, the results and the report, made if need be.

  Returns:
    The content of results.json.

  Raises:
    UsageError: the workdir holds another config's comparison, or the config does not fit the dataset.
    DigitsError: a run failed or was interrupted, or files cannot be read or written.
  """
  workdir = pathlib.Path(workdir)
  with files.describe_os_errors(workdir):
    results = workdir_lib.finished_results(config, workdir)
    if results is None:
      devices.use_all_cores()
      devices.check_devices()
      dataset = data.load_dataset(config.dataset, config.data_dir, config.num_validation)
      with workdir_lib.claim(config, workdir):
        train_all(config, workdir, dataset)
        comparison = load_comparison(config, workdir, dataset)
        from digits.report import page  # Matplotlib takes a second to import.

        page.write_report(comparison, workdir)
        results = results_lib.write_results(workdir, comparison_lib.summarize(comparison))
  print(format_table(results))
  print(f'The report is {workdir / "report.html"}.')
  return results


def run_directory(workdir, name, train_config):
  """The workdir of one run of an experiment of many."""
  return workdir / name / f'seed-{train_config.seed}'


def train_all(config, workdir, dataset, make_probe=lambda model: None):
  """Trains every run that is not finished, the seeds of a recipe together.

  Args:
    config: `CompareConfig`.
    workdir: `pathlib.Path` of the experiment.
    dataset: the `Dataset`.
    make_probe: a function of a model that gives a probe as in `train_population`.
  """
  everything = config.train_configs()
  for train_configs in everything.values():
    loop.check_batch_size(train_configs[0], dataset)
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
        probe=make_probe(group[0].make_model()),
      )
      for member in sorted(members, key=lambda member: member.failed_step >= 0):  # One that failed raises.
        population.write_member(member, run_directory(workdir, name, member.config), dataset)


def _is_missing(train_config, directory):
  return workdir_lib.finished_results(train_config, directory) is None


def _group_size(config, train_config):
  """How many seeds to train at once.

  All of them, but on a CPU, where a convolutional network takes a minute, one a device: an interruption then costs
  little, and nothing is gained by more.
  """
  if config.population == 'serial':
    return 1
  if jax.default_backend() == 'cpu' and train_config.model == 'cnn':
    return population.num_seed_devices(config.num_seeds, config.mesh['seeds'])
  return config.num_seeds


def load_comparison(config, workdir, dataset):
  """Loads the finished runs of an experiment, verified, with their logits.

  Args:
    config: `CompareConfig`.
    workdir: `pathlib.Path` of the experiment.
    dataset: the `Dataset`.

  Returns:
    A `comparison.Comparison`.
  """
  models = {}
  for name, train_configs in config.train_configs().items():
    directories = [run_directory(workdir, name, one) for one in train_configs]
    runs = [runs_lib.load_run(directory) for directory in directories]
    results = [results_lib.read_results(directory) for directory in directories]
    published = results_lib.PUBLISHED.get(name) if config.dataset == 'mnist' else None
    models[name] = comparison_lib.ModelRuns(
      config=runs[0].config,
      num_parameters=results[0]['num_parameters'],
      published=published,
      histories=[run.history for run in runs],
      seconds=[result['seconds'] for result in results],
      seeds=[run.config.seed for run in runs],
      valid_logits=np.stack([compute_logits(run, dataset.valid) for run in runs]),
      test_logits=np.stack([compute_logits(run, dataset.test) for run in runs]),
      params=runs[0].params,
      model=runs[0].model,
    )
  return comparison_lib.Comparison(models, dataset.test, dataset.valid)


@functools.partial(jax.jit, static_argnames='model')
def _logits(params, image, *, model):
  return step_lib.apply_model(model, params, image)


def compute_logits(run, split):
  """Logits float32[N, 10] of a trained model for every image of a split."""
  batches = data.host_batches(split, run.config.eval_batch_size)
  logits = [
    np.asarray(_logits(run.params, batch['image'], model=run.model))[batch['mask'].astype(bool)] for batch in batches
  ]
  return np.concatenate([*logits, np.zeros((0, 10), np.float32)])


def format_table(results):
  """The table at the end: test accuracy and loss of each model, mean and deviation over the seeds."""
  lines = [f'{"":12}{"test accuracy":>22}{"test loss":>22}{"published":>20}']

  def spread(values, scale, digits):
    text = f'{scale * values["mean"]:.{digits}f}'
    return text if values['std'] is None else f'{text} ± {scale * values["std"]:.{digits}f}'

  for name, model in results['models'].items():
    published = model['published']
    beside = f'{published["accuracy"]:.2%}, {published["loss"]:.4f}' if published else ''
    accuracy = spread(model['test']['accuracy'], 100, 2) + ' %'
    lines.append(f'{name:12}{accuracy:>22}{spread(model["test"]["loss"], 1, 4):>22}{beside:>20}')
  return '\n'.join(lines)
