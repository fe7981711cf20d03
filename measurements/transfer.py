"""Measures what models make of images unlike those they were trained on.

python -m measurements.transfer --workdir=[NAME=]DIR [--workdir=[NAME=]DIR ...] [--photos=DIR] [--json=FILE]

A row for each measurement, a column for each model:

- the share of the test split that is right, as it is and under each corruption of MNIST-C, with means over all fifteen
  and over the eleven that no affine augmentation covers;
- fields of five digits, as `measurements.strings` mixes them: the share of strings that are right;
- digits pasted elsewhere, as in `measurements.handwriting`: the share of answers that stay;
- single digits of a folder of photos: how many are right. The folder has a labels.csv with the columns file and answer,
  and files of single digits are called digit-*.

All models get the same images. A run of a comparison is given as its own directory, RECIPE/seed-N.
"""

import argparse
import csv
import json
import pathlib
import sys

import numpy as np

from digits import data, errors
from digits.commands import cli
from digits.data import corruptions
from digits.handwriting import image_files, predict
from digits.runtime import files
from digits.train import runs
from measurements import handwriting, strings

NUM_STRINGS = 500
NUM_PASTED = 1000


def say(text):
  """Says on standard error what is being done."""
  print(text, file=sys.stderr, flush=True)


def corrupt_all(images):
  """The images under each corruption, by its name. Each has a seed of its own, so that one does not change another."""
  say(f'corrupting {len(images):,} images')
  return {
    name: corrupt(np.random.default_rng([0, *name.encode()]), images)
    for name, corrupt in corruptions.CORRUPTIONS.items()
  }


def measure_corruptions(run, labels, corrupted):
  """Accuracy of a run under each corruption, and the means."""
  accuracy = {}
  for name, images in corrupted.items():
    accuracy[name] = float((predict.apply_batched(run, images).argmax(1) == labels).mean())
    say(f'  {name} {accuracy[name]:.2%}')
  others = [value for name, value in accuracy.items() if name not in corruptions.AFFINE]
  return {
    'accuracy': accuracy,
    'mean': float(np.mean(list(accuracy.values()))),
    'mean_not_affine': float(np.mean(others)),
  }


def measure_photos(run, photos):
  """How many single digits of photos are right, and which are not; `photos` as from `load_photos`."""
  answers = predict.predict([image for _, image, _ in photos], run, temperature=1.0).digit
  wrong = [name for (name, _, label), answer in zip(photos, answers, strict=True) if answer != label]
  return {'digits': len(photos), 'right': len(photos) - len(wrong), 'wrong': wrong}


def measure(run, split, corrupted, photos=(), num_strings=NUM_STRINGS, num_pasted=NUM_PASTED):
  """Measures a run.

  Args:
    run: a `Run`.
    split: the test `Split`.
    corrupted: its images as from `corrupt_all`.
    photos: single digits as from `load_photos`, if any.
    num_strings: strings to compose.
    num_pasted: digits to paste.
  """
  measured = {'model': run.name, 'corruptions': measure_corruptions(run, split.label, corrupted)}
  say(f'  {num_strings:,} strings')
  rng = np.random.default_rng([0, *b'mix'])  # As in measurements.strings.
  composed = strings.compose_all(rng, split, strings.MIXED, num_strings)
  measured['strings'] = strings.measure(run, split, composed)
  num_pasted = min(num_pasted, len(split.label))
  say(f'  {num_pasted:,} pasted digits')
  measured['answers'] = handwriting.measure_answers(run, split, num_pasted)
  if photos:
    say(f'  {len(photos)} photos')
    measured['photos'] = measure_photos(run, photos)
  return measured


def load_labels(folder):
  """The lines of a folder's labels.csv, each a dict by the names of the columns; all have a file and an answer.

  Raises:
    UsageError: there is no folder or no such file in it, it lacks a column, or a line lacks a file or an answer.
    DigitsError: it cannot be read.
  """
  path = folder / 'labels.csv'
  if not folder.is_dir():
    raise errors.UsageError(f'There is no folder {folder}: name one with pictures and a labels.csv.')
  if not path.exists():
    raise errors.UsageError(f'{folder} has no labels.csv: write one with the columns file and answer.')
  with files.describe_os_errors(path):
    content = path.read_text(encoding='utf-8-sig', errors='replace')
  rows = list(csv.DictReader(content.splitlines()))
  if not rows or not {'file', 'answer'} <= rows[0].keys():
    raise errors.UsageError(f'{path} needs a first line with the columns file and answer, and a line for each photo.')
  for row in rows:
    if not row['file']:
      raise errors.UsageError(f'{path} has a line without a file: name the photo that it is about.')
    if not row['answer']:
      raise errors.UsageError(f'{path} has no answer for {row["file"]}: write what it shows.')
  return rows


