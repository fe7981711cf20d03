"""Reading whole fields, such as a ZIP code or an amount: finds the digits, orders them, and recognizes all at once.

Broken digits are joined; what is too wide for one digit is cut where the model is surest of its parts
(over-segmentation and dynamic programming, as in LeCun et al. 1998, section V).
"""

import itertools
import math
from typing import NamedTuple, TypeAlias

from jaxtyping import Float, Float32, UInt8
import numpy as np
from scipy import ndimage

from digits.data import center
from digits.handwriting import pieces, predict, prepare
from digits.train import runs

# Fractions of the height of the digits in the line.
_WIDE = 0.8  # A piece that is wider may be several digits,
_TOO_WIDE = 1.4  # and then surely is.
_LEAST_PART = 0.15  # The least width of what is cut off.
_MAX_CUTS = 8
# The cost of a part, in nats: a part of a digit can look like a digit.
_PART_COST = 0.25
# The cost of a part that is wider than the line is high, in nats per height.
_WIDTH_COST = 2.0

Row: TypeAlias = Float32[np.ndarray, '10']
Cuts: TypeAlias = tuple[int, int]


class Digit(NamedTuple):
  """A digit of a field.

  Attributes:
    value: 0 to 9.
    probability: probability of that value, given that this is a digit.
    box: (left, top, right, bottom), pixels of the image; right and bottom are outside.
  """

  value: int
  probability: float
  box: tuple[int, int, int, int]


def read_digits(
  image: UInt8[np.ndarray, 'height width'], run: runs.Run, *, temperature: float = 1.0
) -> list[list[Digit]]:
  """Reads the digits of a field: lines from top to bottom, each from left to right; empty where there is no ink.

  Not handled: writing that slopes by more than half a digit's height from one end to the other, digits that reach into
  each other so that no straight cut parts them, and anything but digits: a letter or a sign is read as a digit.

  Args:
    image: the field, grey.
    run: a run from `load_run`.
    temperature: the temperature from `predict.load_temperature`.
  """
  page = prepare.find_page(image)
  lines = pieces.find_lines(page.ink)
  # For each piece of each line, the parts that it may consist of, by (first cut, last cut).
  choices = [[_find_parts(piece, pieces.line_height(line)) for piece in line] for line in lines]
  parts = [part for line in choices for parts in line for part in parts.values()]
  if not parts:
    return []
  pictures = np.concatenate([center.center(part.ink[None]) for part in parts])[..., None]
  rows = iter(predict.compute_probabilities(pictures, run, temperature))
  scored = [[{cuts: (part, next(rows)) for cuts, part in parts.items()} for parts in line] for line in choices]
  return [
    [
      _to_digit(part, row, page.to_image)
      for parts in choice
      for part, row in _choose_parts(parts, pieces.line_height(line))
    ]
    for choice, line in zip(scored, lines, strict=True)
  ]


def _find_parts(piece: pieces.Piece, height: float) -> dict[Cuts, pieces.Piece]:
  """The parts that a piece may consist of, by (first cut, last cut); the whole is one of them."""
  cuts = [0, *_find_cuts(piece, height), piece.width]
  parts = {}
  for i, j in itertools.combinations(range(len(cuts)), 2):
    is_whole = j - i == len(cuts) - 1
    if is_whole or _LEAST_PART * height <= cuts[j] - cuts[i] <= _TOO_WIDE * height:
      part = _crop(piece, cuts[i], cuts[j])
      if is_whole or part.height >= pieces.LEAST_DIGIT * height:
        parts[i, j] = part
  return parts


def _find_cuts(piece: pieces.Piece, height: float) -> list[int]:
  """Columns where little ink is, the best first `_MAX_CUTS`, in order; none where the piece is not wide."""
  if piece.width < _WIDE * height:
    return []
  profile = ndimage.gaussian_filter1d(piece.ink.sum(0), 0.03 * height, mode='nearest')
  lowest = ndimage.minimum_filter1d(profile, max(3, round(_LEAST_PART * height)), mode='nearest')
  margin = round(_LEAST_PART * height)
  columns = [column for column in np.flatnonzero(profile == lowest) if margin <= column <= piece.width - margin]
  return sorted(int(column) for column in sorted(columns, key=lambda column: profile[column])[:_MAX_CUTS])


def _crop(piece: pieces.Piece, start: int, stop: int) -> pieces.Piece:
  ink = piece.ink[:, start:stop]
  rows = np.flatnonzero(ink.any(1))
  if not len(rows):
    return pieces.Piece(piece.top, piece.left + start, ink[:1])
  return pieces.Piece(piece.top + int(rows[0]), piece.left + start, ink[rows[0] : rows[-1] + 1])


def _choose_parts(parts: dict[Cuts, tuple[pieces.Piece, Row]], height: float) -> list[tuple[pieces.Piece, Row]]:
  """The likeliest parts that make up a piece, each with its probabilities."""
  last = max(j for _, j in parts)
  if last == 1:
    return [parts[0, last]]
  # best[j]: score and first cut of the last part, for all that is to the left of cut j.
  best = {0: (0.0, 0)}
  for j in range(1, last + 1):
    before = [i for i in range(j) if i in best and (i, j) in parts]
    if before:
      best[j] = max((best[i][0] + _score(*parts[i, j], height), i) for i in before)
  if last not in best:
    return [parts[0, last]]
  chosen = []
  j = last
  while j:
    i = best[j][1]
    chosen.append(parts[i, j])
    j = i
  return chosen[::-1]


def _score(part: pieces.Piece, row: Row, height: float) -> float:
  """How good a part is as a digit, in nats."""
  return math.log(max(row.max(), 1e-9)) - _PART_COST - _WIDTH_COST * max(0.0, part.width / height - 1)


def _to_digit(part: pieces.Piece, row: Row, to_image: Float[np.ndarray, '3 3']) -> Digit:
  value = int(np.argmax(row))
  corners = np.array([[x, y, 1] for x in (part.left, part.right) for y in (part.top, part.bottom)]) @ to_image.T
  points = corners[:, :2] / corners[:, 2:]
  (left, top), (right, bottom) = np.floor(points.min(0) + 1e-6), np.ceil(points.max(0) - 1e-6)
  return Digit(value, float(row[value]), (int(left), int(top), int(right), int(bottom)))
