"""Reading whole fields, such as a ZIP code or an amount: finds the digits, orders them, and recognises all at once.

Pieces of ink are connected components. Broken digits are joined; what is too wide for one digit is cut where the model
likes the parts best (over-segmentation and dynamic programming, as in LeCun et al. 1998, section V).
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from digits.handwriting import predict
from digits.handwriting import prepare as images_lib

# Smaller fields are enlarged until their shorter side has so many pixels: finding pieces needs strokes of some width.
_LEAST_SIDE = 112
# As parts of the height of the digits in the line.
_LEAST_DIGIT = 0.45  # A piece that is less high belongs to a neighbour, or is dropped.
_NEAR = 0.15  # The widest gap inside a broken digit.
_WIDE = 0.8  # A piece that is wider may be several digits,
_TOO_WIDE = 1.4  # and then surely is.
_LEAST_PART = 0.15  # The least width of what is cut off.
_MAX_CUTS = 8
# What a part costs, in nats: a part of a digit can look like a digit.
_PART_COST = 0.25
# What a part costs that is wider than the line is high, in nats for each height.
_WIDTH_COST = 2.0


class Digit(NamedTuple):
  """A digit of a field.

  Attributes:
    value: 0 to 9.
    probability: of that value, given that this is a digit.
    box: (left, top, right, bottom), pixels of the image; right and bottom are outside.
  """

  value: int
  probability: float
  box: tuple[int, int, int, int]


class _Piece(NamedTuple):
  """Ink float32[h, w] and where its first pixel is."""

  top: int
  left: int
  ink: np.ndarray

  @property
  def bottom(self):
    return self.top + self.ink.shape[0]

  @property
  def right(self):
    return self.left + self.ink.shape[1]

  @property
  def height(self):
    return self.ink.shape[0]

  @property
  def width(self):
    return self.ink.shape[1]


def read_digits(image, run, *, temperature=1.0):
  """Reads the digits of a field.

  Not handled: writing that slopes by more than half a digit's height from one end to the other, digits that reach into
  each other so that no straight cut parts them, and anything but digits: a letter or a sign is read as a digit.

  Args:
    image: uint8[H, W], grey.
    run: a `Run`.
    temperature: from `statistics.fit_temperature`.

  Returns:
    A list of lines from top to bottom, each a list of `Digit` from left to right; empty where there is no ink.
  """
  factor = math.ceil(_LEAST_SIDE / min(image.shape))
  ink = images_lib.extract_ink(_enlarge(image, factor)[None])[0]
  lines = [_join_broken(line) for line in _find_lines(_find_pieces(ink))]
  # For each piece of each line, the parts it may consist of, by (first cut, last cut).
  choices = [[_find_parts(piece, _line_height(line)) for piece in line] for line in lines]
  parts = [part for line in choices for parts in line for part in parts.values()]
  if not parts:
    return []
  pictures = np.concatenate([images_lib.center(part.ink[None]) for part in parts])[..., None]
  probability = predict.predict_prepared(pictures, run, temperature=temperature).probability
  rows = iter(probability)
  scored = [[{cuts: (part, next(rows)) for cuts, part in parts.items()} for parts in line] for line in choices]
  return [
    [_to_digit(part, row, factor) for parts in line for part, row in _choose_parts(parts, _line_height(pieces))]
    for line, pieces in zip(scored, lines, strict=True)
  ]


def _enlarge(image, factor):
  return ndimage.zoom(image, factor, order=1, grid_mode=True, mode='nearest') if factor > 1 else image


def _find_pieces(ink):
  labels, _ = ndimage.label(ink, np.ones((3, 3)))
  return [
    _Piece(box[0].start, box[1].start, np.where(labels[box] == label, ink[box], 0))
    for label, box in enumerate(ndimage.find_objects(labels), 1)
  ]


def _line_height(pieces):
  """The height of a line's digits: the median of its pieces, without the small ones."""
  heights = np.array([piece.height for piece in pieces])
  return float(np.median(heights[heights >= heights.max() / 2]))


def _find_lines(pieces):
  """Groups pieces into lines of writing, by the vertical overlap of the middle halves of the high ones."""
  if not pieces:
    return []
  height = _line_height(pieces)
  high = [piece for piece in pieces if piece.height >= _LEAST_DIGIT * height]
  lines = []
  bottom = -math.inf
  for piece in sorted(high, key=lambda piece: piece.top + piece.bottom):
    if (3 * piece.top + piece.bottom) / 4 >= bottom:
      lines.append([])
    lines[-1].append(piece)
    bottom = max((piece.top + 3 * piece.bottom) / 4 for piece in lines[-1])
  centers = [np.mean([(piece.top + piece.bottom) / 2 for piece in line]) for line in lines]
  for piece in pieces:
    if piece.height < _LEAST_DIGIT * height:
      lines[np.argmin(np.abs(np.array(centers) - (piece.top + piece.bottom) / 2))].append(piece)
  return lines


