"""What all experiments share: finished results, devices, data, the lock on the workdir, and results.json."""

import pathlib
from typing import Any, Protocol, runtime_checkable

from digits import data
from digits.config import Config
from digits.data import arrays
from digits.runtime import devices, files
from digits.runtime.progress import Stopwatch
from digits.store import workdir as workdir_lib
from digits.store.results import write_results


@runtime_checkable
class Experiment(Protocol):
  """A module that is an experiment.

  It may also have `restore(config, workdir, results)`, which repairs other files of a finished experiment.
  """

  def check(self, config: Any, dataset: arrays.Dataset) -> None:
    """Raises UsageError, before anything is written, if the config cannot be run on this data."""

  def work(self, config: Any, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
    """Does what is not done yet in a workdir that is this process's own; returns the content of results.json."""

  def format_results(self, results: dict[str, Any], workdir: pathlib.Path) -> str:
    """The results as the text that people see."""


def run(experiment: Experiment, config: Config, workdir: pathlib.Path) -> dict[str, Any]:
  """See `digits.experiments.run`."""
  with files.describe_os_errors(workdir):
    results = workdir_lib.finished_results(config, workdir)
    if results is not None:
      getattr(experiment, 'restore', lambda *finished: None)(config, workdir, results)
      return results
    watch = Stopwatch()
    with watch.phase('data'):
      devices.use_all_cores()
      devices.check_devices()
      dataset = data.load_dataset(config.dataset, config.data_dir, config.num_validation)
      experiment.check(config, dataset)
    with workdir_lib.claim(config, workdir):
      return write_results(workdir, experiment.work(config, workdir, dataset, watch))
