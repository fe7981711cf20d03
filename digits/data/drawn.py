"""Digits drawn by a program, in styles that MNIST has rarely or never, as MNIST's are prepared.

MNIST was written by Americans around 1990: few of its ones have a flag, few of its sevens a bar, few of its zeros
a slash. Each picture is drawn from a few points that a pen passes, moved at random, or from a font, bent at random. It
is a function of the seed and its number alone.
"""

from collections.abc import Callable
import math
from typing import TypeAlias

import numpy as np

from digits.data import arrays, pen
from digits.data.pen import arc, Ink, line, Stroke

_FONT_STYLE = 'font'


def draw_digits(seed: int, count: int) -> arrays.Split:
  """Draws digits in all styles, each class as often as any other.

  Args:
    seed: seed of all randomness.
    count: number of pictures.
  """

  def draw(number):
    turn, digit = divmod(number, arrays.NUM_CLASSES)
    styles = styles_of(digit)
    return draw_digit(np.random.default_rng((seed, number)), digit, styles[turn % len(styles)])

  label = np.arange(count, dtype=np.int32) % arrays.NUM_CLASSES
  return arrays.Split(pen.prepare(map(draw, range(count))), label)


def styles_of(digit: int) -> tuple[str, ...]:
  """The names of a digit's styles; the last one is that of all fonts."""
  return *_STYLES[digit], _FONT_STYLE


def draw_digit(rng: np.random.Generator, digit: int, style: str) -> Ink:
  """Draws a digit in one of the styles that `styles_of` names."""
  if style == _FONT_STYLE:
    font = rng.choice([name for name in (pen.DEFAULT_FONT, *pen.FONTS) if digit or 'Mono' not in name])
    return pen.draw_text(rng, str(digit), font)
  return pen.draw_strokes(rng, _STYLES[digit][style](rng))


# The styles of each digit.


def _zero(rng, width):
  start = rng.uniform(60, 130)
  return arc(width, 0.5, width, 0.5, start, start + rng.uniform(345, 385))


def _narrow_zero(rng):
  return [_zero(rng, rng.uniform(0.17, 0.27))]


def _wide_zero(rng):
  return [_zero(rng, rng.uniform(0.4, 0.55))]


def _slashed_zero(rng):
  width, reach = rng.uniform(0.3, 0.48), rng.uniform(0.75, 1.2)
  tilt = math.radians(rng.uniform(35, 60))
  x, y = reach * width * math.cos(tilt), reach * 0.5 * math.sin(tilt)
  return [_zero(rng, width), line((width + x, 0.5 - y), (width - x, 0.5 + y))]


def _bare_one(rng):
  lean = rng.normal(0.05, 0.2)
  return [line((lean, 0), (0, 1))]


def _one(rng, flag, foot):
  x, y = flag
  strokes = [line((0.5 - x, y), (0.5, 0), (0.5 + rng.normal(0, 0.02), 1))]
  if rng.random() < 0.4:
    strokes = [[(0.5 - x, y), (0.5 - 0.4 * x, 0.45 * y), (0.5, 0), *strokes[0][2:]]]
  if foot:
    strokes.append(line((0.5 - rng.uniform(0.12, 0.35), 1), (0.5 + rng.uniform(0.12, 0.35), 1)))
  return strokes


def _short_flag(rng):
  x = rng.uniform(0.1, 0.24)
  return x, x * rng.uniform(0.7, 1.3)


def _long_flag(rng):
  x = rng.uniform(0.25, 0.5)
  return x, x * rng.uniform(0.9, 1.5)


def _two(rng, bottom):
  knee = rng.uniform(0.25, 0.38)
  top = [(0.1, rng.uniform(0.15, 0.3)), (0.33, 0.01), (0.62, 0.06), (0.7, knee), (0.5, 0.62)]
  return [top + bottom]


def _plain_two(rng):
  return _two(rng, [(0.08, 0.98), (0.08, 0.98), (rng.uniform(0.7, 0.95), rng.uniform(0.93, 1.0))])


def _looped_two(rng):
  return _two(rng, [(0.2, 0.95), (0.04, 0.9), (0.14, 0.77), (0.4, 0.88), (0.65, 0.98), (0.9, rng.uniform(0.82, 0.95))])


