"""The ablation: recipes that differ in one ingredient each, and what each ingredient is worth."""

import pathlib
from typing import Any

from digits.config import AblationConfig
from digits.data import arrays
from digits.experiments import compare
from digits.report import findings, summary
from digits.runtime.progress import Stopwatch

check = compare.check


def work(config: AblationConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains the runs that are missing, then writes report.html.

  Returns:
    The content of results.json: that of a comparison, where `pairs` holds the effects that the config names.
  """
  del watch
  compare.train_all(config, workdir, dataset)
  return write_page(config, workdir, dataset)


def write_page(config: AblationConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """See `runner.Experiment`."""
  comparison = compare.load_comparison(config, workdir, dataset)._replace(pairs=config.effects)
  from digits.report import page  # Matplotlib takes a second to import.

  page.write_report(comparison, workdir)
  return summary.summarize(comparison) | {'experiment': 'ablation'}


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """Test accuracy and loss of each recipe, then the effects in points of accuracy."""
  effects = [findings.pair_difference(pair) for pair in results['pairs']]
  return '\n'.join([compare.format_results(results, workdir), *effects])


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  pairs = results['pairs']
  largest = max(pairs, key=lambda pair: abs(pair['difference']))
  number = sum(map(findings.is_significant, pairs))
  return (
    f'{number} of {findings.count(len(pairs), "effect")} {"is" if number == 1 else "are"} significant. The largest: '
    f'{findings.pair_difference(largest)}'
  )
