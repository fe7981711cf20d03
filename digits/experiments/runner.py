"""What all experiments share: finished results, devices, data, the lock on the workdir, and results.json."""

import importlib
import pathlib
from typing import Any, Protocol, runtime_checkable

import ml_collections

from digits import data
from digits.config import Config, from_dict
from digits.data import arrays
from digits.runtime import devices, files
from digits.runtime.progress import Stopwatch
from digits.store import workdir as workdir_lib
from digits.store.results import read_results, write_results


@runtime_checkable
class Experiment(Protocol):
  """A module of this package that is an experiment, called as `config.experiment` calls it.

  It may also have `restore(config, workdir, results)`, which repairs other files of a finished experiment; and
  `write_page(config, workdir, dataset)`, which writes report.html about finished runs, and returns the content of
  results.json.
  """

  def check(self, config: Any, dataset: arrays.Dataset) -> None:
    """Raises UsageError, before anything is written, if the config cannot be run on this data."""

  def work(self, config: Any, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
    """Does what is not done yet in a workdir that is this process's own; returns the content of results.json."""

  def format_results(self, results: dict[str, Any], workdir: pathlib.Path) -> str:
    """The results as the text that people see."""

  def headline(self, results: dict[str, Any]) -> str:
    """What came out, in a sentence or two."""


def run(config: Config | ml_collections.ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Runs an experiment; called again, continues an unfinished one, or returns the results of a finished one.

  Args:
    config: the experiment's config, checked or as a config file makes it.
    workdir: directory for its files, made if need be.

  Returns:
    The content of results.json.

  Raises:
    UsageError: the workdir holds another config's experiment, or the config does not fit the dataset.
    StoppedError: Ctrl-C or SIGTERM arrived; finished work is saved.
    DigitsError: training failed, or files cannot be read or written.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = from_dict(config)
  workdir, experiment = pathlib.Path(workdir), _load(config.experiment)
  devices.use_all_cores()
  devices.check_devices()
  with files.describe_os_errors(workdir):
    results = workdir_lib.finished_results(config, workdir)
    if results is not None:
      if hasattr(experiment, 'restore'):
        experiment.restore(config, workdir, results)
      return results
    watch = Stopwatch()
    with watch.phase('data'):
      dataset = data.load_dataset(config.dataset, config.data_dir, config.num_validation)
      experiment.check(config, dataset)
    with workdir_lib.claim(config, workdir):
      return write_results(workdir, experiment.work(config, workdir, dataset, watch))


def format_results(results: dict[str, Any], workdir: str | pathlib.Path) -> str:
  """The results of any experiment as the text that people see."""
  return _load(results['experiment']).format_results(results, pathlib.Path(workdir))


def headline(results: dict[str, Any]) -> str:
  """What came out of any experiment, in a sentence or two."""
  return _load(results['experiment']).headline(results)


def write_page(workdir: pathlib.Path) -> None:
  """Writes the page of a finished experiment again, if it is of a kind that has one.

  Raises:
    DigitsError: its runs or its data cannot be read, or the page cannot be written.
  """
  saved = workdir_lib.read_config(workdir)
  if saved is None or read_results(workdir) is None:
    return
  config = from_dict(saved)
  experiment: Any = _load(config.experiment)
  if hasattr(experiment, 'write_page'):
    workdir_lib.refuse_links(workdir)
    experiment.write_page(config, workdir, data.load_dataset(config.dataset, config.data_dir, config.num_validation))


def _load(name: str) -> Experiment:
  experiment: Any = importlib.import_module(f'digits.experiments.{name}')
  return experiment
