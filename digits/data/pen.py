"""Strokes and characters drawn large, by a hand that is never the same, then prepared as MNIST's digits are."""

from collections.abc import Iterable, Sequence
import functools
import math
import pathlib
from typing import TypeAlias

from jaxtyping import Float, UInt8
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from digits.data import arrays
from digits.data.center import center

# What a pen draws without being lifted: points (x, y) in a box of height 1, y downwards. A point that is given twice is
# a corner; the pen goes smoothly through all others.
Stroke: TypeAlias = list[tuple[float, float]]
Ink: TypeAlias = Float[np.ndarray, 'side side']

SIDE = 140  # Pictures are drawn five times as large as MNIST's: the box of 20 pixels has 100.
BOX = 100
_SPACING = 1.5  # Pixels from one dab of the pen to the next.
_NODES = 4  # A side of the coarse grid that bends what fonts print, and how it is interpolated.
_SMOOTH = ndimage.zoom(np.eye(_NODES), (SIDE / _NODES, 1), order=3)
_CHUNK = 512  # This many are prepared at a time, to save memory.

# Those of Matplotlib's fonts that have digits and letters in the usual places. DejaVu Sans Mono has a dotted zero.
FONTS = (
  *(f'DejaVuSans{kind}' for kind in ('', '-Bold', '-Oblique', '-BoldOblique')),
  *(f'DejaVuSerif{kind}' for kind in ('', '-Bold', '-Italic', '-BoldItalic')),
  *(f'DejaVuSansMono{kind}' for kind in ('', '-Bold', '-Oblique')),
  *(f'STIXGeneral{kind}' for kind in ('', 'Bol', 'BolIta', 'Italic')),
  *('cmr10', 'cmb10', 'cmss10', 'cmtt10'),
)
DEFAULT_FONT = 'Pillow'  # The one that Pillow brings.


def prepare(inks: Iterable[Ink]) -> UInt8[np.ndarray, 'n 28 28 1']:
  """Gives drawings the size and the place that MNIST's digits have."""
  pictures, chunk = [np.zeros((0, *arrays.IMAGE_SHAPE[:2]), np.uint8)], []
  for ink in inks:
    chunk.append(ink)
    if len(chunk) == _CHUNK:
      pictures.append(center(np.stack(chunk)))
      chunk = []
  if chunk:
    pictures.append(center(np.stack(chunk)))
  return np.concatenate(pictures)[..., None]


def draw_strokes(rng: np.random.Generator, strokes: Sequence[Stroke], loose: float = 0.025) -> Ink:
  """Draws strokes with a pen, by a hand that is never the same.

  Args:
    rng: random numbers.
    strokes: what to draw.
    loose: standard deviation of the points, as a part of the height.
  """
  roundness = rng.uniform(0.75, 1.1)
  paths = [_follow(rng, stroke, loose, roundness) for stroke in strokes]
  places = np.concatenate(paths)
  places = places * [rng.uniform(0.8, 1.2), 1] - [0, 0.5]
  places[:, 0] -= rng.normal(0.1, 0.16) * places[:, 1]  # Slant; more hands lean to the right.
  angle = math.radians(rng.normal(0, 4))
  places = places @ [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
  low, high = places.min(0), places.max(0)
  width = BOX * min(math.exp(rng.normal(math.log(0.095), 0.4)), 0.2)
  places = (places - (low + high) / 2) * (BOX - width) / (high - low).max() + SIDE / 2
  # How hard the pen is pressed changes along the way, and at the ends of a stroke it is put on and lifted.
  pressure, lift = rng.uniform(0, 0.2), rng.uniform(0, 0.6) * (rng.random() < 0.5)
  image = Image.new('L', (SIDE, SIDE))
  canvas = ImageDraw.Draw(image)
  for path in np.split(places, np.cumsum([len(path) for path in paths])[:-1]):
    path = _respace(path)
    along = np.linspace(0, 1, len(path))
    ends = np.minimum(along, 1 - along) * len(path) * _SPACING / width
    radius = width / 2 * (1 + pressure * np.cos(2 * math.pi * (rng.uniform(1, 2) * along + rng.random())))
    radius = np.maximum(radius * (1 - lift * np.maximum(1 - ends, 0)), 1)
    for (x, y), r in zip(path, radius, strict=True):
      canvas.ellipse((x - r, y - r, x + r, y + r), 255)
  return _blur(rng, image)


def draw_text(rng: np.random.Generator, text: str, font: str) -> Ink:
  """Draws what a font prints, thinner or thicker, slanted, turned and bent.

  Args:
    rng: random numbers.
    text: one character.
    font: a name as `choose_font` gives it.
  """
  image = Image.new('L', (SIDE, SIDE))
  ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), text, fill=255, font=_load_font(font), anchor='mm')
  ink = np.asarray(image, np.float32) / 255
  size = int(rng.integers(0, 4)) * 2 + 1
  thick = ndimage.grey_dilation(ink, (size, size))
  ink = thick if rng.random() < 0.7 else ndimage.grey_erosion(ink, (3, 3))
  return bend(rng, ink if ink.any() else thick)


