"""Pieces of ink: found, grouped into lines of writing, and joined where a digit is broken."""

import itertools
import math
from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np
from scipy import ndimage

# Fractions of the height of the digits in the line.
LEAST_DIGIT = 0.4  # A piece that is less high belongs to a neighbour, or is dropped.
NEAR = 0.15  # The widest gap inside a broken digit.
_BAND = 0.05  # A piece is level with a line if its middle is not farther than this from its digits.
# A line is at least this part as high as the highest; one that is much lower than that has so many pieces.
_LEAST_LINE = 0.2
_LOW_LINE = 0.6
_LEAST_SMALL = 3
# A second digit has at least this fraction of the ink of the one with the most.
_LEAST_INK = 0.15
_TOO_WIDE = 1.7  # Width of a piece, as a fraction of its height, that only touching digits have.
_MANY = 30  # No digit is broken into so many pieces.
_LONG_SIDE = 400  # Pixels along the longer side of the ink, which are enough to tell one digit from several.


class Piece(NamedTuple):
  """Ink, and where in the picture its first pixel is."""

  top: int
  left: int
  ink: Float[np.ndarray, 'height width']

  @property
  def bottom(self) -> int:
    """The first row below."""
    return self.top + self.height

  @property
  def right(self) -> int:
    """The first column to the right."""
    return self.left + self.width

  @property
  def height(self) -> int:
    """Number of rows."""
    return self.ink.shape[0]

  @property
  def width(self) -> int:
    """Number of columns."""
    return self.ink.shape[1]


def find_several(ink: Float[np.ndarray, 'n height width']) -> Bool[np.ndarray, ' n']:
  """Whether images seem to show more than one digit: apart, or touching and too wide for one.

  Args:
    ink: 0 for paper, from `prepare`.
  """
  if len(ink) == 1:
    ink = _shrink(ink[0])[None]
  structure = np.zeros((3, 3, 3), bool)
  structure[1] = True  # Pieces touch by sides or corners, within an image and never across images.
  boxes = ndimage.find_objects(ndimage.label(ink, structure)[0])
  several = np.zeros(len(ink), bool)
  for image, group in itertools.groupby(boxes, key=lambda box: box[0].start):
    (_, rows, columns), *others = group
    if len(others) >= _MANY:
      several[image] = True
    elif others:
      parts = [part for line in find_lines(ink[image]) for part in line]
      least = _LEAST_INK * max(part.ink.sum() for part in parts)
      digits = [part for part in parts if part.ink.sum() >= least]
      several[image] = len(digits) > 1 or digits[0].width > _TOO_WIDE * digits[0].height
    else:
      several[image] = columns.stop - columns.start > _TOO_WIDE * (rows.stop - rows.start)
  return several


def _shrink(ink: Float[np.ndarray, 'height width']) -> Float[np.ndarray, 'h w']:
  """The box that holds the ink, reduced to about `_LONG_SIDE` so that strokes stay in one piece."""
  rows, columns = np.flatnonzero(ink.max(1)), np.flatnonzero(ink.max(0))
  if len(rows):
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
  factor = math.ceil(max(ink.shape) / _LONG_SIDE)
  if factor == 1:
    return ink
  ink = np.pad(ink, [(0, -length % factor) for length in ink.shape])
  ink = np.max([ink[start::factor] for start in range(factor)], 0)  # Faster than `np.maximum.reduceat`.
  return np.max([ink[:, start::factor] for start in range(factor)], 0)


def find_lines(ink: Float[np.ndarray, 'height width']) -> list[list[Piece]]:
  """Lines of writing from top to bottom, each with what may be its digits, in order from left to right."""
  return [_join_broken(line) for line in group_lines(find_pieces(ink))]


def find_pieces(ink: Float[np.ndarray, 'height width']) -> list[Piece]:
  """Pieces of ink, which touch by sides or corners."""
  labels, _ = ndimage.label(ink, np.ones((3, 3)))
  return [
    Piece(box[0].start, box[1].start, np.where(labels[box] == label, ink[box], 0))
    for label, box in enumerate(ndimage.find_objects(labels), 1)
  ]


def line_height(pieces: list[Piece]) -> float:
  """The height of a line's digits: the median of its pieces, without the small ones."""
  heights = np.array([piece.height for piece in pieces])
  return float(np.median(heights[heights >= heights.max() / 2]))


