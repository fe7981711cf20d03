"""Reading whole fields, such as a ZIP code, a date or an amount: lines of digits and the signs between them.

Broken digits are joined; what is too wide for one digit is cut, along paths that cross little ink; and the reading of a
line is the one where the model is surest of all parts.
"""

import math
from typing import NamedTuple

from jaxtyping import Float, Float32, UInt8
import numpy as np
from scipy import ndimage

from digits.handwriting import cuts, lattice, patterns, pieces, predict, prepare, rules, signs
from digits.train import runs

# What the model is less sure of than this is no digit.
REJECT = 0.5
# Fractions of the height of the digits in the line.
_TOO_WIDE = 1.4  # A piece that is wider surely is several digits.
_WIDE_GAP = 0.5  # A gap is a space if it is wider than the line's usual one by this.
_SOFT_GAP = 0.1
_UNKNOWN_SIGN = 0.25  # A piece that is no sign and no digit is dropped if it is smaller.
# Costs in nats. A part of a digit can look like a digit, and what is cut may be one stroke.
_PART_COST = 0.25
_CUT_COST = 0.1  # For each width of the pen that is cut.
_WIDTH_COST = 2.0  # Of a part that is wider than the line is high, for each height.
_JOIN_COST = 1.5  # Of joining what is as far from each other as the parts of a digit may be.
_DROP_COST = 3.0  # Of leaving out something as thick as the pen.
_SPECK = 0.5  # Widths of the pen: what is smaller is no ink.
_MOST_JOINED = 3  # Pieces that make up a digit.
# Lines are level if they slope by less than this many degrees, and are sought up to the steepest slope.
_LEVEL = 2.0
_STEEPEST = 12
# Dates are written in these ways. A slash and a digit 1 can look the same, so that a line that may be one of them, at a
# cost of at most this many nats, is.
_DATES = tuple(
  patterns.parse(f'{day}/{month}/{year}') for day in ('9', '99') for month in ('9', '99') for year in ('99', '9999')
)
_DATE_COST = 2.5


class Token(NamedTuple):
  """A digit or a sign.

  Attributes:
    text: a digit, a sign, ? for ink that is neither, or a space for a wide gap.
    probability: how probable it is.
    box: (left, top, right, bottom), pixels of the image; right and bottom are outside.
  """

  text: str
  probability: float
  box: tuple[int, int, int, int]


class Line(NamedTuple):
  """A line of writing.

  Attributes:
    tokens: from left to right.
    fits: whether it has the form that was expected; None if none was.
  """

  tokens: list[Token]
  fits: bool | None = None

  @property
  def text(self) -> str:
    """Digits, signs and spaces, such as 12/05/2026."""
    return ''.join(token.text for token in self.tokens)

  @property
  def digits_only(self) -> str:
    """The digits, such as 12052026."""
    return ''.join(token.text for token in self.tokens if token.text.isdecimal())

  @property
  def confidence(self) -> float:
    """The probability of the least certain token."""
    return min(token.probability for token in self.tokens)


class Reading(NamedTuple):
  """What a field says.

  Attributes:
    lines: from top to bottom; none where there is no ink.
    notes: sentences about what was left out.
  """

  lines: list[Line]
  notes: tuple[str, ...] = ()


class _Part(NamedTuple):
  """Ink that may be a digit or a sign, between two nodes of the lattice."""

  start: int
  stop: int
  piece: pieces.Piece
  cost: float
  signs: dict[str, float]
  is_digit: bool  # Whether it may be one.
  may_drop: bool


class _Row(NamedTuple):
  """A line of writing before it is recognised."""

  parts: list[_Part]
  spaces: dict[int, tuple[float, float]]
  geometry: signs.Geometry


