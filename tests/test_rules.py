"""Rules, frames, boxes, tables and combs."""

import numpy as np
from PIL import Image, ImageDraw
import pytest

from digits.handwriting import rules

SIZE = (420, 160)


def draw(shapes, size=SIZE):
  """A mask of lines and ellipses: (name, coordinates, width)."""
  picture = Image.new('1', size)
  pen = ImageDraw.Draw(picture)
  for name, places, width in shapes:
    if name == 'line':
      pen.line(places, fill=1, width=width)
    else:
      pen.ellipse(places, outline=1, width=width)
  return np.asarray(picture)


def lines(*places, width=2):
  return [('line', place, width) for place in places]


# Five digits, more or less: 0 1 0 7 0.
WRITING = [
  ('ellipse', (60, 55, 90, 105), 6),
  ('line', (135, 55, 130, 105), 6),
  ('ellipse', (180, 55, 210, 105), 6),
  ('line', (240, 58, 270, 58, 250, 105), 6),
  ('ellipse', (300, 55, 330, 105), 6),
]
LOWER = [(name, [y + 12 if i % 2 else y for i, y in enumerate(places)], width) for name, places, width in WRITING]
BOX = (45, 345, 40, 120)
WALLS = range(45, 346, 60)
PRINTED = {
  'ruled': (lines((0, 112, 420, 112)), LOWER),
  'sloping': (lines((0, 122, 420, 132)), WRITING),
  'shorter than the picture': (lines((50, 118, 350, 118)), WRITING),
  'squared': (
    lines(*((0, y, 420, y) for y in range(20, 160, 40)), *((x, 0, x, 160) for x in range(20, 420, 40))),
    WRITING,
  ),
  'boxes': (lines((45, 40, 345, 40), (45, 120, 345, 120), *((x, 40, x, 120) for x in WALLS)), WRITING),
  'comb': (lines((45, 120, 345, 120), *((x, 104, x, 120) for x in WALLS)), WRITING),
  'frame': (lines((30, 30, 390, 30), (30, 130, 390, 130), (30, 30, 30, 130), (390, 30, 390, 130)), WRITING),
}


@pytest.mark.parametrize('kind', PRINTED)
def test_what_is_printed_goes_and_strokes_stay(kind):
  printed, writing = PRINTED[kind]
  rule, ink = draw(printed), draw(writing)
  found = rules.find_rules(rule | ink)
  assert found[rule & ~ink].mean() > 0.95
  assert (ink & ~found).sum() > 0.9 * ink.sum()


def test_a_table_goes_and_its_cells_stay():
  rows = (20, 100, 180, 260)
  table = lines(*((20, y, 500, y) for y in rows), *((x, 20, x, 260) for x in (20, 180, 340, 500)))
  writing = [
    ('ellipse', (left, top, left + 24, top + 44), 6) for top in (38, 118, 198) for left in (60, 100, 220, 380, 430)
  ]
  rule, ink = draw(table, (520, 280)), draw(writing, (520, 280))
  found = rules.find_rules(rule | ink)
  assert found[rule].mean() > 0.95
  assert not (found & ink).any()


DIGITS = {
  '1': lines((60, 10, 60, 150), width=8),
  '7': lines((20, 15, 100, 15, 50, 150), width=8),
  '2': lines((20, 30, 60, 12, 95, 40, 20, 145, 105, 145), width=8),
  '5': lines((95, 15, 30, 15, 28, 70, 90, 80, 90, 135, 20, 145), width=8),
  'minus': lines((30, 80, 90, 80), width=8),
}


@pytest.mark.parametrize('digit', DIGITS)
def test_a_digit_that_fills_the_picture_has_no_rules(digit):
  assert not rules.find_rules(draw(DIGITS[digit], (120, 160))).any()


def test_level_bars_of_digits_in_a_row_are_no_rule():
  sevens = [('line', (left, 50, left + 40, 50, left + 15, 110), 6) for left in range(20, 380, 60)]
  mask = draw(sevens)
  assert rules.find_rules(mask).sum() < 0.02 * mask.sum()