def group_lines(pieces: list[Piece]) -> list[list[Piece]]:
  """Groups pieces into level lines of writing from top to bottom, which may differ in size.

  Small pieces go to the line that is nearest, whether they are signs or specks.
  """
  if not pieces:
    return []
  lines: list[list[Piece]] = []
  low: list[Piece] = []
  # From the highest down: what is much lower than the line that it is level with belongs to it, but starts none.
  for piece in sorted(pieces, key=lambda piece: -piece.height):
    distances = [_away(line, piece) for line in lines]
    nearest = int(np.argmin(distances)) if lines else -1
    if lines and distances[nearest] <= 0:
      if piece.height >= LEAST_DIGIT * line_height(lines[nearest]):
        lines[nearest].append(piece)
      else:
        low.append(piece)
    elif not lines or piece.height >= _LEAST_LINE * line_height(lines[0]):
      lines.append([piece])
    else:
      low.append(piece)
  # A line of smaller writing has several pieces; a single one belongs to its neighbours, as a comma does.
  highest = max(line_height(line) for line in lines)
  real = [line for line in lines if line_height(line) >= _LOW_LINE * highest or len(line) >= _LEAST_SMALL]
  low += [piece for line in lines if not any(line is other for other in real) for piece in line]
  for piece in low:
    real[int(np.argmin([_away(line, piece) for line in real]))].append(piece)
  return sorted(real, key=lambda line: float(np.mean([piece.top + piece.bottom for piece in line])))


def _away(line: list[Piece], piece: Piece) -> float:
  """How far the middle of a piece is above or below the middle part of a line, in heights of the line; at least 0."""
  height = line_height(line)
  high = [other for other in line if other.height >= height / 2]
  top, bottom = (float(np.median([getattr(other, side) for other in high])) for side in ('top', 'bottom'))
  middle = (piece.top + piece.bottom) / 2
  margin = _BAND * height
  return max(0.0, top - margin - middle, middle - bottom - margin) / height


def _join_broken(pieces: list[Piece]) -> list[Piece]:
  """Joins the parts of broken digits, and drops what is too small for a digit and not near one."""
  height = line_height(pieces)
  digits, small = _split_by_height(pieces, LEAST_DIGIT * height)
  # Small pieces first join each other: a digit may be broken into nothing else.
  clusters: list[Piece] = []
  for piece in sorted(small, key=lambda piece: piece.left):
    if clusters and gap(clusters[-1], piece) <= NEAR * height:
      clusters[-1] = join(clusters[-1], piece)
    else:
      clusters.append(piece)
  high, low = _split_by_height(clusters, LEAST_DIGIT * height)
  digits += high
  for piece in low:
    gaps = [gap(piece, digit) for digit in digits]
    nearest = int(np.argmin(gaps))
    if gaps[nearest] <= NEAR * height:
      digits[nearest] = join(digits[nearest], piece)
  digits.sort(key=lambda piece: piece.left + piece.right)
  joined: list[Piece] = []
  for piece in digits:
    # Of two high pieces in the same columns, one above the other is a broken digit; side by side they are slanted ones.
    if joined and is_stacked(joined[-1], piece):
      joined[-1] = join(joined[-1], piece)
    else:
      joined.append(piece)
  return joined


def _split_by_height(pieces: list[Piece], least: float) -> tuple[list[Piece], list[Piece]]:
  return [piece for piece in pieces if piece.height >= least], [piece for piece in pieces if piece.height < least]


def gap(a: Piece, b: Piece) -> float:
  """Distance between two boxes, pixels."""
  return math.hypot(
    max(0, a.left - b.right, b.left - a.right),
    max(0, a.top - b.bottom, b.top - a.bottom),
  )


def is_stacked(a: Piece, b: Piece) -> bool:
  """Whether two pieces are in the same columns, one above the other, as the parts of a broken digit may be."""
  columns = min(a.right, b.right) - max(a.left, b.left)
  rows = min(a.bottom, b.bottom) - max(a.top, b.top)
  return columns > min(a.width, b.width) / 2 and rows < min(a.height, b.height) / 2


def join(a: Piece, b: Piece) -> Piece:
  """The ink of both pieces as one."""
  top, left = min(a.top, b.top), min(a.left, b.left)
  ink = np.zeros((max(a.bottom, b.bottom) - top, max(a.right, b.right) - left), np.float32)
  for piece in (a, b):
    place = ink[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left]
    np.maximum(place, piece.ink, out=place)
  return Piece(top, left, ink)


def trim(piece: Piece) -> Piece | None:
  """The piece without empty rows and columns at its sides; None where it has no ink."""
  rows, columns = np.flatnonzero(piece.ink.any(1)), np.flatnonzero(piece.ink.any(0))
  if not len(rows):
    return None
  ink = piece.ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
  return Piece(piece.top + int(rows[0]), piece.left + int(columns[0]), ink)
