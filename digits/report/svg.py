"""An SVG file of matplotlib's as a part of a page."""

import re
from xml.etree import ElementTree

from digits.report import figures

_COLOR_VARIABLES = {
  figures.INK: '--ink',
  figures.MUTED: '--muted',
  figures.RULE: '--rule',
  figures.PAPER: '--paper',
} | {color: f'--model-{i}' for i, color in enumerate(figures.MODEL_COLORS)}
_SVG, _XLINK = 'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'


def inline(svg: bytes, name: str, alt: str) -> str:
  """Makes an SVG file of matplotlib's part of a page: an `<svg>` element.

  Its colours become CSS variables, so that the page decides them. The ids that it refers to begin with the panel's
  name, because ids of a page are unique; the others go. Its size is left to the page; to a screen reader it is one
  image.

  Args:
    svg: the file.
    name: name of the panel.
    alt: what a screen reader says.
  """
  ElementTree.register_namespace('', _SVG)
  ElementTree.register_namespace('xlink', _XLINK)
  root = ElementTree.fromstring(svg)
  for parent in list(root.iter()):
    for child in list(parent):
      if child.tag in (f'{{{_SVG}}}metadata', f'{{{_SVG}}}style'):
        parent.remove(child)
  used: set[str] = set()

  def rename(match: re.Match) -> str:
    used.add(match[1])
    return f'#{name}-{match[1]}'

  for element in root.iter():
    if element.get('id') == figures.INK_IMAGE_ID:
      element.set('class', 'ink')
    for key, value in element.attrib.items():
      if key == 'style':
        element.set(key, re.sub('#[0-9a-f]{6}', _to_variable, value))
      elif key in ('clip-path', f'{{{_XLINK}}}href'):
        element.set(key, re.sub(r'#([\w-]+)', rename, value))
  for element in root.iter():
    own = element.attrib.pop('id', None)
    if own in used:
      element.set('id', f'{name}-{own}')
  for key in ('width', 'height', 'version'):
    root.attrib.pop(key, None)
  root.set('id', name)
  root.set('role', 'img')
  root.set('aria-label', alt)
  return ElementTree.tostring(root, encoding='unicode')


def _to_variable(match: re.Match) -> str:
  variable = _COLOR_VARIABLES.get(match[0])
  return f'var({variable})' if variable else match[0]
