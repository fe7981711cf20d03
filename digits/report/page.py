"""The page about a comparison: one file that needs no network, and its figures as PNG and SVG."""

from collections.abc import Mapping
import pathlib
from typing import Any

from digits import statistics
from digits.report import figures, findings, rendering, sections
from digits.report.summary import Comparison, summarize
from digits.runtime import files


def write_report(
  comparison: Comparison, directory: str | pathlib.Path, ensembles: Mapping[str, Any] | None = None
) -> pathlib.Path:
  """Writes report.html and figures/, which holds every panel as PNG and SVG, and returns the path of report.html.

  Args:
    comparison: what to write about.
    directory: where to, made if need be.
    ensembles: what `ensembles.measure` says of their ensembles, to write about these too.

  Raises:
    DigitsError: the files cannot be written.
  """
  directory = pathlib.Path(directory)
  summary = summarize(comparison)
  with files.describe_os_errors(directory):
    directory.mkdir(parents=True, exist_ok=True)
    with figures.style():
      content = sections.make_sections(comparison, summary, ensembles or {})
    for section in content.values():
      if 'figures' in section:
        section['figures'] = rendering.draw(section['figures'], directory / 'figures')
    return rendering.write_page(
      directory / 'report.html',
      'report.html',
      **content,
      models=summary['models'],
      pairs=summary['pairs'],
      num_seeds=summary['num_seeds'],
      num_test=len(comparison.test.label),
      num_valid=len(comparison.valid.label),
      datasets=sorted({runs.config.dataset for runs in comparison.models.values()}),
      swatches={name: f'var(--model-{i % len(figures.MODEL_COLORS)})' for i, name in enumerate(comparison.models)},
      say=findings,
      num_resamples=statistics.NUM_RESAMPLES,
      num_bins=statistics.NUM_BINS,
    )
