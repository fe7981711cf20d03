"""Says which digits images show: python -m digits.commands.predict --workdir=runs/cnn IMAGE... [--preview=DIR].

An image is of one digit; python -m digits.commands.read reads several. Probabilities are calibrated on the validation split.
"""

import json
import pathlib
import sys
import types

from digits import errors
from digits.commands import cli
from digits.handwriting import predict


def main():
  """Runs the command."""
  parser = cli.ArgumentParser(prog='python -m digits.commands.predict', description=__doc__)
  parser.add_argument('--workdir', required=True, help='of a run, or of a comparison: then all its models answer')
  parser.add_argument(
    'images', nargs='+', metavar='IMAGE', help='PNG, JPEG, WebP, BMP, TIFF or GIF; - is standard input'
  )
  parser.add_argument(
    '--preview', metavar='DIR', type=pathlib.Path, help='write the 28x28 pictures the model saw there'
  )
  parser.add_argument(
    '--min-confidence', type=float, default=0, metavar='P', help='below this probability the answer is "unsure"'
  )
  parser.add_argument('--json', action='store_true', help='print one JSON document instead of a table')
  args = parser.parse_args()
  if not 0 <= args.min_confidence <= 1:
    raise errors.UsageError(f'--min-confidence={args.min_confidence:g} is not a probability: give one from 0 to 1.')
  # A file's name may hold bytes that no encoding has.
  sys.stdout.reconfigure(errors='backslashreplace')

  import numpy as np  # Imported here, so that --help and a wrong flag answer at once.

  from digits.runtime import devices

  models = predict.load_calibrated(args.workdir)
  devices.check_devices()
  names, pictures = [], []
  for name, picture in _prepare_each(args.images):
    names.append(name)
    pictures.append(picture)
  pictures = np.stack(pictures) if pictures else np.zeros((0, 28, 28, 1), np.uint8)
  if args.preview:
    _write_previews(args.preview, names, pictures)
  answers = {
    model: _describe(predict.predict_prepared(pictures, run, temperature=temperature), args.min_confidence)
    for model, (run, temperature) in models.items()
  }
  if args.json:
    print(json.dumps({'images': [{'file': name, 'models': _row(answers, i)} for i, name in enumerate(names)]}))
  elif names:
    _print_table(names, answers)
  if len(names) < len(args.images):
    sys.exit(1)


def _prepare_each(sources):
  """Yields name and uint8[28, 28, 1] of each image, one at a time, and says what is wrong with the others."""
  from digits.handwriting import image_files
  from digits.handwriting import prepare

  for source in sources:
    try:
      picture = prepare.prepare([image_files.read(source)])[0]
      if not picture.any():
        raise errors.DigitsError(f'{source} shows no digit: nothing in it stands out from the paper.')
    except errors.DigitsError as error:
      print(f'error: {error}', file=sys.stderr)
    else:
      yield source, picture


def _describe(predictions, min_confidence):
  """One dict an image, of JSON types; the digit is None where the model is unsure."""
  described = []
  for ranking, probability in zip(predictions.ranking, predictions.probability, strict=True):
    first, second = (int(digit) for digit in ranking[:2])
    described.append(
      {
        'digit': first if probability[first] >= min_confidence else None,
        'probability': float(probability[first]),
        'second': {'digit': second, 'probability': float(probability[second])},
        'probabilities': [float(value) for value in probability],
      }
    )
  return described


def _row(answers, i):
  return {model: described[i] for model, described in answers.items()}


def _print_table(names, answers):
  width = min(max(len(name) for name in [*names, 'file']), 60)
  if len(answers) > 1:
    print(' ' * width + ''.join(f'{model:>34}' for model in answers))
  print(f'{"file":{width}}' + f'{"digit":>9}{"probability":>13}{"second":>12}' * len(answers))
  for i, name in enumerate(names):
    cells = [f'{name:{width}}']
    for answer in _row(answers, i).values():
      digit = 'unsure' if answer['digit'] is None else answer['digit']
      second = f'{answer["second"]["digit"]} {answer["second"]["probability"]:.1%}'
      cells.append(f'{digit:>9}{answer["probability"]:>13.1%}{second:>12}')
    print(''.join(cells))


def _write_previews(directory, names, pictures):
  from PIL import Image

  directory.mkdir(parents=True, exist_ok=True)
  for i, (name, picture) in enumerate(zip(names, pictures, strict=True), 1):
    stem = 'stdin' if name == '-' else pathlib.Path(name).stem
    Image.fromarray(picture[..., 0]).save(directory / f'{i:04d}-{stem}.png')


class _CallableModule(types.ModuleType):
  """Lets `digits.predict(...)` be the function also where `import digits.predict` has put this module in its place."""

  def __call__(self, images, run, **options):
    """See `digits.prediction.predict`."""
    return predict.predict(images, run, **options)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == '__main__':
  cli.run(main)