def _three(rng, top):
  waist = (rng.uniform(0.28, 0.42), rng.uniform(0.4, 0.48))
  return [[*top, waist, waist, (0.66, 0.54), (0.74, 0.77), (0.45, 1.0), (0.05, rng.uniform(0.82, 0.95))]]


def _round_three(rng):
  return _three(rng, [(0.1, rng.uniform(0.08, 0.2)), (0.4, 0.0), (0.67, 0.15), (0.58, 0.36)])


def _flat_three(rng):
  corner = (rng.uniform(0.6, 0.75), 0.0)
  return _three(rng, [(0.08, rng.uniform(0.0, 0.04)), corner, corner])


def _open_four(rng):
  x, y, top = rng.uniform(0.5, 0.62), rng.uniform(0.5, 0.65), rng.uniform(0.0, 0.3)
  start = rng.uniform(0.15, 0.3)
  bar = line((start, 0), (0.02, y), (rng.uniform(0.75, 0.95), y - rng.uniform(0, 0.05)))
  return [bar, line((x, top), (x - rng.normal(0.03, 0.03), 1))]


def _square_four(rng):
  y, reach = rng.uniform(0.45, 0.6), rng.uniform(0, 0.2)
  return [line((0.1, rng.uniform(0, 0.1)), (0.08, y), (0.65 + reach, y)), line((0.65, 0), (0.65, 1))]


def _closed_four(rng):
  y, x = rng.uniform(0.58, 0.72), rng.uniform(0.55, 0.7)
  return [line((x, 0), (0, y), (rng.uniform(0.8, 0.98), y)), line((x, rng.uniform(0, 0.05)), (x, 1))]


def _one_stroke_four(rng):
  y, x = rng.uniform(0.55, 0.68), rng.uniform(0.55, 0.68)
  return [line((x, 1), (x, 0), (0, y), (rng.uniform(0.8, 1), y))]


def _belly(rng):
  return [(0.48, rng.uniform(0.34, 0.42)), (0.76, 0.62), (0.58, 0.95), (0.05, rng.uniform(0.88, 0.98))]


def _five(rng):
  corner, inner = (rng.uniform(0.18, 0.28), 0.02), (rng.uniform(0.1, 0.2), rng.uniform(0.38, 0.46))
  return [[(rng.uniform(0.65, 0.85), 0), corner, corner, inner, inner, *_belly(rng)]]


def _detached_five(rng):
  inner, top = (0.15, rng.uniform(0.38, 0.46)), rng.uniform(0, 0.1)
  left = rng.uniform(0.22, 0.4)
  bar = line((left, top - 0.06), (left + rng.uniform(0.4, 0.6), top - rng.uniform(0.02, 0.12)))
  return [[(0.2, top), inner, inner, *_belly(rng)], bar]


def _long_six(rng):
  return [[(rng.uniform(0.55, 0.85), 0), (0.36, 0.32), (0.12, 0.68), *_six_loop(rng)]]


def _curved_six(rng):
  return [[(rng.uniform(0.5, 0.75), 0.02), (0.32, 0.16), (0.1, 0.45), (0.06, 0.72), *_six_loop(rng)]]


def _six_loop(rng):
  end = rng.uniform(0.68, 0.8)
  return [(0.22, 0.96), (0.5, 0.97), (0.66, 0.78), (0.5, rng.uniform(0.52, 0.6)), (0.24, 0.62), (0.1, end)]


def _angular_six(rng):
  x = rng.uniform(0.0, 0.12)
  return [line((rng.uniform(0.2, 0.5), 0), (x, 0.55), (x, 0.98), (0.62, 1), (0.62, rng.uniform(0.48, 0.6)), (x, 0.55))]


