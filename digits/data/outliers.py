"""Pictures that show no digit, as MNIST's are prepared, from which a network learns to be unsure.

What a reader of photographs meets beside digits: parts of digits, two at a time, lines of forms, letters, signs,
scribbles, dirt. What a person may take for a digit is left out: a slash is a one, half of an eight is a three.
"""

from collections.abc import Callable
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.data import arrays, pen
from digits.data.pen import BOX, Ink, line, SIDE

# Without what looks like a digit, upright or in some hand: B b D e f G g I i J j l O o Q q r S s t Y y Z z, and the
# signs / | $ and the comma, which is a small nine.
_LETTERS = 'ACEFHKLMNPRTUVWXacdhkmnpuvwx'
_SIGNS = '-.:;+=%#&?!()*@>"~'

# Which slices of which digits are surely none: the side that is kept, and how much of the height or width at most.
# A slice of a stem would be a one, the loop of a six or nine a zero, the right half of an eight a three.
_SLICES = {
  'top': {0: 0.3, 2: 0.25, 3: 0.25, 4: 0.35, 5: 0.25, 7: 0.18, 8: 0.28, 9: 0.25},
  'bottom': {0: 0.3, 2: 0.22, 3: 0.25, 5: 0.25, 6: 0.25, 8: 0.28},
  'left': {2: 0.4, 3: 0.4, 5: 0.35, 7: 0.35, 8: 0.35},
  'right': {2: 0.25, 5: 0.25},
}
_LEAST_SLICE = 0.15
_ENLARGED = 4  # Digits of MNIST are cut when they are this many times as large, as those of a photograph are.
_LEAST_SIDE = 36  # The longer side of a slice in these pixels; a smaller one would be enlarged to a blot.
_LEAST_INK = 60  # Pixels of a drawing.


def draw_outliers(seed: int, count: int, digits: arrays.Split) -> arrays.Split:
  """Draws pictures of no digit.

  Args:
    seed: seed of all randomness.
    count: number of pictures.
    digits: pictures of digits, of which parts and pairs are made.

  Returns:
    The pictures, all with the label `NO_DIGIT`.
  """
  kinds = list(KINDS)
  share = np.array([KINDS[kind][0] for kind in kinds])

  def draw(number):
    rng = np.random.default_rng((seed, number))
    kind = rng.choice(kinds, p=share / share.sum())
    return draw_outlier(rng, kind, digits)

  images = pen.prepare(map(draw, range(count)))
  return arrays.Split(images, np.full(count, arrays.NO_DIGIT, np.int32))


def draw_outlier(rng: np.random.Generator, kind: str, digits: arrays.Split) -> Ink:
  """Draws a picture of one kind, a name in `KINDS`; where nothing of that kind comes out, a scribble."""
  for _ in range(20):
    ink = KINDS[kind][1](rng, digits)
    if ink is not None and (ink > 0.5).sum() >= _LEAST_INK and not _is_upright_line(ink):
      return ink
  return _scribble(rng, digits)


def _is_upright_line(ink, alone=0.85):
  """Whether a picture is high and narrow, as a one is, but for pieces that have less ink than the share 1 - `alone`."""
  labels, _ = ndimage.label(ink > 0.2, np.ones((3, 3)))
  pieces = np.bincount(labels.ravel())[1:]
  if not len(pieces):
    return True
  rows, columns = ndimage.find_objects(labels)[pieces.argmax()]
  is_alone = pieces.max() > alone * pieces.sum()
  return bool(is_alone and rows.stop - rows.start > 1.5 * (columns.stop - columns.start))


def _slice(rng, digits):
  side = rng.choice(list(_SLICES))
  row = rng.integers(len(digits.label))
  most = _SLICES[side].get(int(digits.label[row]))
  if most is None:
    return None
  ink = _enlarge(digits.image[row, ..., 0])
  rows, columns = _extent(ink)
  share = rng.uniform(_LEAST_SLICE, most)
  height, width = (max(1, round(share * (place.stop - place.start))) for place in (rows, columns))
  keep = {
    'top': (slice(0, rows.start + height), slice(None)),
    'bottom': (slice(rows.stop - height, None), slice(None)),
    'left': (slice(None), slice(0, columns.start + width)),
    'right': (slice(None), slice(columns.stop - width, None)),
  }[side]
  part = np.zeros((SIDE, SIDE), np.float32)
  part[: ink.shape[0], : ink.shape[1]][keep] = ink[keep]
  longer = max(place.stop - place.start for place in _extent(part))
  return None if longer < _LEAST_SIDE or _is_upright_line(part, alone=0.45) else part