def choose_font(rng: np.random.Generator) -> str:
  """Draws the name of a font."""
  return str(rng.choice((DEFAULT_FONT, *FONTS)))


def bend(rng: np.random.Generator, ink: Ink) -> Ink:
  """Slants, turns, stretches and bends a drawing."""
  angle = math.radians(rng.normal(0, 5))
  turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
  shear = np.array([[1, 0], [rng.normal(0.05, 0.15), rng.uniform(0.8, 1.25)]])
  grid = np.indices(ink.shape).reshape(2, -1) - SIDE / 2
  field = _SMOOTH @ rng.normal(0, 2.2, (2, _NODES, _NODES)) @ _SMOOTH.T
  # By 0.9, so that little of it is bent out of the picture.
  source = turn @ shear @ grid / 0.9 + SIDE / 2 + field.reshape(2, -1)
  return ndimage.map_coordinates(ink, source, order=1).reshape(ink.shape).astype(np.float32)


def line(*points: tuple[float, float]) -> Stroke:
  """A stroke of straight lines with corners."""
  return [points[0], *(point for point in points[1:-1] for _ in range(2)), points[-1]]


def arc(x: float, y: float, width: float, height: float, start: float, stop: float) -> Stroke:
  """A part of an ellipse.

  Args:
    x: its middle.
    y: its middle.
    width: half of its width.
    height: half of its height.
    start: where the pen starts, in degrees, counterclockwise from the right.
    stop: where the pen stops; less than `start` for clockwise.
  """
  angles = np.radians(np.linspace(start, stop, max(3, round(abs(stop - start) / 40) + 1)))
  return [(x + width * math.cos(angle), y - height * math.sin(angle)) for angle in angles]


def _follow(rng: np.random.Generator, stroke: Stroke, loose: float, roundness: float) -> Float[np.ndarray, 'places 2']:
  """The way of a pen through the points of a stroke, each a little off: cubic Hermite pieces (Catmull and Rom 1974)."""
  pieces: list[list[tuple[float, float]]] = [[]]
  for previous, point in zip([None, *stroke], stroke, strict=False):
    if point == previous:
      pieces.append([pieces[-1][-1]])
    else:
      dx, dy = rng.normal(0, loose, 2)
      pieces[-1].append((point[0] + dx, point[1] + dy))
  path = []
  for piece in pieces:
    if len(piece) == 2:  # Nobody draws a line quite straight.
      (x0, y0), (x1, y1) = piece
      bow = rng.normal(0, loose)
      piece = [piece[0], ((x0 + x1) / 2 + bow * (y1 - y0), (y0 + y1) / 2 - bow * (x1 - x0)), piece[1]]
    points = np.array(piece)
    tangents = roundness * np.gradient(points, axis=0)
    t = np.linspace(0, 1, 16)[:, None, None]
    p, q, m, n = points[:-1], points[1:], tangents[:-1], tangents[1:]
    way = (2 * t**3 - 3 * t**2 + 1) * p + (t**3 - 2 * t**2 + t) * m + (3 * t**2 - 2 * t**3) * q + (t**3 - t**2) * n
    path.append(way.transpose(1, 0, 2).reshape(-1, 2))
  return np.concatenate(path)


def _respace(path: Float[np.ndarray, 'places 2']) -> Float[np.ndarray, 'dabs 2']:
  """Places along a path at even distances."""
  distance = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
  even = np.linspace(0, distance[-1], max(2, math.ceil(distance[-1] / _SPACING)))
  return np.stack([np.interp(even, distance, path[:, axis]) for axis in range(2)], 1)


def _blur(rng: np.random.Generator, image: Image.Image) -> Ink:
  """Ink with soft edges, as scans have them."""
  ink = ndimage.gaussian_filter(np.asarray(image, np.float32) / 255, rng.uniform(0.5, 2.5))
  return np.where(ink > 0.02, ink, 0)


@functools.cache
def _load_font(name: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
  if name == DEFAULT_FONT:
    return ImageFont.load_default(BOX)
  return ImageFont.truetype(pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', f'{name}.ttf'), BOX)