def _seven(rng, serif, crossed, curved=False):
  right, x = rng.uniform(0.6, 0.8), rng.uniform(0.1, 0.4)
  y = rng.uniform(-0.02, 0.06)
  start = [(rng.uniform(-0.03, 0.06), rng.uniform(0.13, 0.24)), (0.03, y), (0.03, y)] if serif else [(0.0, y)]
  bend = [((right + x) / 2 - 0.1, 0.42), (x, 1)] if curved else [(x, 1)]
  strokes = [[*start, (right, 0), (right, 0), *bend]]
  if crossed:
    height = rng.uniform(0.42, 0.58)
    middle = right + (x - right) * height - (0.07 if curved else 0)
    rise = rng.uniform(-0.03, 0.06)
    reach = rng.uniform(0.16, 0.28, 2)
    strokes.append(line((middle - reach[0], height + rise), (middle + reach[1], height - rise)))
  return strokes


def _two_circle_eight(rng):
  cut, upper, lower = rng.uniform(0.42, 0.5), rng.uniform(0.2, 0.28), rng.uniform(0.25, 0.34)
  top, bottom = rng.uniform(180, 360, 2)
  apart = rng.uniform(-0.015, 0.015)
  return [
    arc(0.5, cut / 2 - apart, upper, cut / 2, top, top + rng.uniform(350, 380)),
    arc(0.5, (1 + cut) / 2 + apart, lower, (1 - cut) / 2, bottom, bottom + rng.uniform(350, 380)),
  ]


def _one_stroke_eight(rng):
  cross = rng.uniform(0.42, 0.5)
  s = [(0.68, 0.1), (0.45, 0), (0.22, 0.18), (0.46, cross), (0.74, 0.72), (0.46, 1.0)]
  end = [(0.72, rng.uniform(0.12, 0.22)), (rng.uniform(0.6, 0.72), 0.08)]
  return [[*s, (0.2, 0.76), (0.46, cross), *end]]


def _nine(rng, tail):
  corner = (0.66, rng.uniform(0.08, 0.2))
  loop = [corner, (0.42, 0.0), (0.12, 0.13), (0.08, 0.34), (0.32, 0.48), (0.58, 0.36), corner]
  return [[*loop, corner, *tail]]


def _angular_nine(rng):
  x, y, lean = rng.uniform(0.55, 0.66), rng.uniform(0.38, 0.5), rng.normal(0.03, 0.05)
  return [
    line((x, 0), (0.08, rng.uniform(0, 0.06)), (0.06, y), (x, y - 0.03)),
    line((x, 0), (x - lean, 1)),
  ]


_Style: TypeAlias = Callable[[np.random.Generator], list[Stroke]]

# By digit and name of the style.
_STYLES: dict[int, dict[str, _Style]] = {
  0: {'narrow': _narrow_zero, 'wide': _wide_zero, 'slashed': _slashed_zero},
  1: {
    'bare': _bare_one,
    'flag': lambda rng: _one(rng, _short_flag(rng), foot=False),
    'long flag': lambda rng: _one(rng, _long_flag(rng), foot=False),
    'flag and foot': lambda rng: _one(rng, _short_flag(rng), foot=True),
    'long flag and foot': lambda rng: _one(rng, _long_flag(rng), foot=True),
  },
  2: {'plain': _plain_two, 'looped': _looped_two},
  3: {'round': _round_three, 'flat': _flat_three},
  4: {'open': _open_four, 'square': _square_four, 'closed': _closed_four, 'one stroke': _one_stroke_four},
  5: {'one stroke': _five, 'detached': _detached_five},
  6: {'long': _long_six, 'curved': _curved_six, 'angular': _angular_six},
  7: {
    'plain': lambda rng: _seven(rng, serif=False, crossed=False),
    'crossed': lambda rng: _seven(rng, serif=False, crossed=True),
    'serif': lambda rng: _seven(rng, serif=True, crossed=False),
    'serif and crossed': lambda rng: _seven(rng, serif=True, crossed=True),
    'curved and crossed': lambda rng: _seven(rng, serif=rng.random() < 0.5, crossed=True, curved=True),
  },
  8: {'two circles': _two_circle_eight, 'one stroke': _one_stroke_eight},
  9: {
    'straight': lambda rng: _nine(rng, [(rng.uniform(0.55, 0.68), 1.0)]),
    'curved': lambda rng: _nine(rng, [(0.68, 0.55), (0.55, 0.93), (rng.uniform(0.1, 0.25), rng.uniform(0.88, 1.0))]),
    'angular': _angular_nine,
  },
}
