"""Measures the reading of composed photographs: python -m measurements.paper --workdir=RUN [--num=200] [--json=FILE].

What people photograph: one digit in pencil under a lamp, forms with boxes, ruled and squared paper, a sheet on a desk,
dates and amounts. The digits are of MNIST and their labels are known; the rest is drawn: the pen, the signs, the lines
of a form, the paper, the desk, the light, and the camera's view, blur, noise and compression. Every picture follows
from the seed, its kind and its number alone. Tune on --split=train or valid.

For each kind it says how many texts are wholly right, with signs and lines; of how many the digits are right; the
share of wrong digits; and how many of the answers that are sure have the right digits. A picture of one digit is asked
of `digits predict`, and any other is read. --sheet=FILE.png draws an example of each kind and measures nothing.
"""

import argparse
import io
import json
import math
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from digits import data
from digits.commands import cli
from digits.handwriting import predict
from digits.train import runs
from measurements import photos, strings, transfer

# Writing is drawn with this many pixels for one of MNIST; the camera then makes it smaller or larger.
_UNIT = 5
_HEIGHT = 20 * _UNIT  # Of a digit. Lengths below are fractions of it.
# A glyph is an image of these rows: room for digits 1.4 times as high, and below them for the tail of a comma.
_ROWS, _BASE = 40 * _UNIT, 34 * _UNIT
_LINE_PIXELS = (30, 150)  # The height of a digit in the photograph,
_SHEET_PIXELS = (30, 100)  # and where the photograph shows a whole sheet.


# The pen.


def thin(shape):
  """The middle lines of a shape, bool[H, W], by the algorithm of Zhang and Suen (1984)."""
  shape = np.pad(shape, 1)
  size = None
  while size != shape.sum():
    size = shape.sum()
    for first in (True, False):
      # The neighbours of each pixel, clockwise from the one above it.
      steps = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
      around = [np.roll(shape, step, (0, 1)) for step in steps]
      count = sum(neighbour.astype(int) for neighbour in around)
      turns = sum((~one & other).astype(int) for one, other in zip(around, around[1:] + around[:1], strict=True))
      up, right, down, left = around[::2]
      ends = ~(up & right & down | right & down & left) if first else ~(up & right & left | up & down & left)
      shape = shape & ~((count >= 2) & (count <= 6) & (turns == 1) & ends)
  return shape[1:-1, 1:-1]


def _draw_digit(image, pen, size):
  """A digit of MNIST as a glyph. `pen` is its width, None for that of MNIST; `size` is 1 for the usual height."""
  side = round(28 * _UNIT * size)
  ink = Image.fromarray(image / np.float32(255)).resize((side, side), Image.Resampling.BICUBIC)
  ink = ndimage.gaussian_filter(np.asarray(ink), _UNIT * size / 4)
  if pen is None:
    ink = np.clip(2.5 * (ink - 0.4) + 0.5, 0, 1)  # As sharp as a pen.
  else:
    distance = ndimage.distance_transform_edt(~thin(ink > 0.4))
    ink = np.clip(pen * _HEIGHT / 2 + 0.5 - distance, 0, 1)
  top = _BASE - round(24 * _UNIT * size)
  rows = ink[max(0, -top) : _ROWS - top]
  glyph = np.zeros((_ROWS, side), np.float32)
  glyph[max(0, top) : max(0, top) + len(rows)] = rows
  columns = np.flatnonzero((glyph > 0.1).any(0))
  return glyph[:, columns[0] : columns[-1] + 1]


# The strokes of each sign, from point to point: right and up, from where it stands on the line.
_SIGNS = {
  '-': (((0.0, 0.42), (0.38, 0.44)),),
  '/': (((0.0, -0.08), (0.45, 1.05)),),
  '.': (((0.0, 0.03), (0.02, 0.03)),),
  ',': (((0.08, 0.06), (0.0, -0.2)),),
  ':': (((0.0, 0.16), (0.02, 0.16)), ((0.0, 0.62), (0.02, 0.62))),
}


