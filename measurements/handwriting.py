"""Measures preparation and prediction: python -m measurements.handwriting --workdir=runs/cnn [--timing] [--json=FILE].

Says how accurate a model is on the test split as it is and through the preparation, how many of its answers stay when
the digits are pasted elsewhere, and how often `digits predict` says that there are several digits. With --timing it
says instead how long answers take; the machine should be quiet. A file that is there already is brought up to date.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from digits import data
from digits.handwriting import image_files, predict, prepare
from digits.train import runs
from measurements import strings

_FILTERS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
# What undoes each EXIF orientation, from the EXIF standard by way of Pillow's names.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def paste(rng, digit):
  """Puts a digit on another canvas: scale 1 to 20, any place, polarity, brightness and EXIF rotation.

  Args:
    rng: a NumPy generator.
    digit: uint8[28, 28], ink 255 on 0.

  Returns:
    bytes of a JPEG, PNG, WebP or TIFF file.
  """
  side = round(28 * rng.uniform(1, 20))
  ink = np.asarray(Image.fromarray(digit).resize((side, side), rng.choice(_FILTERS)), np.float32) / 255
  ink = np.pad(ink, rng.integers(0, side // 2 + 1, (2, 2)))
  paper = rng.uniform(0, 255)
  pen = rng.choice([level for level in np.linspace(0, 255, 18) if abs(level - paper) > 60])
  image = Image.fromarray((paper + (pen - paper) * ink + 0.5).astype(np.uint8))
  orientation = int(rng.integers(1, 9))
  if orientation != 1:
    image = image.transpose(Image.Transpose(_TURNS[orientation]))
  exif = Image.Exif()
  exif[0x0112] = orientation
  kind = rng.choice(['JPEG', 'PNG', 'WEBP', 'TIFF'])
  file = io.BytesIO()
  image.save(file, kind, exif=exif, **({'quality': 80} if kind in ('JPEG', 'WEBP') else {}))
  return file.getvalue()


def measure_answers(run, split, num_pasted):
  """Accuracy of a run on a split, plain and prepared, and the share of answers that stay when digits are pasted."""
  plain = predict.apply_batched(run, split.image).argmax(1)
  prepared = predict.apply_batched(run, prepare.prepare(split.image[..., 0])).argmax(1)
  rng = np.random.default_rng(0)
  rows = rng.choice(len(split.label), num_pasted, replace=False)
  pasted = prepare.prepare([image_files.decode(paste(rng, split.image[row, ..., 0])) for row in rows])
  stayed = predict.apply_batched(run, pasted).argmax(1) == plain[rows]
  return {
    'images': len(split.label),
    'accuracy': float((plain == split.label).mean()),
    'accuracy_prepared': float((prepared == split.label).mean()),
    'pasted': num_pasted,
    'answers_unchanged': float(stayed.mean()),
  }


def measure_several(split, num_fields):
  """The share of single digits and of fields of two and three digits that are taken for several digits."""
  rng = np.random.default_rng(0)
  pairs, triples = (strings.Condition(num_digits=(number, number)) for number in (2, 3))
  images = {
    'single': split.image[..., 0],
    'pairs': [strings.compose(rng, split, pairs)[0] for _ in range(num_fields)],
    'triples': [strings.compose(rng, split, triples)[0] for _ in range(num_fields)],
    'touching_pairs': [strings.compose(rng, split, pairs._replace(gap=(-1, 0)))[0] for _ in range(num_fields)],
  }
  return {name: float(predict.prepare_images(some).several.mean()) for name, some in images.items()}


def measure_times(workdir, run, split, num_processes=5):
  """Seconds from process start to the answer for one image, and images per second for all of a split in memory."""
  seconds = []
  load = os.getloadavg()[0]
  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / 'digit.png'
    Image.fromarray(255 - split.image[0, ..., 0]).resize((280, 280)).save(path)
    command = [sys.executable, '-m', 'digits', 'predict', f'--workdir={workdir}', str(path)]
    for _ in range(num_processes + 1):  # The first fits the temperature and fills the caches.
      start = time.perf_counter()
      subprocess.run(command, check=True, capture_output=True)
      seconds.append(time.perf_counter() - start)
  predict.apply_batched(run, split.image)  # Compiles.
  start = time.perf_counter()
  prepared = prepare.prepare(split.image[..., 0])
  middle = time.perf_counter()
  predict.apply_batched(run, prepared)
  end = time.perf_counter()
  return {
    'cores': len(os.sched_getaffinity(0)),
    'load_before': load,
    'one_image_seconds': statistics.median(seconds[1:]),
    'images_per_second': len(split.label) / (end - start),
    'images_per_second_prepare': len(split.label) / (middle - start),
    'images_per_second_model': len(split.label) / (end - middle),
  }


def main():
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m measurements.handwriting', description=__doc__)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--num', type=int, default=1000, help='digits to paste')
  parser.add_argument('--timing', action='store_true', help='measure times instead of answers')
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='keep the numbers there')
  args = parser.parse_args()
  run = runs.load_run(args.workdir)
  split = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation).test
  if args.timing:
    measured = {'times': measure_times(args.workdir, run, split)}
  else:
    measured = {
      'model': run.config.model,
      'answers': measure_answers(run, split, args.num),
      'several_digits': measure_several(split, args.num),
    }
  print(json.dumps(measured, indent=2))
  if args.json:
    before = json.loads(args.json.read_text()) if args.json.exists() else {}
    args.json.write_text(json.dumps(before | measured, indent=2) + '\n')


if __name__ == '__main__':
  main()
