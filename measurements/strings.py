"""Measures the reading of strings: python -m measurements.strings --workdir=runs/cnn [--num=500] [--json=FILE].

Strings are composed from digits of MNIST whose labels are known, each condition anew, and photographed: other sizes,
brightness, uneven light, noise. Of the strings that are not wholly right it says why: a digit that the model reads
wrongly also where it stands alone in MNIST, another number of digits than there are, or a digit that suffered on the
way. Tune on --split=train or valid.
"""

import argparse
import json
import math
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from digits import data
from digits.handwriting import fields, predict
from digits.train import runs

_MAX_SLANT = 14  # Degrees.
_MARGIN = 8  # Pixels of MNIST, as are all lengths before a field is enlarged.


class Condition(NamedTuple):
  """What fields of one kind are like.

  Attributes:
    num_digits: least and most digits of a line.
    num_lines: of writing.
    slanted: whether all digits lean, the same way, by up to 14 degrees.
    rule: where a line is ruled, in heights of the line of writing from its top; None for none.
    gap: least and most pixels between the boxes of two digits.
  """

  num_digits: tuple[int, int] = (5, 5)
  num_lines: int = 1
  slanted: bool = False
  rule: float | None = None
  gap: tuple[int, int] = (2, 8)


CONDITIONS = {
  'upright': Condition(),
  'slanted': Condition(slanted=True),
  'ruled under': Condition(rule=0.95),
  'ruled through': Condition(rule=0.5),
  'two lines': Condition(num_lines=2),
  '3 to 10 digits': Condition(num_digits=(3, 10)),
  'touching': Condition(gap=(-1, 0)),
}
# A field of the mix is of one of these.
MIXED = (
  Condition(),
  Condition(slanted=True),
  Condition(rule=0.95),
  Condition(num_lines=2),
  Condition(slanted=True, rule=0.95),
  Condition(slanted=True, num_lines=2),
)


def compose(rng, split, condition):
  """Draws a field.

  Args:
    rng: a NumPy generator.
    split: the `Split` its digits are from.
    condition: a `Condition`.

  Returns:
    uint8[H, W], and for each line the rows of the split that it shows.
  """
  scale = rng.uniform(1.5, 6)
  slant = math.radians(rng.uniform(-_MAX_SLANT, _MAX_SLANT)) if condition.slanted else 0
  lines, rows = [], []
  for _ in range(condition.num_lines):
    rows.append(rng.integers(len(split.label), size=rng.integers(condition.num_digits[0], condition.num_digits[1] + 1)))
    lines.append(_write(rng, split.image[rows[-1], ..., 0], condition, scale, slant))
  width = max(line.shape[1] for line in lines)
  ink = np.concatenate([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines])
  return photograph(rng, ink), rows


def _write(rng, digits, condition, scale, slant):
  """A line of writing, float32[H, W], 1 for ink on 0."""
  ink = line_up(rng, [digit[:, digit.any(0)] / np.float32(255) for digit in digits], condition.gap)
  height, width = (round(length * scale) for length in ink.shape)
  ink = lean(np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC)), slant)
  if condition.rule is None:
    return ink
  slope = math.tan(math.radians(rng.uniform(-1, 1)))
  middle = (_MARGIN + 4 + 20 * condition.rule) * scale + slope * (np.arange(width) - width / 2)
  thickness = scale * rng.uniform(0.5, 1.2)
  distance = np.abs(np.arange(height)[:, None] - middle)
  return np.maximum(ink, rng.uniform(0.5, 1) * np.clip(thickness / 2 + 0.5 - distance, 0, 1)).astype(np.float32)


def line_up(rng, glyphs, gap, unit=1):
  """Writes glyphs side by side, with jitter about the line that they stand on and a margin around them.

  Args:
    rng: a NumPy generator.
    glyphs: float32[H, W] of one height and of any width, 1 for ink on 0.
    gap: least and most pixels of MNIST between two glyphs; they overlap if it is negative.
    unit: pixels for one of MNIST.

  Returns:
    float32[H, W].
  """
  gaps = unit * rng.integers(gap[0], gap[1] + 1, len(glyphs))
  height, margin = glyphs[0].shape[0], unit * _MARGIN
  ink = np.zeros((height + 2 * margin, sum(glyph.shape[1] for glyph in glyphs) + gaps.sum() + 4 * margin), np.float32)
  left = 2 * margin
  for glyph, space in zip(glyphs, gaps, strict=True):
    top = margin + unit * rng.integers(-3, 4)
    place = ink[top : top + height, left : left + glyph.shape[1]]
    np.maximum(place, glyph, out=place)
    left += glyph.shape[1] + space
  return ink