def draw_sign(rng, sign, pen):
  """A sign as a glyph, with the natural jitter of a hand. `pen` is its width."""
  strokes = [np.array(stroke) + rng.normal(0, 0.025, (2, 2)) for stroke in _SIGNS[sign]]
  points = []
  for start, end in strokes:
    along = np.linspace(0, 1, 60)[:, None]
    bend = rng.normal(0, 0.03) * np.linalg.norm(end - start) * 4 * along * (1 - along)
    points.append(start + along * (end - start) + bend)
  points = np.concatenate(points) * _HEIGHT
  radius = _HEIGHT * pen / 2 * (1.25 if sign in '.:' else 1)
  left = points[:, 0].min() - radius - 1
  columns = np.arange(math.ceil(points[:, 0].max() + radius + 1 - left)) + left
  rows = _BASE - np.arange(_ROWS)
  squares = (columns[None, :, None] - points[:, 0]) ** 2 + (rows[:, None, None] - points[:, 1]) ** 2
  return np.clip(radius + 0.5 - np.sqrt(squares.min(2)), 0, 1).astype(np.float32)


def _pen_of(glyph):
  """About how wide the strokes of a glyph are: twice its area for each length of its outline."""
  down, right = np.diff(glyph, axis=0)[:, 1:], np.diff(glyph, axis=1)[1:]
  return 2 * glyph.sum() / np.hypot(down, right).sum() / _HEIGHT


def draw_glyphs(rng, split, text, pen=None, sizes=(1, 1)):
  """The digits and signs of a text, each digit of another image of MNIST."""
  digits = {}
  for i, character in enumerate(text):
    if character not in _SIGNS:
      row = rng.choice(np.flatnonzero(split.label == int(character)))
      digits[i] = _draw_digit(split.image[row, ..., 0], pen, rng.uniform(*sizes))
  width = pen or np.mean([_pen_of(digit) for digit in digits.values()])
  return [digits[i] if i in digits else draw_sign(rng, text[i], width) for i in range(len(text))]


def _any_pen(rng):
  """The width of a pen such as people have; in one of three writings that of MNIST."""
  return None if rng.random() < 1 / 3 else rng.uniform(0.05, 0.13)