def _pair(rng, digits):
  """Two digits side by side; they may touch, but do not merge into another digit."""
  pictures = []
  for row in rng.integers(len(digits.label), size=2):
    image = Image.fromarray(digits.image[row, ..., 0])
    size = [round(2 * 28 * rng.uniform(0.85, 1.15)) for _ in range(2)]
    ink = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32) / 255
    pictures.append(ink[:, _extent(ink)[1]])
  left, right = pictures
  page = np.zeros((SIDE, SIDE), np.float32)
  start = max(0, SIDE // 2 - left.shape[1])
  gap = int(rng.integers(-3, 9))
  if left.shape[1] < 20 or right.shape[1] < 20:  # A one and what it touches may be a four, or a nine.
    gap = max(gap, 4)
  for picture, column in ((left, start), (right, start + left.shape[1] + gap)):
    row = 35 + int(rng.integers(-6, 7))
    part = page[row : row + picture.shape[0], column : column + picture.shape[1]]
    np.maximum(part, picture[: part.shape[0], : part.shape[1]], out=part)
  return page


def _letter(rng, digits):
  return pen.draw_text(rng, rng.choice(list(_LETTERS)), pen.choose_font(rng))


def _sign(rng, digits):
  return pen.draw_text(rng, rng.choice(list(_SIGNS)), pen.choose_font(rng))


def _box(rng, digits):
  """Corners and edges of printed boxes; not the upper right corner, which is a seven, nor a whole box, a zero."""
  x, y = rng.uniform(0.5, 1.3), rng.uniform(0.5, 1)
  shapes = [
    [line((0, 0), (0, y), (x, y))],
    [line((0, y), (0, 0), (x, 0))],
    [line((0, y), (x, y), (x, 0))],
    [line((0, 0), (x, 0), (x, y), (0, y))],
    [line((x, 0), (0, 0), (0, y), (x, y))],
    [line((0, y), (0, 0), (x, 0), (x, y))],
    [line((0, 0), (0, y), (x, y), (x, 0))],
    [line((0, 0), (1, 0))],
    [line((0, 0), (1, 0)), line((0, y / 3), (1, y / 3))],
    [line((0, 0), (1, 0)), line((0, y / 2), (1, y / 2)), line((0, y), (1, y))],
    [line((0, 0), (0, 1)), line((x, 0), (x, 1))],
    [line((0, 0), (0, 1)), line((x / 2, 0), (x / 2, 1)), line((x, 0), (x, 1))],
    [line((0, y / 2), (x, y / 2)), line((0, 0), (0, y)), line((x, 0), (x, y))],
  ]
  return pen.draw_strokes(rng, shapes[rng.integers(len(shapes))], loose=0.008)


def _crossing(rng, digits):
  """Straight lines that meet or cross, as in a table; arrows and ticks; not what may be a one with a flag or a foot."""
  a, b, c = rng.uniform(0.25, 0.75, 3)
  x = rng.uniform(0.6, 1.2)
  shapes = [
    [line((0, b), (1, c)), line((a, 0), (b, 1))],
    [line((0, 0), (x, 0)), line((x * rng.uniform(0.35, 0.65), 0), (x / 2, 1))],
    [line((0, 1), (x, 1)), line((a * x, 0.4), (a * x, 1))],
    [line((0, 0), (0, 1)), line((0, a), (x, b))],
    [line((0, 0), (0, 1), (x, 1)), line((-0.2, 1.2), (a, b))],
    [line((0, 0), (x, 1)), line((x, 0), (0, 1))],
    [line((0, 0.5), (1, 0.5)), line((0.5, 0), (0.5, 1)), line((0.1, 0.1), (0.9, 0.9)), line((0.9, 0.1), (0.1, 0.9))],
    [line((0, 0), (1.2, 0)), line((0.9, -0.3), (1.2, 0), (0.9, 0.3))],
    [line((0, 0), (1.2, 0)), line((0.3, -0.3), (0, 0), (0.3, 0.3))],
    [line((0, 0.55), (0.3, 1), (1, 0))],
    [line((0, 0), (x / 2, 1), (x, 0))],
    [line((0, 0), (1, b / 2)), line((0, 1), (1, 0.7))],
  ]
  return pen.draw_strokes(rng, shapes[rng.integers(len(shapes))], loose=0.015)


def _scribble(rng, digits):
  width = rng.uniform(0.7, 1.6)
  turns = int(rng.integers(5, 12))
  along = np.linspace(0, width, turns)
  middle = 0.5 + rng.normal(0, 0.1, turns)
  reach = rng.uniform(0.25, 0.5, turns)
  zigzag = list(zip(along, middle + reach * (-1) ** np.arange(turns), strict=True))
  kind = rng.integers(5)
  if kind == 0:
    strokes = [line(*zigzag)]
  elif kind == 1:
    strokes = [zigzag]
  elif kind == 2:
    strokes = [[(width * x, y) for x, y in rng.random((turns + 8, 2))]]
  elif kind == 3:  # A spiral.
    angles = np.arange(0, rng.uniform(2.6, 4.5) * 2 * math.pi, 0.7)
    strokes = [[(width * a / angles[-1] * math.cos(a), a / angles[-1] * math.sin(a)) for a in angles]]
  else:  # Loops along a line.
    angles = np.arange(0, rng.uniform(2.5, 4.5) * 2 * math.pi, 0.7)
    strokes = [[(0.12 * a + 0.5 * math.cos(a), 0.5 * math.sin(a)) for a in angles]]
  return pen.draw_strokes(rng, strokes)


def _texture(rng, digits):
  """Noise of paper, dirt and shadows."""
  kind = rng.integers(6)
  rows, columns = np.indices((SIDE, SIDE), np.float32)
  noise = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(1.5, 8), mode='wrap')
  noise = (noise / noise.std()).astype(np.float32)
  if kind == 0:
    ink = noise > rng.uniform(0, 1.2)
  elif kind == 1:
    ink = np.clip(noise * rng.uniform(0.1, 0.4) + rng.uniform(0.1, 0.5), 0, 1)
  elif kind == 2:  # A blot.
    distance = np.hypot((rows - SIDE / 2) * rng.uniform(0.8, 1.3), columns - SIDE / 2)
    ink = distance + 6 * noise < rng.uniform(25, 45)
  elif kind == 3:  # The edge of a shadow.
    angle = rng.uniform(0, 2 * math.pi)
    ramp = (rows - SIDE / 2) * math.sin(angle) + (columns - SIDE / 2) * math.cos(angle)
    ink = np.clip(ramp / rng.uniform(1, SIDE) + 0.1 * noise, 0, 1)
  elif kind == 4:  # Hatching.
    angle, period = rng.uniform(0, math.pi), rng.uniform(12, 35)
    phase = (rows * math.sin(angle) + columns * math.cos(angle) + 2 * noise) / period
    ink = phase % 1 < rng.uniform(0.25, 0.6)
  else:  # Specks.
    ink = np.zeros((SIDE, SIDE), np.float32)
    places = rng.integers(20, SIDE - 20, (int(rng.integers(3, 15)), 2))
    for row, column in places:
      ink[np.hypot(rows - row, columns - column) < rng.uniform(2, 10)] = 1
  inside = (slice(20, 20 + BOX), slice(20, 20 + BOX))
  page = np.zeros((SIDE, SIDE), np.float32)
  page[inside] = np.asarray(ink, np.float32)[inside]
  return page


def _enlarge(image):
  size = _ENLARGED * image.shape[0]
  return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255


def _extent(ink):
  """The rows and the columns that have ink."""
  rows, columns = (np.flatnonzero((ink > 0.2).any(axis)) for axis in (1, 0))
  if not len(rows):
    return slice(0, ink.shape[0]), slice(0, ink.shape[1])
  return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


_Draw = Callable[[np.random.Generator, arrays.Split], Ink | None]

# By name the share among all, and how one is drawn.
KINDS: dict[str, tuple[float, _Draw]] = {
  'slice': (0.2, _slice),
  'pair': (0.25, _pair),
  'letter': (0.18, _letter),
  'sign': (0.1, _sign),
  'box': (0.08, _box),
  'crossing': (0.07, _crossing),
  'scribble': (0.07, _scribble),
  'texture': (0.05, _texture),
}