def read(
  image: UInt8[np.ndarray, 'height width'],
  run: runs.Run,
  *,
  temperature: float = 1.0,
  expect: patterns.Pattern | None = None,
) -> Reading:
  """Reads the lines of a field.

  Letters and other ink that is no digit come out as ?, or as the digit that they look like.

  Args:
    image: the field, grey.
    run: a run from `load_run`.
    temperature: the temperature from `predict.load_temperature`.
    expect: the form of every line: of its readings, the likeliest that fits is chosen, if there is any.
  """
  page = _level(_find_page(image))
  rows = [_find_parts(line) for line in _find_lines(page.ink)]
  wanted = [part.piece.ink[None] for row in rows for part in row.parts if part.is_digit]
  probabilities = iter(())
  if wanted:
    pictures = np.concatenate([prepare.center(ink) for ink in wanted])[..., None]
    probabilities = iter(predict.compute_probabilities(pictures, run, temperature))
  lines = []
  for row in rows:
    edges = [
      lattice.Edge(part.start, part.stop, _choices(part, next(probabilities) if part.is_digit else None, row), part)
      for part in row.parts
    ]
    steps, fits = _choose(edges, row.spaces, expect)
    tokens = _to_tokens(steps, page.to_image, image.shape)
    if tokens:
      lines.append(Line(tokens, fits))
  return Reading(lines, page.notes)


def _find_page(image: UInt8[np.ndarray, 'height width']) -> prepare.Page:
  """The writing in a picture, with its dots."""
  paper, to_image = prepare._find_paper(image)
  factor = math.ceil(112 / min(paper.shape))
  paper = prepare._enlarge(paper, factor)
  ink, flat = prepare._flat_ink(paper[None])
  if not flat[0]:
    ink = prepare._uneven_ink(paper)[None]
  elif min(paper.shape) >= 56:
    ink[0][rules.find_rules(ink[0] > 0)] = 0
  return prepare.Page(ink[0], to_image @ np.diag([1 / factor, 1 / factor, 1]), ())


def _level(page: prepare.Page) -> prepare.Page:
  """Turns the page so that its lines are level."""
  slope = _find_slope(_drop_specks(pieces.find_pieces(page.ink)))
  if abs(slope) < _LEVEL:
    return page
  angle = math.radians(slope)
  turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])  # From level to sloping.
  height, width = page.ink.shape
  corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn
  low, size = corners.min(0), np.ceil(np.ptp(corners, 0)).astype(int)
  from_level = np.eye(3)
  from_level[:2] = np.column_stack([turn, turn @ low])
  # `affine_transform` counts rows first, and pixels by their middles.
  flipped = turn[::-1, ::-1]
  offset = from_level[1::-1, 2] + flipped @ [0.5, 0.5] - 0.5
  ink = ndimage.affine_transform(page.ink, flipped, offset, tuple(size[::-1]), order=1)
  return prepare.Page(np.where(ink > 0.1, ink, 0), page.to_image @ from_level, page.notes)


def _find_slope(found: list[pieces.Piece]) -> float:
  """The slope of the lines of writing, in degrees downwards to the right: where they are most level and fewest."""
  if len(found) < 3:
    return 0.0
  height = pieces.line_height(found)
  high = [piece for piece in found if piece.height >= pieces.LEAST_DIGIT * height]
  x = np.array([(piece.left + piece.right) / 2 for piece in high]) / height
  y = np.array([(piece.top + piece.bottom) / 2 for piece in high]) / height
  if len(high) < 3:
    return 0.0

  def split(tangent):
    """The places of pieces that are level with each other, for each line."""
    level = y - tangent * x
    order = np.argsort(level)
    return np.split(order, np.flatnonzero(np.diff(level[order]) > 0.5) + 1)

  def cost(degrees):
    tangent = math.tan(math.radians(degrees))
    lines = split(tangent)
    bent = sum(((y - tangent * x)[line].var() * len(line)) for line in lines)
    return bent + 0.3 * len(lines) + 0.1 * (degrees / 10) ** 2

  tangent = math.tan(math.radians(min(range(-_STEEPEST, _STEEPEST + 1), key=cost)))
  lines = [line for line in split(tangent) if len(line) >= 3]
  if not lines:
    return 0.0
  dx = np.concatenate([x[line] - x[line].mean() for line in lines])
  dy = np.concatenate([y[line] - y[line].mean() for line in lines])
  return float(np.clip(math.degrees(math.atan((dx @ dy) / max(dx @ dx, 1e-9))), -_STEEPEST, _STEEPEST))


def _find_lines(ink: Float[np.ndarray, 'height width']) -> list[list[pieces.Piece]]:
  return pieces.group_lines(_drop_specks(pieces.find_pieces(ink)))