def write(rng, split, text, pen=None, gap=(3, 10), sizes=(1, 1), slant=8):
  """A line of writing, float32[H, W], 1 for ink on 0, with a margin around it.

  Args:
    rng: a NumPy generator.
    split: the `Split` that the digits are from.
    text: digits and signs.
    pen: its width as a fraction of a digit's height; None for that of MNIST's digits.
    gap: least and most pixels of MNIST between two digits.
    sizes: of the smallest and the largest digits, 1 for the usual.
    slant: the most degrees by which the writing leans.
  """
  glyphs = draw_glyphs(rng, split, text, pen, sizes)
  # Margins at the sides keep what leans inside.
  ink = np.pad(strings.line_up(rng, glyphs, gap, _UNIT), ((0, 0), (_HEIGHT // 2, _HEIGHT // 2)))
  return strings.lean(ink, math.radians(rng.uniform(-slant, slant)))


def _random_digits(rng, least, most=None):
  """A string of `least` to `most` random digits."""
  return ''.join(str(digit) for digit in rng.integers(10, size=rng.integers(least, (most or least) + 1)))


def trim(ink, margins):
  """Cuts or pads ink so that it has these margins at its top, right, bottom and left, in heights of a digit."""
  rows, columns = (np.flatnonzero((ink > 0.2).any(axis)) for axis in (1, 0))
  top, right, bottom, left = (round(margin * _HEIGHT) for margin in margins)
  start, stop = rows[0] - top, rows[-1] + 1 + bottom
  first, last = columns[0] - left, columns[-1] + 1 + right
  height, width = ink.shape
  inner = ink[max(0, start) : max(0, stop), max(0, first) : max(0, last)]
  return np.pad(inner, ((max(0, -start), max(0, stop - height)), (max(0, -first), max(0, last - width))))


def _margins(rng, least=0.3, most=1.2):
  return rng.uniform(least, most, 4)


# Printed lines.


def _bar(shape, at, thickness, axis, span=None):
  """A straight line across an image: its ink, from `span[0]` to `span[1]` or from side to side. Lengths in pixels."""
  bar = np.clip(thickness / 2 + 0.5 - np.abs(np.arange(shape[axis]) - at), 0, 1).astype(np.float32)
  image = np.zeros(shape, np.float32)
  start, stop = (0, None) if span is None else (max(0, round(span[0])), max(0, round(span[1])))
  if axis == 0:
    image[:, start:stop] = bar[:, None]
  else:
    image[start:stop] = bar
  return image


def _box(shape, left, top, right, bottom, thickness):
  """The outline of a rectangle: its ink."""
  half = thickness / 2
  sides = [_bar(shape, at, thickness, 0, (left - half, right + half)) for at in (top, bottom)]
  sides += [_bar(shape, at, thickness, 1, (top - half, bottom + half)) for at in (left, right)]
  return np.maximum.reduce(sides)


def _put(ink, glyph, x, y):
  """Lays a glyph on ink, its middle at x, its lower end at y."""
  rows = np.flatnonzero((glyph > 0.2).any(1))
  glyph = glyph[rows[0] : rows[-1] + 1]
  top, left = max(0, round(y) - len(glyph)), max(0, round(x - glyph.shape[1] / 2))
  place = ink[top : top + len(glyph), left : left + glyph.shape[1]]
  np.maximum(place, glyph[: place.shape[0], : place.shape[1]], out=place)


# The camera.


def _vignette(shape, strength):
  """Light that falls from 1 in the middle to 1 - strength in the corners."""
  y, x = (np.linspace(-1, 1, length) for length in shape)
  return 1 - strength * (x**2 + y[:, None] ** 2) / 2


def _soft_shadow(rng, shape):
  """The shadow of a hand or a phone: light that is 20 to 45 % less on one side of a blurred edge."""
  y, x = (np.linspace(-1, 1, length) for length in shape)
  angle = rng.uniform(0, 2 * math.pi)
  distance = math.cos(angle) * x + math.sin(angle) * y[:, None] - rng.uniform(-0.2, 0.8)
  return 1 - rng.uniform(0.2, 0.45) / (1 + np.exp(-distance / rng.uniform(0.04, 0.2)))


def _paper(rng, ink, contrast=None, level=None, dark=None):
  """Ink on paper: brightness, float32[H, W]. Fibres are a faint texture.

  Args:
    rng: a NumPy generator.
    ink: float32[H, W].
    contrast: how much darker the ink is than the paper, 0 to 1.
    level: brightness of the paper.
    dark: printed lines, ink in their own shade.
  """
  level = rng.uniform(150, 235) if level is None else level
  contrast = rng.uniform(0.4, 0.85) if contrast is None else contrast
  fibres = ndimage.gaussian_filter(rng.normal(0, 1, ink.shape).astype(np.float32), rng.uniform(1, 3))
  paper = level * (1 + rng.uniform(0.002, 0.012) * fibres / fibres.std())
  covered = contrast * ink if dark is None else np.maximum(contrast * ink, dark)
  return (paper * (1 - covered)).astype(np.float32)


def _resize(image, factor):
  """An image at another resolution, without the false patterns of one that is sampled too coarsely."""
  size = tuple(max(1, round(length * factor)) for length in image.shape[::-1])
  return np.asarray(
    Image.fromarray(image).resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX)
  )


def _any_factor(rng, pixels=_LINE_PIXELS):
  """Pixels of the photograph for one of what is drawn: all heights of digits are as likely by their logarithm."""
  return math.exp(rng.uniform(*np.log(pixels))) / _HEIGHT


def photograph(rng, scene, light, noise=(1, 5)):
  """What a camera makes of a scene: light, blur, noise and compression.

  Args:
    rng: a NumPy generator.
    scene: brightness, float32[H, W].
    light: [H, W] about 1.
    noise: least and most standard deviation of a pixel.

  Returns:
    uint8[H, W].
  """
  image = ndimage.gaussian_filter(scene * light, rng.uniform(0.3, 1.1))
  image = image + rng.normal(0, rng.uniform(*noise), image.shape)
  picture = Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))
  # Compressed as a phone does, in memory.
  with io.BytesIO() as file:
    picture.save(file, 'JPEG', quality=int(rng.integers(60, 96)))
    return np.asarray(Image.open(file))


def _shoot(rng, scene, factor=None, vignette=None, noise=(1, 5)):
  """A photograph of a scene from above."""
  scene = _resize(scene, factor or _any_factor(rng))
  vignette = rng.uniform(0, 0.2) if vignette is None else vignette
  light = strings.uneven_light(rng, *scene.shape) * _vignette(scene.shape, vignette)
  return photograph(rng, scene, light, noise)


