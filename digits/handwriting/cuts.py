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
_REACH = 0.12  # How far a path may bend from a straight line.
_APART = 0.06  # How far paths are from each other, on average.
_SLANTS = (-25, -12, 0, 12, 25)  # Degrees to the right of upright, of the straight lines.
_MAX_CUTS = 10


class Cut(NamedTuple):
  """A path through a piece.

  Attributes:
    columns: for each row of the piece, the first column to the right of the path.
    ink: what it crosses, in pixels.
  """

  columns: Int[np.ndarray, ' height']
  ink: float


def find_cuts(piece: pieces.Piece, height: float) -> list[Cut]:
  """Cuts that may part digits, from left to right; none where the piece is not wide.

  Args:
    piece: the piece.
    height: of the digits in the line.
  """
  if piece.width < WIDE * height:
    return []
  found = sorted((cut for slant in _SLANTS for cut in _find_slanted(piece, height, slant)), key=lambda cut: cut.ink)
  chosen: list[Cut] = []
  for cut in found:
    if all(np.abs(cut.columns - other.columns).mean() > _APART * height for other in chosen):
      chosen.append(cut)
    if len(chosen) == _MAX_CUTS:
      break
  return sorted(chosen, key=lambda cut: float(cut.columns.mean()))


def _find_slanted(piece: pieces.Piece, height: float, slant: float) -> list[Cut]:
  """Paths along lines of one slant where little ink is."""
  # In the sheared picture the lines are upright.
  shifts = np.rint(math.tan(math.radians(slant)) * (np.arange(piece.height) - (piece.height - 1) / 2)).astype(int)
  margin = int(np.abs(shifts).max())
  sheared = np.zeros((piece.height, piece.width + 2 * margin), np.float32)
  for row, shift in enumerate(shifts):
    sheared[row, margin + shift : margin + shift + piece.width] = piece.ink[row]
  profile = ndimage.gaussian_filter1d(sheared.sum(0), 0.03 * height, mode='nearest')
  lowest = ndimage.minimum_filter1d(profile, max(3, round(LEAST_PART * height)), mode='nearest')
  edge = margin + round(LEAST_PART * height)
  columns = [column for column in np.flatnonzero(profile == lowest) if edge <= column <= sheared.shape[1] - edge]
  cuts = []
  for column in sorted(columns, key=lambda column: profile[column])[:_MAX_CUTS]:
    start = max(0, column - round(_REACH * height))
    path, ink = _find_path(sheared[:, start : column + round(_REACH * height) + 1])
    cuts.append(Cut(np.clip(path + start - margin - shifts, 0, piece.width), ink))
  return cuts


def _find_path(ink: Float[np.ndarray, 'height width']) -> tuple[Int[np.ndarray, ' height'], float]:
  """The path from top to bottom, by at most one column a row, that crosses least ink, and that ink."""
  height, width = ink.shape
  away = 0.02 * np.abs(np.arange(width) - width // 2) / width
  totals, steps = ink[0] + away, np.zeros((height, width), int)
  for row in range(1, height):
    padded = np.pad(totals, 1, constant_values=np.inf)
    # Straight on where nothing is gained by a step.
    before = np.stack([padded[1:-1], padded[:-2] + 0.02, padded[2:] + 0.02])
    choice = before.argmin(0)
    steps[row] = np.array([0, -1, 1])[choice]
    totals = before[choice, np.arange(width)] + ink[row] + away
  path = np.zeros(height, int)
  path[-1] = totals.argmin()
  for row in range(height - 1, 0, -1):
    path[row - 1] = path[row] + steps[row, path[row]]
  return path, float(ink[np.arange(height), path].sum())


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
