"""The experiments that a config can ask for, and the one runner that holds what they share."""

import importlib
import pathlib
from typing import Any

from digits.config import Config

_MODULES = {
  'train': 'digits.experiments.train',
  'compare': 'digits.experiments.compare',
  'activations': 'digits.experiments.activations',
  'sweep': 'digits.experiments.sweep',
}


def run(config: Config, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Runs an experiment; called again, goes on with an unfinished one, or returns the results of a finished one.

  Args:
    config: the experiment's config.
    workdir: directory for its files, made if need be.

  Returns:
    The content of results.json.

  Raises:
    UsageError: the workdir holds another config's experiment, or the config does not fit the dataset.
    StoppedError: Ctrl-C or SIGTERM came; what was done is saved.
    DigitsError: training failed, or files cannot be read or written.
  """
  from digits.experiments import runner  # JAX takes a second to import.

  return runner.run(importlib.import_module(_MODULES[config.experiment]), config, pathlib.Path(workdir))


def format_results(results: dict[str, Any], workdir: str | pathlib.Path) -> str:
  """The results of any experiment as the text that people see."""
  return importlib.import_module(_MODULES[results['experiment']]).format_results(results, pathlib.Path(workdir))