def _turn(angle):
  cos, sin = math.cos(angle), math.sin(angle)
  return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def view(tilt, axis, turn, distance):
  """How a camera sees a plane: the homography float64[3, 3] of (x, y, 1), where (0, 0) stays.

  Args:
    tilt: radians by which the plane is turned about an axis in it.
    axis: the direction of that axis, in radians.
    turn: radians by which the plane is turned in itself before.
    distance: of the camera from (0, 0).
  """
  cos, sin = math.cos(tilt), math.sin(tilt)
  tilted = _turn(axis) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _turn(-axis) @ _turn(turn)
  return np.array([[*tilted[0, :2], 0], [*tilted[1, :2], 0], [*(tilted[2, :2] / distance), 1]])


def project(matrix, points):
  """Where a homography puts points, [N, 2]."""
  points = np.concatenate([points, np.ones((len(points), 1))], 1) @ matrix.T
  return points[:, :2] / points[:, 2:]


def _lay_on_desk(rng, sheet, kind, factor, tilt, turn):
  """A sheet of paper on a desk as a camera sees it, with a shadow: brightness float32[H, W], and the light on it.

  Args:
    rng: a NumPy generator.
    sheet: brightness, float32[H, W].
    kind: of desk: flat, wood or dark.
    factor: pixels of the photograph for one of the sheet.
    tilt: degrees, the most by which the camera looks from the side.
    turn: degrees, the most by which the sheet is turned.
  """
  # With a rim of nothing, so that its edge is as soft as the camera sees it.
  paper, cover = np.pad(sheet, 4), np.pad(np.ones_like(sheet), 4)
  height, width = paper.shape
  angles = math.radians(rng.uniform(0, tilt)), rng.uniform(0, math.pi), math.radians(rng.uniform(-turn, turn))
  matrix = view(*angles, 2.5 * max(height, width))
  matrix = np.diag([factor, factor, 1]) @ matrix @ np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
  corners = project(matrix, np.array([[0, 0], [width, 0], [width, height], [0, height]]))
  low, high = corners.min(0), corners.max(0)
  above = rng.uniform(0.05, 0.35, 2) * (high - low)
  size = np.ceil(high - low + above + rng.uniform(0.05, 0.35, 2) * (high - low)).astype(int)
  matrix = np.array([[1, 0, above[0] - low[0]], [0, 1, above[1] - low[1]], [0, 0, 1]]) @ matrix
  inverse = np.linalg.inv(matrix)
  numbers = (inverse / inverse[2, 2]).ravel()[:8]

  def see(image):
    image = ndimage.gaussian_filter(image, 0.4 / factor) if factor < 1 else image
    return np.asarray(
      Image.fromarray(image).transform(
        tuple(size), Image.Transform.PERSPECTIVE, tuple(numbers), Image.Resampling.BILINEAR
      )
    )

  paper, cover = see(paper), see(cover)
  # The sheet's own shadow, a little aside of it.
  aside = tuple(rng.uniform(-0.06, 0.06, 2) * _HEIGHT * factor)
  shadow = ndimage.gaussian_filter(ndimage.shift(cover, aside, order=1), 0.05 * _HEIGHT * factor + 1)
  desk = _desk(rng, kind, cover.shape) * (1 - 0.4 * shadow)
  scene = paper + (1 - cover) * desk
  light = strings.uneven_light(rng, *scene.shape) * _vignette(scene.shape, rng.uniform(0.1, 0.4))
  return scene.astype(np.float32), light * _soft_shadow(rng, scene.shape)


