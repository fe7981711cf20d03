"""Reading whole fields, such as a ZIP code, a date or an amount: lines of digits and the signs between them.

Broken digits are joined; what is too wide for one digit is cut, along paths that cross little ink; and the reading of a
line is the one where the model is surest of all parts.
"""

import math
from typing import NamedTuple

from jaxtyping import Float, Float32, UInt8
import numpy as np
from scipy import ndimage

from digits.data import center
from digits.handwriting import lattice, patterns, pieces, predict, prepare, segment, signs
from digits.train import runs

# What the model is less sure of than this is no digit.
REJECT = 0.5
# A piece that is no sign and no digit is dropped if it is smaller than this, in heights of the line's digits.
_UNKNOWN_SIGN = 0.4
_LEAST_SIGN = 1e-4  # Signs that are less probable are not considered.
# Costs in nats: a part of a digit can look like a digit, and few are wider than the line is high.
_PART_COST = 0.1
_WIDTH_COST = 2.0  # For each height.
_SIGN_COST = 0.3  # There are fewer signs than digits.
_REJECT_COST = 1.0  # Of what is no digit: a digit that is cut wrongly is none.
_DROP_COST = 3.0  # Of leaving out something as thick as the pen.
_SPECK = 0.5  # Widths of the pen: what is smaller is no ink.
# Lines are level if they slope by less than this many degrees, and are sought up to the steepest slope.
_LEVEL = 2.5
_STEEPEST = 12
_LEAST_HIGH = 0.6  # Pieces that are lower than this part of a digit may be signs, which do not stand on the line.
_CLEAR = 2.0  # A slope is one if it is this many times its standard error.
# A page of at least so many digits and signs is tried upside down if it reads with less certainty than this, and is so
# if it then reads with so much more.
_LEAST_TURNED = 3
_UPRIGHT = 0.93
_SURER = 0.05
# It is tried on its sides if it reads as at least so many lines of few digits, as lines of writing do from the side.
_STACKED_LINES = 3
_STACKED_LENGTH = 3.2
# Dates are written in these ways. A slash and a digit 1 can look the same, so that a line that may be one of them, at a
# cost of at most this many nats, is.
_DATES = tuple(
  patterns.parse(f'{day}/{month}/{year}') for day in ('9', '99') for month in ('9', '99') for year in ('99', '9999')
)
_DATE_COST = 5.0


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
    """The probability that all of it is right, each part by itself."""
    return math.prod(token.probability for token in self.tokens)


class Reading(NamedTuple):
  """What a field says.

  Attributes:
    lines: from top to bottom; none where there is no ink.
    notes: sentences about what was left out.
  """

  lines: list[Line]
  notes: tuple[str, ...] = ()


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
  page = prepare.find_page(image)
  lines, left_out = _read_page(page, image.shape, run, temperature, expect)
  for turns, gain in _directions(lines):
    turned = _read_page(_turn(page, turns), image.shape, run, temperature, expect)
    if _certainty(turned[0]) > _certainty(lines) + gain:
      lines, left_out = turned
  notes = page.notes
  if left_out:
    notes += (f'{left_out} mark{"s" * (left_out > 1)} smaller than a digit, and no sign, left out.',)
  return Reading(lines, notes)


def _read_page(
  page: prepare.Page, shape: tuple[int, ...], run: runs.Run, temperature: float, expect: patterns.Pattern | None
) -> tuple[list[Line], int]:
  """The lines of a page that is upright, and how many marks were left out; `shape` is that of the image."""
  page = _level(page)
  rows = [segment.find_parts(line) for line in _find_lines(page.ink)]
  wanted = [part.piece.ink[None] for row in rows for part in row.parts if part.is_digit]
  probabilities = iter(())
  if wanted:
    pictures = np.concatenate([center.center(ink) for ink in wanted])[..., None]
    probabilities = iter(predict.compute_probabilities(pictures, run, temperature))
  lines, left_out = [], 0
  for row in rows:
    edges = [
      lattice.Edge(part.start, part.stop, _choices(part, next(probabilities) if part.is_digit else None, row), part)
      for part in row.parts
    ]
    steps, fits = _choose(edges, row.spaces, expect)
    left_out += sum(not choice.text for choice, _ in steps)
    tokens = _to_tokens(steps, page.to_image, shape)
    if tokens:
      lines.append(Line(tokens, fits))
  return lines, left_out


def _directions(lines: list[Line]) -> list[tuple[int, float]]:
  """The quarter turns to try on a page that reads as these lines, and how much more certain it must then be."""
  certainty, length = _certainty(lines), sum(token.text != ' ' for line in lines for token in line.tokens)
  is_stacked = len(lines) >= _STACKED_LINES and length < _STACKED_LENGTH * len(lines)
  sides = [(1, 0.0), (3, 0.0)] if is_stacked and certainty < 1 else []
  return sides + ([(2, _SURER)] if certainty < _UPRIGHT and length >= _LEAST_TURNED else [])


