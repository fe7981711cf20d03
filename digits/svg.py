"""An SVG file of matplotlib's as a part of a page."""

import re
from xml.etree import ElementTree

from digits import figures

_COLOR_VARIABLES = {
  figures.INK: '--ink',
  figures.MUTED: '--muted',
  figures.RULE: '--rule',
  figures.PAPER: '--paper',
} | {color: f'--model-{i}' for i, color in enumerate(figures.MODEL_COLORS)}
_SVG, _XLINK = 'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'


def inline(svg, name, alt):
  """Makes an SVG file of matplotlib's part of a page.

  Its colours become CSS variables, so that the page decides them; its ids get the panel's name before them, as ids of a
  page are unique; its size is left to the page; and it is one image to a screen reader.

  Args:
    svg: bytes.
    name: of the panel.
    alt: what a screen reader says.

  Returns:
    An `<svg>` element, as a string.
  """
  ElementTree.register_namespace('', _SVG)
  ElementTree.register_namespace('xlink', _XLINK)
  root = ElementTree.fromstring(svg)
  for parent in list(root.iter()):
    for child in list(parent):
      if child.tag in (f'{{{_SVG}}}metadata', f'{{{_SVG}}}style'):
        parent.remove(child)
  for element in root.iter():
    for key, value in element.attrib.items():
      if key == 'id':
        element.set(key, f'{name}-{value}')
      elif key == f'{{{_XLINK}}}href' and value.startswith('#'):
        element.set(key, f'#{name}-{value[1:]}')
      elif key == 'clip-path':
        element.set(key, value.replace('url(#', f'url(#{name}-'))
      elif key == 'style':
        element.set(key, re.sub('#[0-9a-f]{6}', _to_variable, value))
    if figures.INK_IMAGE_ID in element.get('id', ''):
      element.set('class', 'ink')
  for key in ('width', 'height', 'version'):
    root.attrib.pop(key, None)
  root.set('id', name)
  root.set('role', 'img')
  root.set('aria-label', alt)
  return ElementTree.tostring(root, encoding='unicode')


def _to_variable(match):
  variable = _COLOR_VARIABLES.get(match[0])
  return f'var({variable})' if variable else match[0]