def _drop_specks(found: list[pieces.Piece]) -> list[pieces.Piece]:
  """Leaves out what is smaller than a dot of the pen."""
  if not found:
    return []
  height = max(piece.height for piece in found)
  pen = float(np.median([signs.measure_pen(piece.ink) for piece in found if piece.height >= height / 2]))
  return [piece for piece in found if max(piece.height, piece.width) >= _SPECK * pen]


def _find_parts(line: list[pieces.Piece]) -> _Row:
  """All that the digits and signs of a line may be."""
  height = pieces.line_height(line)
  geometry = signs.measure_line([piece for piece in line if piece.height >= pieces.LEAST_DIGIT * height])
  line = _join_parts(line, geometry)
  parts: list[_Part] = []
  starts = [0]
  for piece in line:
    found = [None, *cuts.find_cuts(piece, height), None]
    for i in range(len(found) - 1):
      for j in range(i + 1, len(found)):
        part = cuts.take_part(piece, found[i], found[j])
        is_whole = j - i == len(found) - 1
        if part is None or not (is_whole or _may_be_cut_off(part, height)):
          continue
        crossed = sum(cut.ink for cut in (found[i], found[j]) if cut is not None)
        cost = _CUT_COST * crossed / geometry.pen / 2
        parts.append(_make_part(starts[-1] + i, starts[-1] + j, part, cost, geometry))
    starts.append(starts[-1] + len(found) - 1)
  parts += _find_joined(line, starts, geometry)
  return _Row(parts, _find_spaces(line, starts, height), geometry)


def _may_be_cut_off(part: pieces.Piece, height: float) -> bool:
  return cuts.LEAST_PART * height <= part.width <= _TOO_WIDE * height and part.height >= pieces.LEAST_DIGIT * height


def _make_part(start: int, stop: int, piece: pieces.Piece, cost: float, line: signs.Geometry) -> _Part:
  is_digit = piece.height >= pieces.LEAST_DIGIT * line.height
  return _Part(start, stop, piece, cost, signs.find_signs(piece, line), is_digit, not is_digit)


def _join_parts(line: list[pieces.Piece], geometry: signs.Geometry) -> list[pieces.Piece]:
  """Joins what surely belongs together: high pieces above each other, and what lies over a wide piece."""
  line = sorted(line, key=lambda piece: piece.left + piece.right)
  joined: list[pieces.Piece] = []
  least = pieces.LEAST_DIGIT * geometry.height
  for piece in line:
    if joined and min(piece.height, joined[-1].height) >= least and pieces.is_stacked(joined[-1], piece):
      joined[-1] = pieces.join(joined[-1], piece)
    else:
      joined.append(piece)
  for piece in [piece for piece in joined if piece.height < least]:
    for i, other in enumerate(joined):
      over = min(piece.right, other.right) - max(piece.left, other.left)
      is_over = other.width > cuts.WIDE * geometry.height and over > piece.width / 2
      if other is not piece and is_over and pieces.gap(piece, other) <= pieces.NEAR * geometry.height:
        joined[i] = pieces.join(other, piece)
        joined = [kept for kept in joined if kept is not piece]
        break
  return joined


def _find_joined(line: list[pieces.Piece], starts: list[int], geometry: signs.Geometry) -> list[_Part]:
  """Digits that may be broken into pieces, of which all but one are small, and colons."""
  found = []
  least = pieces.LEAST_DIGIT * geometry.height
  near = pieces.NEAR * geometry.height
  for first in range(len(line)):
    piece, cost, num_high = line[first], 0.0, int(line[first].height >= least)
    for last in range(first + 1, min(first + _MOST_JOINED, len(line))):
      other = line[last]
      num_high += other.height >= least
      gap = pieces.gap(piece, other)
      if last == first + 1 and not num_high:
        colon = signs.find_colon(piece, other, geometry)
        both = pieces.join(piece, other)
        if colon > 0.01:
          found.append(_Part(starts[first], starts[last + 1], both, 0.0, {':': colon}, False, False))
      if num_high > 1 or gap > near:
        break
      cost += _JOIN_COST * gap / near
      piece = pieces.join(piece, other)
      if least <= piece.height and piece.width <= _TOO_WIDE * geometry.height:
        part = _make_part(starts[first], starts[last + 1], piece, cost, geometry)
        found.append(part._replace(signs={}) if num_high else part)
  return found


