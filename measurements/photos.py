"""Measures a folder of real photographs: python -m measurements.photos DIR --workdir=RUN [--json=FILE].

The folder has a labels.csv with the columns file and answer, and any others. A picture whose answer is one digit is
asked of `digits predict`, and any other is read as a field, of which the digits of all lines count: in 12/05/2026, as
in 1205 2026, they are 12052026. Where the column what says multiset, the digits may come in any order.

It prints a line for each picture that is wrong, and then how many are right, among all and among the answers that are
at least 95 % sure. The confidence of a field is the probability that all of it is right.
"""

import argparse
import collections
import json
import math
import pathlib

from digits import errors
from digits.commands import cli
from digits.handwriting import fields, image_files, predict
from digits.train import runs
from measurements import transfer

SURE = 0.95


def read_text(image, run, temperature):
  """The text of a field, a line for each of writing, and the probability that all of it is right, 0 for no text."""
  lines = fields.read(image, run, temperature=temperature).lines
  return '\n'.join(line.text for line in lines), math.prod(line.confidence for line in lines) if lines else 0.0


def read_digit(image, run, temperature):
  """The one digit that a picture shows and its probability; no text and 0 where there is no ink."""
  answer = predict.predict([image], run, temperature)
  if not answer.found[0]:
    return '', 0.0
  return str(answer.digit[0]), float(answer.probability[0].max())


def read_picture(image, answer, run, temperature):
  """What a picture is taken for, and how sure that is: as a digit if the answer is one, else as a field."""
  is_digit = len(answer) == 1 and answer in '0123456789'
  return (read_digit if is_digit else read_text)(image, run, temperature)


def digits_of(text):
  """The digits of a text, without spaces, signs and breaks between lines."""
  return ''.join(character for character in text if character in '0123456789')


def count_errors(answer, read, ordered=True):
  """How many digits must be put in, left out or replaced to turn what was read into the answer.

  Args:
    answer: digits.
    read: digits.
    ordered: whether their order counts.
  """
  if not ordered:
    common = collections.Counter(answer) & collections.Counter(read)
    return max(len(answer), len(read)) - common.total()
  # Of the digits of the answer so far, the errors against each beginning of what was read.
  row = list(range(len(read) + 1))
  for i, wanted in enumerate(answer, 1):
    before, row = row, [i]
    for j, found in enumerate(read, 1):
      row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (wanted != found)))
  return row[-1]


def load_pictures(folder):
  """The lines of labels.csv, each with its `image`.

  Raises:
    UsageError: labels.csv is missing or wrong, or an answer has no digits.
    DigitsError: a picture is missing or cannot be read.
  """
  pictures = []
  for row in transfer.load_labels(folder):
    if not digits_of(row['answer']):
      raise errors.UsageError(f'The answer of {row["file"]}, {row["answer"]!r}, has no digits: correct labels.csv.')
    pictures.append(row | {'image': image_files.read(folder / row['file']).image})
  return pictures


def measure(run, pictures, temperature):
  """Reads all pictures.

  Args:
    run: a `Run`.
    pictures: as from `load_pictures`.
    temperature: what calibrates the run.

  Returns:
    A list with a dict for each picture: `file`, `answer`, `read`, `confidence`, `single` for a picture of one digit,
    `digits` in the answer, and `errors` among them, 0 if it is right.
  """
  measured = []
  for picture in pictures:
    read, confidence = read_picture(picture['image'], picture['answer'], run, temperature)
    answer = digits_of(picture['answer'])
    measured.append(
      {
        'file': picture['file'],
        'answer': picture['answer'],
        'read': read,
        'confidence': confidence,
        'single': len(picture['answer']) == 1,
        'digits': len(answer),
        'errors': count_errors(answer, digits_of(read), ordered='multiset' not in (picture.get('what') or '')),
      }
    )
  return measured


def summarize(measured):
  """Counts of what `measure` gives, of all pictures and of those whose answer is sure."""
  fields_read = [one for one in measured if not one['single']]

  def count(some):
    return {'num': len(some), 'right': sum(not one['errors'] for one in some)}

  return {
    'singles': count([one for one in measured if one['single']]),
    'fields': count(fields_read)
    | {'digits': sum(one['digits'] for one in fields_read), 'errors': sum(one['errors'] for one in fields_read)},
    'sure': count([one for one in measured if one['confidence'] >= SURE]),
  }


def format_report(measured, summary):
  """A line for each wrong picture, and a table."""
  lines = [
    f'{one["file"]}: {one["answer"]} was read as {one["read"].replace(chr(10), " | ") or "nothing"}, '
    f'confidence {one["confidence"]:.0%}'
    for one in measured
    if one['errors']
  ]
  rows = [
    ('single digits right', summary['singles']['right'], summary['singles']['num']),
    ('fields right', summary['fields']['right'], summary['fields']['num']),
    ('wrong digits of fields', summary['fields']['errors'], summary['fields']['digits']),
    (f'right where sure ({SURE:.0%})', summary['sure']['right'], summary['sure']['num']),
  ]
  return '\n'.join([*lines, *(f'{title:26}{right:>5} of {num}' for title, right, num in rows)])


def main(argv=None):
  """Runs the command."""
  parser = cli.ArgumentParser(
    prog='python -m measurements.photos', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', type=pathlib.Path, metavar='DIR', help='pictures, and their labels.csv')
  parser.add_argument('--workdir', required=True, help='of a run')
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write the numbers there')
  args = parser.parse_args(argv)
  transfer.check_json(args.json)
  pictures = load_pictures(args.folder)
  run = runs.load_run(args.workdir)
  measured = measure(run, pictures, predict.load_temperature(run))
  summary = summarize(measured)
  print(format_report(measured, summary))
  if args.json:
    args.json.write_text(json.dumps({'model': run.config.model, **summary, 'pictures': measured}, indent=2) + '\n')


if __name__ == '__main__':
  cli.run(main)
