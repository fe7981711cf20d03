"""From templates to pages: each is one file that needs no network, and its panels are beside it as PNG and SVG."""

from collections.abc import Iterable
import io
import pathlib
from typing import Any, NamedTuple

import jinja2

from digits.report import figures, svg
from digits.runtime import files

_PNG_DPI = 200
_TEMPLATES = jinja2.Environment(
  loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)


class Drawn(NamedTuple):
  """A figure as a template shows it: its panels are `<svg>` elements."""

  panels: list[str]
  caption: str


def draw(drawn: Iterable[figures.Figure], directory: pathlib.Path) -> list[Drawn]:
  """Writes the panels of figures into a directory, made if need be, and returns the figures for a template."""
  return [
    Drawn([svg.inline(save(panel, directory), panel.name, panel.alt) for panel in figure.panels], figure.caption)
    for figure in drawn
  ]


def save(panel: figures.Panel, directory: pathlib.Path) -> bytes:
  """Writes a panel's PNG and SVG into a directory, made if need be, and returns the SVG."""
  directory.mkdir(parents=True, exist_ok=True)
  content = {suffix: io.BytesIO() for suffix in ('svg', 'png')}
  with figures.style():
    panel.figure.savefig(content['svg'], format='svg', metadata={'Date': None})
    panel.figure.savefig(content['png'], format='png', dpi=_PNG_DPI)
  for suffix, written in content.items():
    with files.replace_atomically(directory / f'{panel.name}.{suffix}') as file:
      file.write(written.getvalue())
  return content['svg'].getvalue()


def write_page(path: pathlib.Path, template: str, **content: Any) -> pathlib.Path:
  """Fills a template of this folder and writes the page, whole or not at all; returns its path."""
  page = _TEMPLATES.get_template(template).render(content)
  with files.replace_atomically(path) as file:
    file.write(page.encode())
  return path
