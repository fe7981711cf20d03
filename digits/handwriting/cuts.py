"""Cuts between digits that touch: paths from the top of a piece to its bottom that cross little ink."""

import math
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np
from scipy import ndimage

from digits.handwriting import pieces

# Fractions of the height of the digits in the line.
WIDE = 0.8  # A piece that is wider may be several digits.
LEAST_PART = 0.15  # The least width of what is cut off.
_LEAST_INK = 0.4  # The least ink of what is cut off, for a stroke of the pen that is as high as a digit.
_REACH = 0.12  # How far a path may bend from a straight line.
_APART = 0.1  # How far paths are from each other, on average.
_BENT = 0.02  # What a step aside costs, in pixels of ink.
_SLANTS = (-25, -12, 0, 12, 25)  # Degrees to the right of upright, of the straight lines.
_DENSITY = 6  # The most cuts, for each height that the piece is wide.
_THICK = (
  1.5  # Widths of the pen: a stroke that is crossed counts as at most so thick, as where digits touch along a side.
)


class Cut(NamedTuple):
  """A path through a piece.

  Attributes:
    columns: for each row of the piece, the first column to the right of the path.
    crossed: the strokes that it crosses, in widths of the pen.
  """

  columns: Int[np.ndarray, ' height']
  crossed: float


def find_cuts(piece: pieces.Piece, height: float, pen: float) -> list[Cut]:
  """Cuts that may part digits, from left to right; none where the piece is not wide.

  Args:
    piece: the piece.
    height: of the digits in the line.
    pen: the width of its strokes.
  """
  if piece.width < WIDE * max(height, piece.height):
    return []
  reach = round(_REACH * height)
  # For each cut, the column that is at the left end of its band in each row, and the ink of the band.
  starts, bands = [], []
  for slant in _SLANTS:
    # In the sheared picture the lines are upright.
    shifts = np.rint(math.tan(math.radians(slant)) * (np.arange(piece.height) - (piece.height - 1) / 2)).astype(int)
    margin = int(np.abs(shifts).max()) + reach
    sheared = np.zeros((piece.height, piece.width + 2 * margin), np.float32)
    for row, shift in enumerate(shifts):
      sheared[row, margin + shift : margin + shift + piece.width] = piece.ink[row]
    for column in _find_thin_columns(sheared, margin + round(LEAST_PART * height), height):
      starts.append(column - reach - margin - shifts)
      bands.append(sheared[:, column - reach : column + reach + 1])
  if not bands:
    return []
  paths = _find_paths(np.stack(bands))
  crossed = [_count_crossed(ink[np.arange(len(path)), path], pen) for ink, path in zip(bands, paths, strict=True)]
  columns = np.clip(paths + np.stack(starts), 0, piece.width)
  chosen: list[Cut] = []
  left = [piece.ink[np.arange(piece.width) < path[:, None]].sum() for path in columns]
  least = _LEAST_INK * height * pen
  for i in np.argsort(crossed, kind='stable').tolist():
    if least <= left[i] <= piece.ink.sum() - least and all(
      np.abs(columns[i] - other.columns).mean() > _APART * height for other in chosen
    ):
      chosen.append(Cut(columns[i], crossed[i]))
    if len(chosen) >= _DENSITY * piece.width / height:
      break
  return sorted(chosen, key=lambda cut: float(cut.columns.mean()))


def _find_thin_columns(ink: Float[np.ndarray, 'height width'], edge: int, height: float) -> list[int]:
  """Columns that have little ink for their neighbourhood, not near the edge."""
  profile = ndimage.gaussian_filter1d(ink.sum(0), 0.03 * height, mode='nearest')
  lowest = ndimage.minimum_filter1d(profile, max(3, round(LEAST_PART * height)), mode='nearest')
  return [int(column) for column in np.flatnonzero(profile == lowest) if edge <= column < ink.shape[1] - edge]


def _find_paths(
  ink: Float[np.ndarray, 'n height width'],
) -> Int[np.ndarray, 'n height']:
  """The paths from top to bottom, by at most one column a row, that cross least ink."""
  num, height, width = ink.shape
  away = _BENT * np.abs(np.arange(width) - width // 2) / width
  totals, steps = ink[:, 0] + away, np.zeros((num, height, width), int)
  for row in range(1, height):
    padded = np.pad(totals, ((0, 0), (1, 1)), constant_values=np.inf)
    # Straight on where nothing is gained by a step.
    before = np.stack([padded[:, 1:-1], padded[:, :-2] + _BENT, padded[:, 2:] + _BENT])
    steps[:, row] = np.array([0, -1, 1])[before.argmin(0)]
    totals = before.min(0) + ink[:, row] + away
  paths, every = np.zeros((num, height), int), np.arange(num)
  paths[:, -1] = totals.argmin(1)
  for row in range(height - 1, 0, -1):
    paths[:, row - 1] = paths[:, row] + steps[every, row, paths[:, row]]
  return paths


def _count_crossed(ink: Float[np.ndarray, ' height'], pen: float) -> float:
  """How much of the pen's width a path crosses; `ink` is what is on it."""
  labels, count = ndimage.label(ink)
  return float(np.minimum(ndimage.sum_labels(ink, labels, range(1, count + 1)) / pen, _THICK).sum())


def take_part(piece: pieces.Piece, start: Cut | None, stop: Cut | None) -> pieces.Piece | None:
  """What lies between two cuts, None for the ends of the piece; None where no ink is."""
  if start is None and stop is None:
    return piece
  columns = np.arange(piece.width)
  inside = np.ones(piece.ink.shape, bool)
  if start is not None:
    inside &= columns >= start.columns[:, None]
  if stop is not None:
    inside &= columns < stop.columns[:, None]
  return pieces.trim(pieces.Piece(piece.top, piece.left, np.where(inside, piece.ink, 0)))