def _desk(rng, kind, shape):
  """Brightness of a desk: flat, wood or dark."""
  texture = rng.normal(0, 1, shape)
  if kind == 'flat':
    return rng.uniform(80, 140) + 2 * ndimage.gaussian_filter(texture, 2)
  if kind == 'dark':
    return rng.uniform(15, 60) + 2 * ndimage.gaussian_filter(texture, 1)
  # Grain: noise drawn out along the boards, over the slow waves of the rings.
  lengthwise = rng.random() < 0.5
  along, across = shape if lengthwise else shape[::-1]
  grain = _stretch(rng.normal(0, 1, (8, across)), (along, across))
  rings = _stretch(rng.normal(0, 1, (3, max(2, across // 40))), (along, across))
  boards = rng.uniform(70, 130) + 8 * grain + 8 * np.sin(3 * rings)
  return boards if lengthwise else boards.T


def _stretch(image, shape):
  """An image, enlarged smoothly to a shape."""
  return np.asarray(Image.fromarray(image.astype(np.float32)).resize(shape[::-1], Image.Resampling.BICUBIC))


# The kinds: each a function of a generator and a split, which gives uint8[H, W] and the text.


def single(rng, split):
  """One digit on paper under uneven light."""
  text = _random_digits(rng, 1)
  return _shoot(rng, _paper(rng, trim(write(rng, split, text, _any_pen(rng)), _margins(rng)))), text


def pencil(rng, split):
  """One digit at 15 % contrast under a vignette, with the noise of a camera in a dim room."""
  text = _random_digits(rng, 1)
  ink = trim(write(rng, split, text, rng.uniform(0.05, 0.09)), _margins(rng))
  return _shoot(rng, _paper(rng, ink, contrast=0.15), vignette=0.5, noise=(2, 5)), text


def hairline(rng, split):
  """One digit of a hair's width, large."""
  text = _random_digits(rng, 1)
  ink = trim(write(rng, split, text, rng.uniform(0.015, 0.03)), _margins(rng))
  return _shoot(rng, _paper(rng, ink), _any_factor(rng, (90, 150))), text


def thick(rng, split):
  """One digit of a marker."""
  text = _random_digits(rng, 1)
  ink = trim(write(rng, split, text, rng.uniform(0.16, 0.22)), _margins(rng))
  return _shoot(rng, _paper(rng, ink, contrast=rng.uniform(0.6, 0.9))), text


def light_on_dark(rng, split):
  """One digit in chalk on a board."""
  text = _random_digits(rng, 1)
  ink = trim(write(rng, split, text, rng.uniform(0.08, 0.14)), _margins(rng))
  grains = ndimage.gaussian_filter(rng.normal(0, 1, ink.shape), 1.2)
  ink = ink * np.clip(0.8 + 0.25 * grains / grains.std(), 0, 1)
  board = rng.uniform(25, 75) + 6 * ndimage.gaussian_filter(rng.normal(0, 1, ink.shape), 6)
  return _shoot(rng, (board + rng.uniform(90, 150) * ink).astype(np.float32)), text


def edge(rng, split):
  """One digit or four or five, of which the ink touches an edge of the picture or goes a little beyond."""
  text = _random_digits(rng, 1) if rng.random() < 0.5 else _random_digits(rng, 4, 5)
  margins = _margins(rng)
  margins[rng.integers(4)] = rng.uniform(-0.06, 0)
  return _shoot(rng, _paper(rng, trim(write(rng, split, text, _any_pen(rng)), margins))), text


def framed(rng, split):
  """One digit in a box."""
  text = _random_digits(rng, 1)
  ink = trim(write(rng, split, text, _any_pen(rng)), _margins(rng, 0.2, 0.5))
  around = round(rng.uniform(0.15, 0.6) * _HEIGHT)
  ink = np.pad(ink, around)
  height, width = ink.shape
  thickness = rng.uniform(0.02, 0.07) * _HEIGHT
  lines = _box(ink.shape, around, around, width - around, height - around, thickness)
  return _shoot(rng, _paper(rng, ink, dark=rng.uniform(0.3, 0.8) * lines)), text


def _fill_cells(rng, split, text, cell, height, base, margin):
  """Digits in cells of a width in a row: ink, with a margin around the cells. All lengths in heights of a digit."""
  ink = np.zeros((round((height + 2 * margin) * _HEIGHT), round((len(text) * cell + 2 * margin) * _HEIGHT)), np.float32)
  size = rng.uniform(0.75, 0.95)
  for i, glyph in enumerate(draw_glyphs(rng, split, text, _any_pen(rng), (size, size))):
    x = margin + (i + 0.5) * cell + rng.uniform(-0.06, 0.06)
    _put(ink, glyph, x * _HEIGHT, (margin + base + rng.uniform(-0.06, 0.06)) * _HEIGHT)
  return ink


def boxes(rng, split):
  """Six digits, each in a printed box of its own."""
  text = _random_digits(rng, 6)
  cell, height, gap, margin = rng.uniform(1.2, 1.5), rng.uniform(1.3, 1.6), rng.uniform(0.06, 0.25), rng.uniform(0.3, 1)
  ink = _fill_cells(rng, split, text, cell, height, (height + 0.85) / 2, margin)
  thickness = rng.uniform(0.02, 0.05) * _HEIGHT
  lines = np.zeros_like(ink)
  for i in range(len(text)):
    left, right = (margin + i * cell + gap / 2) * _HEIGHT, (margin + (i + 1) * cell - gap / 2) * _HEIGHT
    box = _box(ink.shape, left, margin * _HEIGHT, right, (margin + height) * _HEIGHT, thickness)
    lines = np.maximum(lines, box)
  return _shoot(rng, _paper(rng, ink, dark=rng.uniform(0.25, 0.7) * lines)), text


def comb(rng, split):
  """Six digits over a comb: a line with a tick between each two."""
  text = _random_digits(rng, 6)
  cell, margin, tick = rng.uniform(1.1, 1.4), rng.uniform(0.3, 1), rng.uniform(0.2, 0.5)
  ink = _fill_cells(rng, split, text, cell, 1.3, 1.2, margin)
  thickness = rng.uniform(0.02, 0.05) * _HEIGHT
  left, right, base = margin * _HEIGHT, (margin + len(text) * cell) * _HEIGHT, (margin + 1.3) * _HEIGHT
  lines = _bar(ink.shape, base, thickness, 0, (left, right))
  for at in np.linspace(left, right, len(text) + 1):
    lines = np.maximum(lines, _bar(ink.shape, at, thickness, 1, (base - tick * _HEIGHT, base)))
  return _shoot(rng, _paper(rng, ink, dark=rng.uniform(0.3, 0.7) * lines)), text


def table(rng, split):
  """Two or three rows of numbers in the cells of a ledger."""
  rows, columns = rng.integers(2, 4, 2)
  numbers = [[_random_digits(rng, 1, 3) for _ in range(columns)] for _ in range(rows)]
  pen, high, wide, margin = _any_pen(rng), rng.uniform(1.5, 1.9), rng.uniform(3.4, 4), rng.uniform(0.2, 0.6)
  ink = np.zeros(
    (round((rows * high + 2 * margin) * _HEIGHT), round((columns * wide + 2 * margin) * _HEIGHT)), np.float32
  )
  for i, row in enumerate(numbers):
    for j, number in enumerate(row):
      glyphs = draw_glyphs(rng, split, number, pen, (0.85, 0.95))
      right = margin + (j + 1) * wide - rng.uniform(0.2, 0.5)
      for glyph in glyphs[::-1]:  # Flush right, as in ledgers.
        base = margin + (i + 1) * high - rng.uniform(0.2, 0.3)
        _put(ink, glyph, right * _HEIGHT - glyph.shape[1] / 2, base * _HEIGHT)
        right -= glyph.shape[1] / _HEIGHT + rng.uniform(0.08, 0.25)
  thickness = rng.uniform(0.02, 0.05) * _HEIGHT
  start, stop = margin * _HEIGHT, (margin + columns * wide) * _HEIGHT
  bottom = (margin + rows * high) * _HEIGHT
  lines = [_bar(ink.shape, at, thickness, 0, (start, stop)) for at in np.linspace(start, bottom, rows + 1)]
  lines += [_bar(ink.shape, at, thickness, 1, (start, bottom)) for at in np.linspace(start, stop, columns + 1)]
  scene = _paper(rng, ink, dark=rng.uniform(0.15, 0.5) * np.maximum.reduce(lines))
  return _shoot(rng, scene), '\n'.join(''.join(row) for row in numbers)


def _string(rng, split, text=None, margins=None, **options):
  """The ink of a text, by default of five digits, and the text."""
  text = text or _random_digits(rng, 5)
  ink = write(rng, split, text, **{'pen': _any_pen(rng)} | options)
  return trim(ink, _margins(rng) if margins is None else margins), text


def _ruling(shape, first, space, thickness, axis):
  """Parallel lines over all of an image, one of them at `first`: their ink."""
  places = np.arange(first % space, shape[axis], space)
  return np.maximum.reduce([_bar(shape, at, thickness, axis) for at in places])


def ruled(rng, split):
  """Five digits on ruled paper."""
  margins = _margins(rng, 0.5, 1.5)
  ink, text = _string(rng, split, margins=margins)
  first = ink.shape[0] - (margins[2] - rng.uniform(-0.05, 0.15)) * _HEIGHT
  lines = _ruling(ink.shape, first, rng.uniform(1.4, 2) * _HEIGHT, rng.uniform(0.015, 0.04) * _HEIGHT, axis=0)
  return _shoot(rng, _paper(rng, ink, dark=rng.uniform(0.15, 0.5) * lines)), text


def squared(rng, split):
  """Five digits on squared paper."""
  ink, text = _string(rng, split, margins=_margins(rng, 0.5, 1.5))
  space, thickness = rng.uniform(0.5, 1) * _HEIGHT, rng.uniform(0.015, 0.03) * _HEIGHT
  lines = [_ruling(ink.shape, rng.uniform(0, space), space, thickness, axis) for axis in (0, 1)]
  return _shoot(rng, _paper(rng, ink, dark=rng.uniform(0.12, 0.35) * np.maximum(*lines))), text


def desk(rng, split):
  """A sheet with five digits on a darker desk, seen at up to 30 degrees from the side and turned by up to 15."""
  ink, text = _string(rng, split, margins=_margins(rng, 0.6, 3.5))
  sheet = _paper(rng, ink, level=rng.uniform(190, 240))
  kind = ('flat', 'wood', 'dark')[rng.integers(3)]
  return photograph(rng, *_lay_on_desk(rng, sheet, kind, _any_factor(rng, _SHEET_PIXELS), tilt=30, turn=15)), text


def sideways(rng, split):
  """A sheet with five or six digits on a desk, photographed lying on its side or upside down."""
  ink, text = _string(rng, split, _random_digits(rng, 5, 6), _margins(rng, 0.6, 3.5))
  sheet = _paper(rng, np.ascontiguousarray(np.rot90(ink, rng.integers(1, 4))), level=rng.uniform(190, 240))
  kind = ('flat', 'wood', 'dark')[rng.integers(3)]
  return photograph(rng, *_lay_on_desk(rng, sheet, kind, _any_factor(rng, _SHEET_PIXELS), tilt=10, turn=4)), text


def vignette(rng, split):
  """Five digits under light that falls to about a half in the corners."""
  ink, text = _string(rng, split, margins=_margins(rng, 0.3, 2))
  return _shoot(rng, _paper(rng, ink), vignette=rng.uniform(0.45, 0.65)), text


def date(rng, split):
  """A date in one of three ways of writing."""
  day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1950, 2030)
  texts = f'{day:02}/{month:02}/{year}', f'{day}.{month}.{year}', f'{year}-{month:02}-{day:02}'
  ink, text = _string(rng, split, texts[rng.integers(3)])
  return _shoot(rng, _paper(rng, ink)), text


def time(rng, split):
  """A time of day."""
  ink, text = _string(rng, split, f'{rng.integers(24):02}:{rng.integers(60):02}')
  return _shoot(rng, _paper(rng, ink)), text


def phone(rng, split):
  """A telephone number."""
  first, last = (3, 7) if rng.random() < 0.5 else (3, 4)
  ink, text = _string(rng, split, f'{_random_digits(rng, first)}-{_random_digits(rng, last)}')
  return _shoot(rng, _paper(rng, ink)), text


def amount(rng, split):
  """An amount of money."""
  ink, text = _string(rng, split, f'{rng.integers(10, 10_000):,}.{rng.integers(100):02}')
  return _shoot(rng, _paper(rng, ink)), text


def slope(rng, split):
  """Five digits on a line that rises or falls by up to ten degrees."""
  ink, text = _string(rng, split, margins=(0, 0, 0, 0))
  ink = ndimage.rotate(ink, rng.uniform(-10, 10), order=1)
  return _shoot(rng, _paper(rng, trim(np.clip(ink, 0, 1), _margins(rng)))), text


def mixed_sizes(rng, split):
  """Five digits from 0.6 to 1.4 of the line's height."""
  ink, text = _string(rng, split, sizes=(0.6, 1.4))
  return _shoot(rng, _paper(rng, ink)), text


def touching(rng, split):
  """Five digits whose boxes touch or overlap by a pixel of MNIST."""
  ink, text = _string(rng, split, gap=(-1, 0))
  return _shoot(rng, _paper(rng, ink)), text


def two_lines(rng, split):
  """Two lines of four to six digits."""
  pen, space = _any_pen(rng), rng.uniform(0.25, 0.8)
  margins = _margins(rng)
  lines = [_string(rng, split, _random_digits(rng, 4, 6), (space / 2, 0, space / 2, 0), pen=pen) for _ in range(2)]
  width = max(ink.shape[1] for ink, _ in lines)
  ink = np.concatenate([np.pad(ink, ((0, 0), (0, width - ink.shape[1]))) for ink, _ in lines])
  return _shoot(rng, _paper(rng, trim(ink, margins))), '\n'.join(text for _, text in lines)


KINDS = {
  function.__name__.replace('_', ' '): function
  for function in (
    *(single, pencil, hairline, thick, light_on_dark, edge),
    *(framed, boxes, comb, table, ruled, squared),
    *(desk, sideways, vignette),
    *(date, time, phone, amount),
    *(slope, mixed_sizes, touching, two_lines),
  )
}


# The measurement.


def compose(seed, kind, number, split):
  """A picture of a kind and its text, the same for the same arguments."""
  # The name is part of the seed, so that adding a kind does not change the others.
  return KINDS[kind](np.random.default_rng([seed, number, *kind.encode()]), split)


def score(answer, read, confidence):
  """What one answer adds to the counts of its kind."""
  right = photos.digits_of(read) == photos.digits_of(answer)
  sure = confidence >= photos.SURE
  return {
    'num': 1,
    'text': int(read.replace(' ', '') == answer),
    'digits': int(right),
    'length': len(photos.digits_of(answer)),
    'errors': photos.count_errors(photos.digits_of(answer), photos.digits_of(read)),
    'sure': int(sure),
    'sure_right': int(sure and right),
  }


def measure(run, pictures, temperature):
  """Reads pictures of a kind, an iterable of images and their texts, and adds up their scores."""
  total = {}
  for image, answer in pictures:
    for name, value in score(answer, *photos.read_picture(image, answer, run, temperature)).items():
      total[name] = total.get(name, 0) + value
  return total


def format_row(kind, counts):
  """A line of the table."""
  shares = counts['text'] / counts['num'], counts['digits'] / counts['num'], counts['errors'] / counts['length']
  return f'{kind:16}' + ''.join(f'{share:>9.1%}' for share in shares) + f'{counts["sure_right"]:>9}/{counts["sure"]}'


def draw_sheet(pictures, columns=4, width=360, height=240):
  """A contact sheet of named pictures."""
  rows = -(-len(pictures) // columns)
  sheet = Image.new('L', (columns * width, rows * height), 128)
  pen = ImageDraw.Draw(sheet)
  for i, (name, image) in enumerate(pictures.items()):
    left, top = i % columns * width, i // columns * height
    picture = Image.fromarray(image)
    picture.thumbnail((width - 10, height - 26))
    pen.text((left + 5, top + 3), name, fill=255, font=ImageFont.load_default(14))
    sheet.paste(picture, (left + 5, top + 22))
  return sheet


def main(argv=None):
  """Runs the command."""
  parser = cli.ArgumentParser(
    prog='python -m measurements.paper', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='of a run')
  parser.add_argument('--num', type=int, default=200, help='pictures of each kind')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS), metavar='KIND', help=', '.join(KINDS))
  parser.add_argument('--split', default='test', choices=('train', 'valid', 'test'), help='where the digits are from')
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write the counts there')
  parser.add_argument('--sheet', type=pathlib.Path, metavar='FILE.png', help='draw an example of each kind there only')
  args = parser.parse_args(argv)
  transfer.check_json(args.json)
  run = runs.load_run(args.workdir)
  split = getattr(data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation), args.split)
  if args.sheet:
    examples = {}
    for kind in args.kinds:
      image, answer = compose(args.seed, kind, 0, split)
      examples[f'{kind}: {answer}'.replace('\n', ' | ')] = image
    draw_sheet(examples).save(args.sheet)
    return
  temperature = predict.load_temperature(run)
  measured = {}
  print(f'{"":16}{"text":>9}{"digits":>9}{"wrong":>9}{"sure":>9}')
  for kind in args.kinds:
    pictures = (compose(args.seed, kind, number, split) for number in range(args.num))
    measured[kind] = measure(run, pictures, temperature)
    print(format_row(kind, measured[kind]), flush=True)
  if args.json:
    settings = {'model': run.config.model, 'split': args.split, 'seed': args.seed, 'num': args.num}
    args.json.write_text(json.dumps(settings | {'kinds': measured}, indent=2) + '\n')


if __name__ == '__main__':
  cli.run(main)
