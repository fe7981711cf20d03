"""What the ink of a line may consist of: pieces, parts of those that are several digits, and digits that are broken."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from digits.handwriting import cuts, pieces, signs

# Fractions of the height of the digits in the line.
_TOO_WIDE = 1.4  # A part that is wider surely is several digits.
# A part that is lower than this, in heights of the piece that it is cut from, is half a stroke rather than a digit.
_LEAST_CUT_OFF = 0.55
_WIDE_GAP = 0.5  # A gap is a space if it is wider than the line's usual one by this,
_SOFT_GAP = 0.1  # and is e times as probably one for each of these that it is wider.
# Costs in nats, of each part that a cut ends: for each width of the pen that the cut crosses, and for each height that
# the piece is narrower than two digits are. And of joining parts that are `pieces.NEAR` from each other.
_CUT_COST = 0.2
_NARROW_COST = 1.5
_JOIN_COST = 1.5
# Ink that is narrower than this many widths of the pen, and so than a stroke, is more likely to join two digits.
_NECK = 0.7
_TWO_DIGITS = 1.2
_MOST_JOINED = 3  # Pieces that make up a digit.


class Part(NamedTuple):
  """Ink that may be a digit or a sign, between two nodes: places between pieces and cuts, numbered from left to right.

  Attributes:
    start: node.
    stop: node.
    piece: the ink.
    cost: of parting and joining ink, in nats.
    signs: how probable each sign is.
    is_digit: whether it may be a digit.
    may_drop: whether it may be nothing.
  """

  start: int
  stop: int
  piece: pieces.Piece
  cost: float
  signs: dict[str, float]
  is_digit: bool
  may_drop: bool = False


class Row(NamedTuple):
  """A line of writing before it is recognised.

  Attributes:
    parts: all that its digits and signs may be.
    spaces: for each node between pieces, the scores of no space and of a space there.
    geometry: its height and pen.
  """

  parts: list[Part]
  spaces: dict[int, tuple[float, float]]
  geometry: signs.Geometry


def find_parts(line: list[pieces.Piece]) -> Row:
  """Finds all that the digits and signs of a line may be."""
  geometry = signs.measure_line([piece for piece in line if not _is_small(piece, pieces.line_height(line))])
  height = geometry.height
  line = _join_stacked(line, height)
  parts: list[Part] = []
  starts = [0]
  for piece in line:
    found = [None, *cuts.find_cuts(piece, height, geometry.pen), None]
    narrow = _NARROW_COST * max(0.0, _TWO_DIGITS - piece.width / max(height, piece.height))
    for i in range(len(found) - 1):
      for j in range(i + 1, len(found)):
        is_whole = j - i == len(found) - 1
        part = cuts.take_part(piece, found[i], found[j])
        if part is not None and (is_whole or _may_be_cut_off(part, piece, height)):
          ends = [cut for cut in (found[i], found[j]) if cut is not None]
          cost = sum(_CUT_COST * (cut.crossed - _NECK) + narrow for cut in ends)
          parts.append(_make_part(starts[-1] + i, starts[-1] + j, part, cost, geometry))
    starts.append(starts[-1] + len(found) - 1)
  return Row(
    parts + _find_colons(line, starts, geometry) + _join_small(parts, line, starts, geometry),
    _find_spaces(line, starts, height),
    geometry,
  )


def _is_small(piece: pieces.Piece, height: float) -> bool:
  return piece.height < pieces.LEAST_DIGIT * height


def _may_be_cut_off(part: pieces.Piece, piece: pieces.Piece, height: float) -> bool:
  is_high = not _is_small(part, height) and part.height >= _LEAST_CUT_OFF * piece.height
  return is_high and cuts.LEAST_PART * height <= part.width <= _TOO_WIDE * max(height, part.height)


def _make_part(start: int, stop: int, piece: pieces.Piece, cost: float, line: signs.Geometry) -> Part:
  is_small = _is_small(piece, line.height)
  return Part(start, stop, piece, cost, signs.find_signs(piece, line), not is_small, is_small)


def _join_stacked(line: list[pieces.Piece], height: float) -> list[pieces.Piece]:
  """The pieces from left to right; of two high ones in the same columns, one above the other is a broken digit."""
  joined: list[pieces.Piece] = []
  for piece in sorted(line, key=lambda piece: piece.left + piece.right):
    is_high = joined and not _is_small(piece, height) and not _is_small(joined[-1], height)
    if is_high and pieces.is_stacked(joined[-1], piece):
      joined[-1] = pieces.join(joined[-1], piece)
    else:
      joined.append(piece)
  return joined


def _find_colons(line: list[pieces.Piece], starts: list[int], geometry: signs.Geometry) -> list[Part]:
  found = []
  for k, pair in enumerate(itertools.pairwise(line)):
    if all(_is_small(piece, geometry.height) for piece in pair):
      probability = signs.find_colon(*pair, geometry)
      found.append(Part(starts[k], starts[k + 2], pieces.join(*pair), 0.0, {':': probability}, is_digit=False))
  return found


def _join_small(parts: list[Part], line: list[pieces.Piece], starts: list[int], geometry: signs.Geometry) -> list[Part]:
  """Digits that may be broken: parts with small pieces that are next to them and near."""
  near = pieces.NEAR * geometry.height
  small = [(starts[k], starts[k + 1], piece) for k, piece in enumerate(line) if _is_small(piece, geometry.height)]
  beginning, ending = ({one[end]: one for one in small} for end in (0, 1))
  joined: dict[tuple[int, int], Part] = {}
  grown = parts
  for _ in range(_MOST_JOINED - 1):
    wider: dict[tuple[int, int], Part] = {}
    for part in grown:
      for start, stop, piece in filter(None, (ending.get(part.start), beginning.get(part.stop))):
        gap = pieces.gap(part.piece, piece)
        if gap <= near:
          both = pieces.join(part.piece, piece)
          cost = part.cost + _JOIN_COST * gap / near
          place = min(start, part.start), max(stop, part.stop)
          if both.width <= _TOO_WIDE * geometry.height:
            wider[place] = Part(*place, both, cost, {}, is_digit=not _is_small(both, geometry.height))
    joined |= wider
    grown = list(wider.values())
  return [part for part in joined.values() if part.is_digit]


def _find_spaces(line: list[pieces.Piece], starts: list[int], height: float) -> dict[int, tuple[float, float]]:
  gaps, right = [], line[0].right
  for piece in line[1:]:
    gaps.append(max(0, piece.left - right) / height)
    right = max(right, piece.right)
  # Of two gaps none is the usual one.
  usual = float(np.median(gaps)) if len(gaps) > 2 else _WIDE_GAP
  spaces = {}
  for start, gap in zip(starts[1:], gaps, strict=False):
    logit = min(max((gap - usual - _WIDE_GAP) / _SOFT_GAP, -20.0), 20.0)
    spaces[start] = -math.log1p(math.exp(logit)), -math.log1p(math.exp(-logit))
  return spaces
