"""One training run as an experiment."""

import logging
import pathlib
from typing import Any

from digits import errors
from digits.config import TrainConfig
from digits.data import arrays
from digits.runtime import distributed, files
from digits.store import records
from digits.store.results import format_table
from digits.train import compiled, loop
from digits.train.loop import train as work
from digits.train.recipe import check_recipe

__all__ = ['check', 'format_results', 'headline', 'restore', 'work']

_logger = logging.getLogger(__name__)


def check(config: TrainConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  check_recipe(config, dataset)
  compiled.make_mesh(config.make_model(), config.batch_size, config.mesh['data'])


def restore(config: TrainConfig, workdir: pathlib.Path, results: dict[str, Any]) -> None:
  """Writes metrics.jsonl of a finished run again, from its newest checkpoint, where it is not what it was."""
  if not distributed.is_main() or records.hash_metrics(workdir) == results['metrics_sha256']:
    return
  _logger.warning(
    '%s is damaged or missing. It is written again from the newest checkpoint.', workdir / 'metrics.jsonl'
  )
  with files.lock(workdir / '.lock'):
    records.write_metrics(workdir, loop.load_history(config, workdir))
  if records.hash_metrics(workdir) != results['metrics_sha256']:
    raise errors.DigitsError(
      f'{workdir / "metrics.jsonl"} is damaged, and so are the checkpoints that hold its lines: '
      f'delete {workdir / "results.json"} and run the same command to train again from what is whole.'
    )


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """See `runner.Experiment`."""
  del workdir
  return format_table(results)


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  test = results['test']
  return f'Test accuracy: {100 * test["accuracy"]:.2f} %, loss {test["loss"]:.4f}.'