def load_photos(folder):
  """The name, the image and the label of each single digit of a folder.

  Raises:
    DigitsError: labels.csv or a photo cannot be read.
    UsageError: labels.csv is not as in `load_labels`, an answer is no digit, or there are no single digits.
  """
  photos = []
  for row in load_labels(folder):
    if row['file'].startswith('digit-'):
      if row['answer'] not in list('0123456789'):
        raise errors.UsageError(
          f'{folder / "labels.csv"} gives {row["answer"]!r} as the answer of {row["file"]}: give one digit.'
        )
      photos.append((row['file'], image_files.read(folder / row['file']).image, int(row['answer'])))
  if not photos:
    raise errors.UsageError(
      f'{folder / "labels.csv"} names no files digit-*: give a folder of photos of single digits.'
    )
  return photos


def check_json(path):
  """Refuses a file of --json that cannot be written, before the minutes of measuring."""
  if path and not path.absolute().parent.is_dir():
    raise errors.UsageError(f'There is no folder {path.parent} for --json: make it, or name another.')
  if path and path.is_dir():
    raise errors.UsageError(f'{path} is a folder: give --json the name of a file.')


def load_named_runs(arguments):
  """Runs by name, of arguments [NAME=]DIR; a run without a name is called as its directory.

  Raises:
    UsageError: there is no run in a directory, or two have the same name.
    DigitsError: a file of a run is damaged.
  """
  named = {}
  for argument in arguments:
    name, separator, directory = argument.partition('=')
    directory = pathlib.Path(directory if separator else argument)
    name = name if separator else directory.resolve().name
    if name in named:
      raise errors.UsageError(f'Two models are called {name}: give names, as in --workdir={name}2={directory}.')
    named[name] = runs.load_run(directory)
  return named


def format_table(measured):
  """A row for each measurement, a column for each model, and below it the photos that each model got wrong."""
  models = list(measured.values())

  def shares(find):
    return [f'{find(model):.2%}' for model in models]

  rows = {'test split': shares(lambda model: model['answers']['accuracy'])}
  for name in corruptions.CORRUPTIONS:
    rows[name] = shares(lambda model, name=name: model['corruptions']['accuracy'][name])
  rows['mean of the fifteen'] = shares(lambda model: model['corruptions']['mean'])
  rows['mean of the eleven not affine'] = shares(lambda model: model['corruptions']['mean_not_affine'])
  rows['strings of five digits'] = shares(lambda model: model['strings']['right'] / model['strings']['strings'])
  rows['test split, prepared'] = shares(lambda model: model['answers']['accuracy_prepared'])
  rows['pasted, answer stays'] = shares(lambda model: model['answers']['answers_unchanged'])
  photos = {name: model['photos'] for name, model in measured.items() if 'photos' in model}
  if photos:
    rows['photos of a digit'] = [f'{some["right"]}/{some["digits"]}' for some in photos.values()]
  rows = {'': list(measured)} | rows
  widths = [max(map(len, column)) + 2 for column in zip(*rows.values(), strict=True)]
  lines = [
    f'{title:30}' + ''.join(f'{cell:>{width}}' for cell, width in zip(cells, widths, strict=True))
    for title, cells in rows.items()
  ]
  lines += [f'{name} got wrong: {", ".join(some["wrong"])}' for name, some in photos.items() if some['wrong']]
  return '\n'.join(lines)


def main(argv=None):
  """Runs the command."""
  parser = argparse.ArgumentParser(
    prog='python -m measurements.transfer', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', action='append', required=True, metavar='[NAME=]DIR', help='of a run; repeatable')
  parser.add_argument('--photos', type=pathlib.Path, metavar='DIR', help='photos, and their labels.csv')
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write the numbers there, by name of the model')
  args = parser.parse_args(argv)
  check_json(args.json)
  photos = load_photos(args.photos) if args.photos else ()
  named = load_named_runs(args.workdir)
  corrupted, measured = {}, {}
  for name, run in named.items():
    config = run.config
    split = data.load_dataset(config.dataset, config.data_dir, config.num_validation).test
    source = config.dataset, config.data_dir
    if source not in corrupted:
      corrupted[source] = corrupt_all(split.image)
    say(name)
    measured[name] = measure(run, split, corrupted[source], photos, NUM_STRINGS, NUM_PASTED)
  print(format_table(measured))
  if args.json:
    args.json.write_text(json.dumps(measured, indent=2) + '\n')


if __name__ == '__main__':
  cli.run(main)