def lean(ink, slant):
  """Ink whose strokes lean by an angle in radians."""
  height, width = ink.shape
  shear = math.tan(slant)
  leaning = Image.fromarray(ink).transform(
    (width, height), Image.Transform.AFFINE, (1, shear, -shear * height / 2, 0, 1, 0), Image.Resampling.BICUBIC
  )
  return np.clip(np.asarray(leaning), 0, 1)


def photograph(rng, ink):
  """A picture uint8[H, W] of ink float32[H, W] on paper: some brightness, uneven light, blur and noise."""
  light = uneven_light(rng, *ink.shape)
  image = rng.uniform(140, 235) * light * (1 - rng.uniform(0.4, 0.9) * ndimage.gaussian_filter(ink, 0.5))
  return np.clip(image + rng.normal(0, rng.uniform(1, 6), ink.shape), 0, 255).astype(np.uint8)


def uneven_light(rng, height, width):
  """Light about 1 that changes evenly from one side to the other, and from the top to the bottom: [H, W]."""
  light = 1 + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, width)
  return light + rng.uniform(-0.1, 0.1) * np.linspace(-1, 1, height)[:, None]


def measure(run, split, composed):
  """Reads fields, and counts the strings that are right and why others are not.

  Args:
    run: a `Run`.
    split: the `Split` that the digits are from.
    composed: an iterable of what `compose` gives.

  Returns:
    dict of counts: `strings`, `right`, and the rest of them: `model` for strings with a digit that the model does not
    read in MNIST either, `count` for another number of digits than there are, `digit` for a wrong one of others.
  """
  readable = predict.apply_batched(run, split.image).argmax(1) == split.label
  counts = {'strings': 0, 'right': 0, 'model': 0, 'count': 0, 'digit': 0}
  for image, rows in composed:
    lines = fields.read(image, run).lines
    for i, line_rows in enumerate(rows):
      # Lines that are missing or too many are errors of all of the field.
      answer = lines[i].text if len(lines) == len(rows) else None
      counts['strings'] += 1
      if answer == ''.join(str(label) for label in split.label[line_rows]):
        counts['right'] += 1
      elif not readable[line_rows].all():
        counts['model'] += 1
      else:
        counts['digit' if answer is not None and len(answer) == len(line_rows) else 'count'] += 1
  return counts


def compose_all(rng, split, conditions, num):
  """Yields fields with `num` strings or one more."""
  while num > 0:
    condition = conditions[rng.integers(len(conditions))]
    yield compose(rng, split, condition)
    num -= condition.num_lines


def main():
  parser = argparse.ArgumentParser(prog='python -m measurements.strings', description=__doc__)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--num', type=int, default=500, help='strings of each condition')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--split', default='test', choices=('train', 'valid', 'test'))
  parser.add_argument('--conditions', nargs='*', choices=('mix', *CONDITIONS), default=None)
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write the counts there')
  args = parser.parse_args()
  run = runs.load_run(args.workdir)
  dataset = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation)
  split = getattr(dataset, args.split)
  measured = {}
  print(f'{"":16}{"right":>8}{"model":>8}{"count":>8}{"digit":>8}')
  for name, conditions in {'mix': MIXED, **{name: (value,) for name, value in CONDITIONS.items()}}.items():
    if args.conditions and name not in args.conditions:
      continue
    # A seed of its own for each condition: adding one does not change the others.
    rng = np.random.default_rng([args.seed, *name.encode()])
    counts = measured[name] = measure(run, split, compose_all(rng, split, conditions, args.num))
    shares = ''.join(f'{counts[key] / counts["strings"]:>8.1%}' for key in ('right', 'model', 'count', 'digit'))
    print(f'{name:16}{shares}', flush=True)
  if args.json:
    content = {'model': run.config.model, 'split': args.split, 'seed': args.seed, 'conditions': measured}
    args.json.write_text(json.dumps(content, indent=2) + '\n')


if __name__ == '__main__':
  main()
