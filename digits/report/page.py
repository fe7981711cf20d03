"""The page about a comparison: one file that needs no network, and its figures as PNG and SVG."""

from collections.abc import Mapping
import io
import pathlib
from typing import Any

import jinja2

from digits import statistics
from digits.report import figures, findings, sections, svg
from digits.report.summary import Comparison, summarize
from digits.runtime import files

_PNG_DPI = 200


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
  with files.describe_os_errors(directory):
    (directory / 'figures').mkdir(parents=True, exist_ok=True)
    with figures.style():
      page = _render(comparison, directory / 'figures', ensembles or {})
    with files.replace_atomically(directory / 'report.html') as file:
      file.write(page.encode())
  return directory / 'report.html'


def _render(comparison: Comparison, directory: pathlib.Path, ensembles: Mapping[str, Any]) -> str:
  """The page; the panels are written on the way."""
  summary = summarize(comparison)
  content = sections.make_sections(comparison, summary, ensembles)
  for section in content.values():
    if 'figures' in section:
      section['figures'] = [
        figure._replace(panels=[_write_panel(panel, directory) for panel in figure.panels])
        for figure in section['figures']
      ]
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template('template.html').render(
    content,
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


def _write_panel(panel: figures.Panel, directory: pathlib.Path) -> str:
  """Writes a panel's PNG and SVG, and returns the SVG as it stands in the page."""
  content = {suffix: io.BytesIO() for suffix in ('svg', 'png')}
  panel.figure.savefig(content['svg'], format='svg', metadata={'Date': None})
  panel.figure.savefig(content['png'], format='png', dpi=_PNG_DPI)
  for suffix, written in content.items():
    with files.replace_atomically(directory / f'{panel.name}.{suffix}') as file:
      file.write(written.getvalue())
  return svg.inline(content['svg'].getvalue(), panel.name, panel.alt)