def _certainty(lines: list[Line]) -> float:
  """The mean probability of the digits, where what is no digit has none; less where most of it is signs."""
  tokens = [token for line in lines for token in line.tokens if token.text != ' ']
  num_signs = sum(token.text != '?' and not token.text.isdecimal() for token in tokens)
  total = sum(token.probability for token in tokens if token.text.isdecimal())
  return total / max(len(tokens) - num_signs, num_signs, 1)


def _turn(page: prepare.Page, turns: int) -> prepare.Page:
  """The page turned to the left by so many quarters."""
  to_page = np.eye(3)
  height, width = page.ink.shape
  for _ in range(turns):
    # What is at (x, y) of the turned page was at (width - y, x) before.
    to_page = to_page @ [[0, -1, width], [1, 0, 0], [0, 0, 1]]
    height, width = width, height
  return prepare.Page(np.rot90(page.ink, turns), page.to_image @ to_page, page.notes)


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
  high = [piece for piece in found if piece.height >= _LEAST_HIGH * height]
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
  tangent = float(dx @ dy / max(dx @ dx, 1e-9))
  freedom = max(len(dx) - len(lines) - 1, 1)
  error = math.sqrt(float(((dy - tangent * dx) ** 2).sum()) / freedom / max(float(dx @ dx), 1e-9))
  if abs(tangent) < _CLEAR * error:
    return 0.0
  return float(np.clip(math.degrees(math.atan(tangent)), -_STEEPEST, _STEEPEST))


def _find_lines(ink: Float[np.ndarray, 'height width']) -> list[list[pieces.Piece]]:
  return pieces.group_lines(_drop_specks(pieces.find_pieces(ink)))


def _drop_specks(found: list[pieces.Piece]) -> list[pieces.Piece]:
  """Leaves out what is smaller than a dot of the pen."""
  if not found:
    return []
  height = max(piece.height for piece in found)
  pen = float(np.median([signs.measure_pen(piece.ink) for piece in found if piece.height >= height / 2]))
  return [piece for piece in found if max(piece.height, piece.width) >= _SPECK * pen]


def _choices(
  part: segment.Part, row: Float32[np.ndarray, '10'] | None, line: segment.Row
) -> tuple[lattice.Choice, ...]:
  """What a part may be."""
  height = line.geometry.height
  cost = part.cost + _PART_COST + _WIDTH_COST * max(0.0, part.piece.width / height - 1)
  choices = [lattice.Choice(sign, p, _log(p) - cost - _SIGN_COST) for sign, p in part.signs.items() if p > _LEAST_SIGN]
  rest = max(1 - sum(part.signs.values()), 0.0)
  likely = [] if row is None else row.tolist()
  if likely and max(likely) >= REJECT:
    choices += [lattice.Choice(str(digit), p * rest, _log(p * rest) - cost) for digit, p in enumerate(likely)]
  elif likely:
    p = max(likely) * rest
    choices.append(lattice.Choice('?', p, _log(p) - cost - _REJECT_COST))
  if part.may_drop:
    choices.append(lattice.Choice('', rest, _log(rest) - _DROP_COST))
    if max(part.piece.height, part.piece.width) >= _UNKNOWN_SIGN * height:
      choices.append(lattice.Choice('?', REJECT * rest, _log(REJECT * rest) - _REJECT_COST))
  return tuple(choices)


def _log(probability: float) -> float:
  return math.log(max(probability, 1e-9))


def _choose(
  edges: list[lattice.Edge], spaces: dict[int, tuple[float, float]], expect: patterns.Pattern | None
) -> tuple[list[lattice.Step], bool | None]:
  """The best reading, and whether it fits what is expected."""
  if expect is not None:
    found = lattice.find_best(edges, spaces, expect)
    if found is not None:
      return found[1], True
  free = lattice.find_best(edges, spaces)
  assert free is not None  # Whatever the ink, a piece may be a digit, ? or nothing.
  if any(choice.text == '/' for edge in edges for choice in edge.choices):
    dates = [found for found in (lattice.find_best(edges, spaces, date) for date in _DATES) if found]
    free = max([free, *((score + _DATE_COST, steps) for score, steps in dates)], key=lambda found: found[0])
  return free[1], None if expect is None else False


def _to_tokens(steps: list[lattice.Step], to_image: Float[np.ndarray, '3 3'], shape: tuple[int, ...]) -> list[Token]:
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
      assert left is not None
      assert right is not None
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
