"""Reads images of several digits, such as ZIP codes, dates, amounts and the lines of a form.

Example: digits read --workdir=runs/cnn_reading form.jpg --annotate=out.png

Besides digits it reads - / . , and :, a wide gap is a space, and ? stands for what is no digit. Ruled lines and specks
are dropped. --expect=PATTERN says what form every line has: 9 stands for a digit, 9+ for one or more, and - / . , : and
space for themselves, as in 99999, 99/99/9999 and 9+.99.

A line is printed with the probability that all of it is right. --json gives for each image its file, notes and lines,
and for each line text, digits_only, confidence, sure, and its digits and signs: each with its probability and its box,
which is left, top, right, bottom in pixels of the file. An image that cannot be read is an error on standard error.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import sys
from typing import Any

from jaxtyping import Float, UInt8
import numpy as np

from digits import errors
from digits.commands import cli

_UNSURE = 0.5  # The probability of a ? is less.


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments."""
  parser = cli.make_parser('read', __doc__, workdir='directory of a run, or of a comparison, whose best model answers')
  cli.add_images(parser)
  parser.add_argument('--expect', metavar='PATTERN', help='the form of every line, such as 99/99/9999')
  parser.add_argument(
    '--min-confidence',
    type=float,
    default=_UNSURE,
    metavar='P',
    help=f'lines that are right with less than this probability, {_UNSURE} if not given, are unsure',
  )
  parser.add_argument(
    '--annotate', type=pathlib.Path, metavar='OUT.png', help='draw boxes and answers there; for one image'
  )
  args = parser.parse_args(argv)
  if args.annotate and len(args.images) > 1:
    raise errors.UsageError('--annotate is for one image: give one, or leave it out.')
  if args.annotate and args.annotate.suffix.lower() != '.png':
    raise errors.UsageError(f'--annotate={args.annotate} is not the name of a PNG file, such as out.png.')
  if args.annotate and not args.annotate.parent.is_dir():
    raise errors.UsageError(f'--annotate={args.annotate} is in a folder that does not exist: make it first.')
  if args.annotate and args.annotate.resolve() == pathlib.Path(args.images[0]).resolve():
    raise errors.UsageError(f'--annotate={args.annotate} is the image itself: give another name.')
  if not 0 <= args.min_confidence <= 1:
    raise errors.UsageError(f'--min-confidence={args.min_confidence:g} is not a probability: give one from 0 to 1.')
  if args.expect is not None:
    from digits.handwriting import patterns

    args.expect = patterns.parse(args.expect)
  return args


def run(args: argparse.Namespace) -> None:
  """Prints the lines of each image.

  Images that cannot be read, and lines that do not fit the pattern, are errors on standard error and in the exit code.
  """
  from digits.commands import images
  from digits.handwriting import fields, image_files, predict
  from digits.train import runs

  paths = runs.find_runs(args.workdir)
  run = runs.load_run(paths[runs.best_of(paths)])
  temperature = predict.load_temperature(run)

  def read(picture: image_files.Picture) -> tuple[image_files.Picture, fields.Reading] | None:
    reading = fields.read(picture.image, run, temperature=temperature, expect=args.expect)
    return (picture, reading) if reading.lines else None

  answers: list[dict[str, Any]] = []
  all_fit = True
  for source, (picture, reading) in images.answer_each(args.images, read):
    scale = np.divide(picture.size, picture.image.shape[::-1])
    lines = [_describe(line, args.min_confidence, scale) for line in reading.lines]
    answers.append({'file': source, 'notes': list(reading.notes), 'lines': lines})
    if not args.json:
      _print(answers[-1])
    if args.annotate:
      _annotate(args.annotate, picture.image, reading.lines)
    for line in reading.lines:
      if line.fits is False:
        all_fit = False
        print(f'error: {source}: {line.text} does not fit the pattern of --expect.', file=sys.stderr)
  if args.json:
    print(json.dumps({'model': run.name, 'images': answers}))
  if len(answers) < len(args.images) or not all_fit:
    sys.exit(1)


def _print(answer: dict[str, Any]) -> None:
  for note in answer['notes']:
    print(f'{answer["file"]}: {note}', file=sys.stderr)
  for line in answer['lines']:
    doubt = '' if line['sure'] else 'unsure, '
    print(f'{answer["file"]}: {line["text"]}  ({doubt}{line["confidence"]:.1%})')


def _describe(line: Any, min_confidence: float, scale: Float[np.ndarray, '2']) -> dict[str, Any]:
  """A line as JSON types; its digits and its other characters are two lists, each from left to right.

  Args:
    line: the line.
    min_confidence: below this it is not sure.
    scale: how many pixels of the file one of the picture is wide and high; boxes are in those of the file.
  """
  tokens: dict[str, list[dict[str, Any]]] = {'digits': [], 'signs': []}
  for token in line.tokens:
    box = np.rint(np.reshape(token.box, (2, 2)) * scale).astype(int).ravel().tolist()
    rest = {'probability': token.probability, 'box': box}
    if token.text.isdecimal():
      tokens['digits'].append({'digit': int(token.text), **rest})
    else:
      tokens['signs'].append({'sign': token.text, **rest})
  fits = {} if line.fits is None else {'fits': line.fits}
  sure = line.confidence >= min_confidence
  described = {'text': line.text, 'digits_only': line.digits_only, 'confidence': line.confidence, 'sure': sure}
  return described | fits | tokens


def _annotate(path: pathlib.Path, image: UInt8[np.ndarray, 'height width'], lines: list[Any]) -> None:
  """Writes the image with a box around each digit and sign, and above it what was read."""
  from PIL import Image, ImageDraw, ImageFont

  picture = Image.fromarray(image).convert('RGB')
  draw = ImageDraw.Draw(picture)
  for line in lines:
    # Labels are as large as the line's digits ask for, at small signs too.
    height = max(token.box[3] - token.box[1] for token in line.tokens)
    size = max(10, height // 3)
    font = ImageFont.load_default(size)
    for token in line.tokens:
      if token.text == ' ':
        continue
      left, top, right, bottom = token.box
      outline = (left, top, max(left, right - 1), max(top, bottom - 1))
      draw.rectangle(outline, outline='#d9480f', width=max(1, height // 40))
      label = f'{token.text} {token.probability:.0%}'
      place = left, max(top, size * 5 // 4)
      draw.rectangle(draw.textbbox(place, label, font=font, anchor='lb'), fill='#ffffff')
      draw.text(place, label, font=font, anchor='lb', fill='#d9480f')
  picture.save(path)
