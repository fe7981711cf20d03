"""Signs between digits: dashes, dots, commas, colons and slashes, known by their shape and place in the line."""

import math
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from digits.handwriting import pieces

# The shape and place of signs, in heights of the line's digits and in degrees. Where a quantity is beyond its bound by
# the softness that goes with it, a sign is e times less likely.
_SOFT_LENGTH = 0.03
_SOFT_ANGLE = 3.0
_SOFT_RATIO = 0.15
_LARGEST_DOT = 0.32
_LONGEST_COMMA = 0.6
_LONGEST_DASH = 1.0
_SHORTEST = 0.16  # Of a stroke that is a comma or a dash.
_LEAST_SLASH = 1.12
_TALLER = 1.05  # A slash is higher by this than the highest digit that is no straight stroke.
_ROUND = 1.9  # Length for width of a dot at most, and of a stroke at least.
_LOW = 0.35  # A dot or a comma has its middle below this height above the base line, and above its negative.
_MIDDLE = (0.12, 0.85)  # A dash has its middle between these heights.
_FLAT = 60  # A dash leans by more than this from upright, other strokes by less.
_STRAIGHT_RATIO = 4.0  # Length for thickness of what may be a slash.
_STRAIGHT = 1.6  # Thickness of a straight stroke, in widths of the pen.
_LEAST_THICK = 0.55  # A sign is at least so thick, in widths of the pen.
_SLASH_LEAN = 12.0  # A slash leans to the right by more than this.
_COLON = (0.2, 0.85)  # How far the dots of a colon are from each other.


class Geometry(NamedTuple):
  """What a line of writing is like, in pixels.

  Attributes:
    base: the row that the digits stand on.
    height: of the digits.
    pen: the width of the strokes.
    tallest: the height of the highest digit that is no straight stroke.
  """

  base: float
  height: float
  pen: float
  tallest: float


class Shape(NamedTuple):
  """A piece as a straight stroke: its length and thickness in pixels, its lean to the right in degrees, its centre."""

  length: float
  thickness: float
  lean: float
  x: float
  y: float


def measure_shape(piece: pieces.Piece) -> Shape:
  """The stroke with the piece's moments."""
  rows, columns = np.nonzero(piece.ink)
  weights = piece.ink[rows, columns]
  total = weights.sum()
  x, y = (weights @ columns) / total, (weights @ rows) / total
  dx, dy = columns - x, rows - y
  # A pixel has an extent of its own, of variance 1/12.
  xx, yy = (weights @ dx**2) / total + 1 / 12, (weights @ dy**2) / total + 1 / 12
  xy = (weights @ (dx * dy)) / total
  middle, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
  lean = math.degrees(0.5 * math.atan2(-2 * xy, yy - xx))
  # The variance of an even stroke is a twelfth of its length squared.
  return Shape(
    math.sqrt(12 * (middle + half)), math.sqrt(12 * max(middle - half, 1 / 12)), lean, piece.left + x, piece.top + y
  )


def measure_pen(ink: Float[np.ndarray, 'height width']) -> float:
  """The width of the strokes: twice their area for each length of their outline."""
  padded = np.pad(ink, 1)
  outline = np.hypot(np.diff(padded, axis=0)[:, 1:], np.diff(padded, axis=1)[1:]).sum()
  return float(2 * ink.sum() / max(outline, 1e-9))


def measure_line(digits: list[pieces.Piece]) -> Geometry:
  """The geometry of a line.

  Args:
    digits: its pieces that are as high as digits.
  """
  height = pieces.line_height(digits)
  heights = [height]
  for piece in digits:
    shape = measure_shape(piece)
    if piece.width <= height and shape.length < _STRAIGHT_RATIO * shape.thickness:
      heights.append(float(piece.height))
  return Geometry(
    base=float(np.median([piece.bottom for piece in digits])),
    height=height,
    pen=float(np.median([measure_pen(piece.ink) for piece in digits])),
    tallest=max(heights),
  )


def find_signs(piece: pieces.Piece, line: Geometry) -> dict[str, float]:
  """How probable it is that a piece is each sign that is one piece, from 0 to 1; together at most 1."""
  shape = measure_shape(piece)
  length, up = shape.length / line.height, (line.base - shape.y) / line.height
  ratio = shape.length / shape.thickness
  side = max(piece.height, piece.width) / line.height
  thick = _above(min(shape.thickness, shape.length) / line.pen, _LEAST_THICK, _SOFT_RATIO)
  low = _above(up, -_LOW, _SOFT_LENGTH) * _below(up, _LOW, _SOFT_LENGTH)
  stroke = _above(ratio, _ROUND, _SOFT_RATIO) * _above(length, _SHORTEST, _SOFT_LENGTH)
  is_dot = 1 - stroke
  is_flat = _above(abs(shape.lean), _FLAT, _SOFT_ANGLE)
  middle = _above(up, _MIDDLE[0], _SOFT_LENGTH) * _below(up, _MIDDLE[1], _SOFT_LENGTH)
  straight = _below(shape.thickness / line.pen, _STRAIGHT, _SOFT_RATIO) * thick
  return {
    '.': thick * low * is_dot * _below(side, _LARGEST_DOT, _SOFT_LENGTH),
    ',': straight * low * stroke * (1 - is_flat) * _below(length, _LONGEST_COMMA, _SOFT_LENGTH),
    '-': straight * middle * stroke * is_flat * _below(length, _LONGEST_DASH, _SOFT_LENGTH),
    '/': straight
    * _above(piece.height / line.height, max(_LEAST_SLASH, _TALLER * line.tallest / line.height), _SOFT_LENGTH)
    * _above(shape.lean, _SLASH_LEAN, _SOFT_ANGLE)
    * _below(shape.lean, _FLAT, _SOFT_ANGLE),
  }


def find_colon(first: pieces.Piece, second: pieces.Piece, line: Geometry) -> float:
  """How probable it is that two pieces are the dots of a colon, from 0 to 1."""
  shapes = [measure_shape(piece) for piece in (first, second)]
  upper, lower = sorted(shapes, key=lambda shape: shape.y)
  apart = (lower.y - upper.y) / line.height
  up = (line.base - lower.y) / line.height
  probability = _above(apart, _COLON[0], _SOFT_LENGTH) * _below(apart, _COLON[1], _SOFT_LENGTH)
  probability *= _above(up, -_LOW, _SOFT_LENGTH) * _below(up, 1.5 * _LOW, _SOFT_LENGTH)
  probability *= _below(abs(upper.x - lower.x) / line.height, 0.2, _SOFT_LENGTH)
  for piece, shape in zip((first, second), shapes, strict=True):
    probability *= _below(max(piece.height, piece.width) / line.height, _LARGEST_DOT, _SOFT_LENGTH)
    probability *= _above(min(shape.thickness, shape.length) / line.pen, _LEAST_THICK, _SOFT_RATIO)
  return probability


def _above(value: float, bound: float, softness: float) -> float:
  return 1 / (1 + math.exp(min(50.0, (bound - value) / softness)))


def _below(value: float, bound: float, softness: float) -> float:
  return _above(-value, -bound, softness)
