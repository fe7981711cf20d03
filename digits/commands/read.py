"""Reads fields of several digits: python -m digits.commands.read --workdir=runs/cnn IMAGE... [--annotate=OUT.png].

For ZIP codes, amounts and form lines; ruled lines and specks are dropped. Every sign is read as a digit.
"""

import json
import pathlib
import sys

from digits import errors
from digits.commands import cli


def main():
  """Runs the command."""
  parser = cli.ArgumentParser(prog='python -m digits.commands.read', description=__doc__)
  parser.add_argument('--workdir', required=True, help='of a run; of a comparison, its best model answers')
  parser.add_argument(
    'images', nargs='+', metavar='IMAGE', help='PNG, JPEG, WebP, BMP, TIFF or GIF; - is standard input'
  )
  parser.add_argument(
    '--annotate', type=pathlib.Path, metavar='OUT.png', help='draw boxes and answers there; one image'
  )
  parser.add_argument('--json', action='store_true', help='print one JSON document: strings, boxes, confidences')
  args = parser.parse_args()
  if args.annotate and len(args.images) > 1:
    raise errors.UsageError('--annotate is for one image: give one, or leave it out.')
  if args.annotate and args.annotate.suffix.lower() != '.png':
    raise errors.UsageError(f'--annotate={args.annotate} is not the name of a PNG file, such as out.png.')
  # A file's name may hold bytes that no encoding has.
  sys.stdout.reconfigure(errors='backslashreplace')

  from digits.handwriting import fields
  from digits.handwriting import image_files  # Imported here, so that --help and a wrong flag answer at once.
  from digits.handwriting import predict
  from digits.runtime import devices
  from digits.train import runs

  path = runs.find_runs(args.workdir)[-1]  # The models are in order, the best last.
  run = runs.load_run(path)
  temperature = predict.load_temperature(path, run)
  devices.check_devices()
  answers = []
  for source in args.images:
    try:
      image = image_files.read(source)
      lines = fields.read_digits(image, run, temperature=temperature)
      if not lines:
        raise errors.DigitsError(f'{source} shows no digit: nothing in it stands out from the paper.')
    except errors.DigitsError as error:
      print(f'error: {error}', file=sys.stderr)
      continue
    answers.append({'file': source, 'lines': [_describe(line) for line in lines]})
    if not args.json:
      for line in answers[-1]['lines']:
        print(f'{source}: {line["text"]}  (each digit at least {line["confidence"]:.1%})')
    if args.annotate:
      _annotate(image, lines).save(args.annotate)
  if args.json:
    print(json.dumps({'model': run.config.model, 'images': answers}))
  if len(answers) < len(args.images):
    sys.exit(1)


def _describe(line):
  return {
    'text': ''.join(str(digit.value) for digit in line),
    'confidence': min(digit.probability for digit in line),
    'digits': [{'digit': digit.value, 'probability': digit.probability, 'box': list(digit.box)} for digit in line],
  }


def _annotate(image, lines):
  """The image with a box around each digit, and above it what was read."""
  from PIL import Image
  from PIL import ImageDraw
  from PIL import ImageFont

  picture = Image.fromarray(image).convert('RGB')
  draw = ImageDraw.Draw(picture)
  for digit in (digit for line in lines for digit in line):
    left, top, right, bottom = digit.box
    font = ImageFont.load_default(max(10, (bottom - top) // 3))
    draw.rectangle((left, top, right - 1, bottom - 1), outline='#d9480f', width=max(1, (bottom - top) // 40))
    label = f'{digit.value} {digit.probability:.0%}'
    box = draw.textbbox((left, max(top, font.size * 5 // 4)), label, font=font, anchor='lb')
    draw.rectangle(box, fill='#ffffff')
    draw.text((left, max(top, font.size * 5 // 4)), label, font=font, anchor='lb', fill='#d9480f')
  return picture


if __name__ == '__main__':
  cli.run(main)