def _find_spaces(line: list[pieces.Piece], starts: list[int], height: float) -> dict[int, tuple[float, float]]:
  """For each node between pieces the scores of no space and of a space."""
  gaps, right = [], line[0].right
  for piece in line[1:]:
    gaps.append((piece.left - right) / height)
    right = max(right, piece.right)
  # Of two gaps none is the usual one.
  usual = float(np.median(gaps)) if len(gaps) > 2 else _WIDE_GAP
  spaces = {}
  for start, gap in zip(starts[1:], gaps, strict=False):
    logit = min(max((gap - max(usual, 0) - _WIDE_GAP) / _SOFT_GAP, -20.0), 20.0)
    spaces[start] = -math.log1p(math.exp(logit)), -math.log1p(math.exp(-logit))
  return spaces


def _choices(part: _Part, row: Float32[np.ndarray, '10'] | None, line: _Row) -> tuple[lattice.Choice, ...]:
  """What a part may be."""
  height = line.geometry.height
  cost = part.cost + _PART_COST + _WIDTH_COST * max(0.0, part.piece.width / height - 1)
  choices = [lattice.Choice(sign, p, _log(p) - cost) for sign, p in part.signs.items() if p > 0.01]
  rest = max(1 - sum(part.signs.values()), 0.0)
  if row is not None and row.max() >= REJECT:
    choices += [lattice.Choice(str(digit), float(p * rest), _log(p * rest) - cost) for digit, p in enumerate(row)]
  elif row is not None:
    choices.append(lattice.Choice('?', float(row.max() * rest), _log(row.max() * rest) - cost))
  if part.may_drop:
    choices.append(lattice.Choice('', rest, _log(rest) - _DROP_COST))
    if max(part.piece.height, part.piece.width) >= _UNKNOWN_SIGN * height:
      choices.append(lattice.Choice('?', REJECT * rest, _log(REJECT * rest) - _DROP_COST + 1))
  return tuple(choices)


def _log(probability: float) -> float:
  return math.log(max(float(probability), 1e-9))


def _choose(
  edges: list[lattice.Edge], spaces: dict[int, tuple[float, float]], expect: patterns.Pattern | None
) -> tuple[list, bool | None]:
  """The best reading, and whether it fits what is expected."""
  if expect is not None:
    found = lattice.find_best(edges, spaces, expect)
    if found is not None:
      return found[1], True
  free = lattice.find_best(edges, spaces)
  assert free is not None  # Whatever the ink, a piece may be a digit, ? or nothing.
  if any('/' in edge.source.signs and edge.source.signs['/'] > 0.01 for edge in edges):
    dates = [found for found in (lattice.find_best(edges, spaces, date) for date in _DATES) if found]
    free = max([free, *((score + _DATE_COST, steps) for score, steps in dates)], key=lambda found: found[0])
  return free[1], None if expect is None else False


def _to_tokens(
  steps: list[tuple[lattice.Choice, _Part | None]], to_image: Float[np.ndarray, '3 3'], shape: tuple[int, ...]
) -> list[Token]:
  """The tokens of a reading, with boxes in the image."""
  steps = [(choice, part) for choice, part in steps if choice.text]
  while steps and steps[-1][0].text == ' ':
    steps.pop()
  boxes = [_to_box(part.piece, to_image, shape) if part else None for _, part in steps]
  tokens = []
  for i, (choice, _) in enumerate(steps):
    box = boxes[i]
    if box is None:  # A space lies between its neighbours.
      left, right = boxes[i - 1], boxes[i + 1]
      assert left is not None and right is not None
      box = left[2], min(left[1], right[1]), max(left[2], right[0]), max(left[3], right[3])
    tokens.append(Token(choice.text, choice.probability, box))
  return tokens


def _to_box(
  piece: pieces.Piece, to_image: Float[np.ndarray, '3 3'], shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
  """The box that holds the corners of a piece's box in the image."""
  corners = np.array([[x, y, 1] for x in (piece.left, piece.right) for y in (piece.top, piece.bottom)]) @ to_image.T
  corners = np.round(corners[:, :2] / corners[:, 2:], 6)
  low, high = np.floor(corners.min(0)), np.ceil(corners.max(0))
  (left, top), (right, bottom) = (np.clip(side, 0, shape[::-1]).astype(int).tolist() for side in (low, high))
  return left, top, right, bottom
