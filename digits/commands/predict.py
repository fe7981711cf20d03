"""Says which digit each image shows, with probabilities calibrated on the validation split.

Example: digits predict --workdir=runs/cnn_reading photo.jpg scan.png

digits read reads images of several digits.
"""

import argparse
from collections.abc import Sequence
import itertools
import json
import pathlib
import sys
from typing import Any

from jaxtyping import Float, UInt8
import numpy as np

from digits import errors
from digits.commands import cli

# The network of configs/cnn_reading.py gives what is no digit about the same probability for every digit.
_UNSURE = 0.3


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments."""
  parser = cli.make_parser(
    'predict', __doc__, workdir='directory of a run, or of a comparison, whose models all answer'
  )
  cli.add_images(parser)
  parser.add_argument(
    '--preview', metavar='DIR', type=pathlib.Path, help='write the 28x28 pictures that the model saw there'
  )
  parser.add_argument(
    '--min-confidence',
    type=float,
    default=_UNSURE,
    metavar='P',
    help=f'below this probability, {_UNSURE} if not given, the answer is "unsure"',
  )
  args = parser.parse_args(argv)
  if not 0 <= args.min_confidence <= 1:
    raise errors.UsageError(f'--min-confidence={args.min_confidence:g} is not a probability: give one from 0 to 1.')
  if args.preview and args.preview.exists() and not args.preview.is_dir():
    raise errors.UsageError(f'--preview={args.preview} is a file: name a folder, which is made if need be.')
  return args


def run(args: argparse.Namespace) -> None:
  """Prints one line per image; those that cannot be read are errors on standard error and in the exit code."""
  from digits.commands import images
  from digits.handwriting import predict

  models = predict.load_calibrated(args.workdir)
  prepared = list(images.answer_each(args.images, _prepare))
  names = [name for name, _ in prepared]
  pictures = np.concatenate([np.zeros((0, 28, 28, 1), np.uint8), *(one.image for _, one in prepared)])
  several = [bool(one.several) for _, one in prepared]
  left_out = [bool(one.left_out) for _, one in prepared]
  for name in itertools.compress(names, several):
    print(f'{name} seems to show several digits: "digits read" reads them all.', file=sys.stderr)
  for name in itertools.compress(names, left_out):
    print(f'{name}: ink at its edge was left out.', file=sys.stderr)
  if args.preview:
    _write_previews(args.preview, names, pictures)
  answers = {
    model: _describe(predict.compute_probabilities(pictures, run, temperature), args.min_confidence)
    for model, (run, temperature) in models.items()
  }
  rows = [{model: described[i] for model, described in answers.items()} for i in range(len(names))]
  if args.json:
    described = [
      {'file': name, 'several_digits': several[i], 'ink_left_out': left_out[i], 'models': rows[i]}
      for i, name in enumerate(names)
    ]
    print(json.dumps({'images': described}))
  elif names:
    _print_table(names, rows, list(models))
  if len(names) < len(args.images):
    sys.exit(1)


def _prepare(picture: Any) -> Any:
  from digits.handwriting import predict

  prepared = predict.prepare_images([picture.image])
  return prepared if prepared.image.any() else None


def _describe(probabilities: Float[np.ndarray, 'n classes'], min_confidence: float) -> list[dict[str, Any]]:
  """One dict of JSON types per image; the digit is None where the model is unsure."""
  described = []
  for probability in probabilities.tolist():
    first, second = sorted(range(len(probability)), key=lambda digit: -probability[digit])[:2]
    described.append(
      {
        'digit': first if probability[first] >= min_confidence else None,
        'probability': probability[first],
        'second': {'digit': second, 'probability': probability[second]},
        'probabilities': probability,
      }
    )
  return described


def _print_table(names: list[str], rows: list[dict[str, dict[str, Any]]], models: list[str]) -> None:
  width = min(max(len(name) for name in [*names, 'file']), 60)
  if len(models) > 1:
    print(' ' * width + ''.join(f'{model:>34}' for model in models))
  print(f'{"file":{width}}' + f'{"digit":>9}{"probability":>13}{"second":>12}' * len(models))
  for name, row in zip(names, rows, strict=True):
    cells = [f'{name:{width}}']
    for answer in row.values():
      digit = 'unsure' if answer['digit'] is None else answer['digit']
      second = f'{answer["second"]["digit"]} {answer["second"]["probability"]:.1%}'
      cells.append(f'{digit:>9}{answer["probability"]:>13.1%}{second:>12}')
    print(''.join(cells))


def _write_previews(directory: pathlib.Path, names: list[str], pictures: UInt8[np.ndarray, 'n 28 28 1']) -> None:
  from PIL import Image

  directory.mkdir(parents=True, exist_ok=True)
  for i, (name, picture) in enumerate(zip(names, pictures, strict=True), 1):
    stem = 'stdin' if name == '-' else pathlib.Path(name).stem
    Image.fromarray(picture[..., 0]).save(directory / f'{i:04d}-{stem}.png')