def _join_broken(pieces):
  """Joins what is broken and drops what is too small for a digit and near to none; in order from left to right."""
  height = _line_height(pieces)
  whole = [piece for piece in pieces if piece.height >= _LEAST_DIGIT * height]
  # Small pieces first join each other: a digit may be broken into nothing else.
  clusters = []
  for piece in sorted(
    (piece for piece in pieces if piece.height < _LEAST_DIGIT * height), key=lambda piece: piece.left
  ):
    if clusters and _gap(clusters[-1], piece) <= _NEAR * height:
      clusters[-1] = _join(clusters[-1], piece)
    else:
      clusters.append(piece)
  whole.extend(cluster for cluster in clusters if cluster.height >= _LEAST_DIGIT * height)
  for small in (cluster for cluster in clusters if cluster.height < _LEAST_DIGIT * height):
    gaps = [_gap(small, piece) for piece in whole]
    nearest = int(np.argmin(gaps))
    if gaps[nearest] <= _NEAR * height:
      whole[nearest] = _join(whole[nearest], small)
  whole.sort(key=lambda piece: piece.left + piece.right)
  joined = []
  for piece in whole:
    # Of two high pieces in the same columns, one above the other is a broken digit; side by side they are slanted ones.
    if joined and _is_stacked(joined[-1], piece):
      joined[-1] = _join(joined[-1], piece)
    else:
      joined.append(piece)
  return joined


def _gap(a, b):
  """Distance between two boxes, pixels."""
  return math.hypot(
    max(0, a.left - b.right, b.left - a.right),
    max(0, a.top - b.bottom, b.top - a.bottom),
  )


def _is_stacked(a, b):
  columns = min(a.right, b.right) - max(a.left, b.left)
  rows = min(a.bottom, b.bottom) - max(a.top, b.top)
  return columns > min(a.width, b.width) / 2 and rows < min(a.height, b.height) / 2


def _join(a, b):
  top, left = min(a.top, b.top), min(a.left, b.left)
  ink = np.zeros((max(a.bottom, b.bottom) - top, max(a.right, b.right) - left), np.float32)
  for piece in (a, b):
    place = ink[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left]
    np.maximum(place, piece.ink, out=place)
  return _Piece(top, left, ink)


def _find_parts(piece, height):
  """The parts that a piece may consist of, as a dict of `_Piece` by (first cut, last cut); the whole is one of them."""
  cuts = [0, *_find_cuts(piece, height), piece.width]
  parts = {}
  for i, j in itertools.combinations(range(len(cuts)), 2):
    is_whole = j - i == len(cuts) - 1
    if is_whole or _LEAST_PART * height <= cuts[j] - cuts[i] <= _TOO_WIDE * height:
      part = _crop(piece, cuts[i], cuts[j])
      if is_whole or part.height >= _LEAST_DIGIT * height:
        parts[i, j] = part
  return parts


def _find_cuts(piece, height):
  """Columns where little ink is, the best first `_MAX_CUTS`, in order; none where the piece is not wide."""
  if piece.width < _WIDE * height:
    return []
  profile = ndimage.gaussian_filter1d(piece.ink.sum(0), 0.03 * height, mode='nearest')
  lowest = ndimage.minimum_filter1d(profile, max(3, round(_LEAST_PART * height)), mode='nearest')
  margin = round(_LEAST_PART * height)
  columns = [column for column in np.flatnonzero(profile == lowest) if margin <= column <= piece.width - margin]
  return sorted(int(column) for column in sorted(columns, key=lambda column: profile[column])[:_MAX_CUTS])


def _crop(piece, start, stop):
  ink = piece.ink[:, start:stop]
  rows = np.flatnonzero(ink.any(1))
  if not len(rows):
    return _Piece(piece.top, piece.left + start, ink[:1])
  return _Piece(piece.top + rows[0], piece.left + start, ink[rows[0] : rows[-1] + 1])


def _choose_parts(parts, height):
  """The likeliest parts that make up a piece, as a list of (`_Piece`, float32[10])."""
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


def _score(part, row, height):
  """How good a part is as a digit, in nats."""
  return math.log(max(row.max(), 1e-9)) - _PART_COST - _WIDTH_COST * max(0.0, part.width / height - 1)


def _to_digit(part, row, factor):
  value = int(np.argmax(row))
  box = (part.left // factor, part.top // factor, -(-part.right // factor), -(-part.bottom // factor))
  return Digit(value, float(row[value]), tuple(int(edge) for edge in box))
