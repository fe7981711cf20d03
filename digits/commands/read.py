"""Reads images of several digits, such as ZIP codes, amounts and the lines of a form.

Example: digits read --workdir=runs/cnn_augmented form.jpg --annotate=out.png

Ruled lines and specks are dropped. Every other sign is read as a digit.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import sys
from typing import Any

from jaxtyping import UInt8
import numpy as np

from digits import errors
from digits.commands import cli


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments."""
  parser = cli.make_parser('read', __doc__, workdir='directory of a run, or of a comparison, whose best model answers')
  cli.add_images(parser)
  parser.add_argument(
    '--annotate', type=pathlib.Path, metavar='OUT.png', help='draw boxes and answers there; for one image'
  )
  args = parser.parse_args(argv)
  if args.annotate and len(args.images) > 1:
    raise errors.UsageError('--annotate is for one image: give one, or leave it out.')
  if args.annotate and args.annotate.suffix.lower() != '.png':
    raise errors.UsageError(f'--annotate={args.annotate} is not the name of a PNG file, such as out.png.')
  return args


def run(args: argparse.Namespace) -> None:
  """Prints the lines of each image; those that cannot be read are errors on standard error and in the exit code."""
  from digits.commands import images
  from digits.handwriting import fields, predict
  from digits.train import runs

  paths = runs.find_runs(args.workdir)
  run = runs.load_run(paths[runs.best_of(paths)])
  temperature = predict.load_temperature(run)

  def read(image: np.ndarray) -> list[list[fields.Digit]] | None:
    lines = fields.read_digits(image, run, temperature=temperature)
    if lines and args.annotate:
      _annotate(args.annotate, image, lines)
    return lines or None

  answers: list[dict[str, Any]] = []
  for source, lines in images.answer_each(args.images, read):
    answers.append({'file': source, 'lines': [_describe(line) for line in lines]})
    if not args.json:
      for line in answers[-1]['lines']:
        print(f'{source}: {line["text"]}  (each digit at least {line["confidence"]:.1%})')
  if args.json:
    print(json.dumps({'model': run.name, 'images': answers}))
  if len(answers) < len(args.images):
    sys.exit(1)


def _describe(line: list[Any]) -> dict[str, Any]:
  return {
    'text': ''.join(str(digit.value) for digit in line),
    'confidence': min(digit.probability for digit in line),
    'digits': [{'digit': digit.value, 'probability': digit.probability, 'box': list(digit.box)} for digit in line],
  }


def _annotate(path: pathlib.Path, image: UInt8[np.ndarray, 'height width'], lines: list[list[Any]]) -> None:
  """Writes the image with a box around each digit, and above it what was read."""
  from PIL import Image, ImageDraw, ImageFont

  picture = Image.fromarray(image).convert('RGB')
  draw = ImageDraw.Draw(picture)
  for digit in (digit for line in lines for digit in line):
    left, top, right, bottom = digit.box
    size = max(10, (bottom - top) // 3)
    font = ImageFont.load_default(size)
    draw.rectangle((left, top, right - 1, bottom - 1), outline='#d9480f', width=max(1, (bottom - top) // 40))
    label = f'{digit.value} {digit.probability:.0%}'
    place = left, max(top, size * 5 // 4)
    draw.rectangle(draw.textbbox(place, label, font=font, anchor='lb'), fill='#ffffff')
    draw.text(place, label, font=font, anchor='lb', fill='#d9480f')
  picture.save(path)
