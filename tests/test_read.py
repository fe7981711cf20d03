"""Reading fields: digits found, ordered and recognised, on strings whose answers are known."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

import digits
from digits import errors
from digits.handwriting import fields, pieces
from measurements import strings


def _compose(rng, split, length):
  """Ink float32[H, W] of digits of a split side by side, and the string they are."""
  rows = rng.integers(len(split.label), size=length)
  ink = np.zeros((44, 40 * length + 20), np.float32)
  left = 8
  for row in rows:
    digit = split.image[row, ..., 0] / np.float32(255)
    columns = np.flatnonzero(digit.any(0))
    digit = digit[:, columns[0] : columns[-1] + 1]
    top = 8 + rng.integers(-3, 4)
    place = ink[top : top + 28, left : left + digit.shape[1]]
    np.maximum(place, digit, out=place)
    left += digit.shape[1] + rng.integers(2, 9)
  ink = ink[:, : left + 8]
  image = Image.fromarray(ink).resize((3 * ink.shape[1], 3 * ink.shape[0]), Image.Resampling.BILINEAR)
  return np.asarray(image), ''.join(str(label) for label in split.label[rows])


def _photograph(rng, ink):
  image = 210 * (1 - 0.7 * ink) + rng.normal(0, 3, ink.shape)
  return np.clip(image, 0, 255).astype(np.uint8)


def _share_right(answers, expected):
  """How many digits are right, in strings of the right length."""
  pairs = [(a, b) for got, true in zip(answers, expected, strict=True) for a, b in zip(got, true, strict=False)]
  return np.mean([a == b for a, b in pairs])


@pytest.mark.parametrize('name', [name for name in strings.CONDITIONS if name != 'touching'])
def test_strings_of_known_digits(name, mnist, quick_run):
  rng = np.random.default_rng(0)
  fields = [strings.compose(rng, mnist.valid, strings.CONDITIONS[name]) for _ in range(12)]
  counts = strings.measure(quick_run, mnist.valid, fields)
  assert counts['strings'] == 12 * strings.CONDITIONS[name].num_lines
  assert sum(counts.values()) == 2 * counts['strings']
  assert counts['count'] <= counts['strings'] / 6
  # The quick model is right on 97 % of upright single digits.
  assert counts['right'] >= counts['strings'] / 2
  assert counts['right'] + counts['model'] >= 0.7 * counts['strings']


def test_lines_are_read_from_top_to_bottom_with_boxes_where_the_digits_are(mnist, quick_run):
  rng = np.random.default_rng(3)
  inks, texts = zip(*[_compose(rng, mnist.test, length) for length in (4, 6)], strict=True)
  width = max(ink.shape[1] for ink in inks)
  ink = np.concatenate([np.pad(ink, ((0, 0), (0, width - ink.shape[1]))) for ink in inks])
  lines = fields.read_digits(_photograph(rng, ink), quick_run)
  assert [len(line) for line in lines] == [len(text) for text in texts]
  assert _share_right([[str(digit.value) for digit in line] for line in lines], texts) >= 0.8
  outside = ink.copy()
  for i, line in enumerate(lines):
    assert [digit.box[0] for digit in line] == sorted(digit.box[0] for digit in line)
    for left, top, right, bottom in (digit.box for digit in line):
      assert i * 132 <= top < bottom <= (i + 1) * 132
      assert 0 <= left < right <= width
      outside[top - 2 : bottom + 2, max(0, left - 2) : right + 2] = 0
  assert outside.sum() < 0.01 * ink.sum()


def _draw(*strokes, shape=(120, 300)):
  image = np.full(shape, 255, np.uint8)
  for top, bottom, left, right in strokes:
    image[top:bottom, left:right] = 0
  return image


ONE = (20, 100, 40, 48)


def test_broken_strokes_are_joined_and_specks_dropped(quick_run):
  broken = _draw((20, 52, 40, 48), (58, 100, 40, 48), (20, 100, 150, 158), (30, 34, 220, 224), (97, 100, 250, 252))
  lines = fields.read_digits(broken, quick_run)
  assert [digit.box for digit in lines[0]] == [(40, 20, 48, 100), (150, 20, 158, 100)]


def test_touching_digits_are_cut(mnist, quick_run):
  zeros = mnist.test.image[mnist.test.label == 0][:16, ..., 0]
  cut, right = 0, 0
  for pair in zeros.reshape(8, 2, 28, 28):
    rows, left = np.zeros((44, 100), np.uint8), 10
    for zero in pair:
      columns = np.flatnonzero((zero > 128).any(0))
      zero = zero[:, columns[0] : columns[-1] + 1]
      place = rows[8:36, left : left + zero.shape[1]]
      np.maximum(place, zero, out=place)
      left += zero.shape[1] - 1  # One pixel into each other.
    (line,) = fields.read_digits(255 - np.kron(rows, np.ones((4, 4), np.uint8)), quick_run)
    cut += len(line) == 2
    right += [digit.value for digit in line] == [0, 0]
  assert cut >= 7
  assert right >= 6


@pytest.mark.parametrize('image', [np.full((60, 200), 255), np.full((1, 1), 9), np.full((3, 900), 40)])
def test_nothing_is_read_where_nothing_is_written(image, quick_run):
  assert fields.read_digits(image.astype(np.uint8), quick_run) == []


def test_cuts_lie_between_the_parts():
  ink = np.zeros((40, 80), np.float32)
  ink[:, 5:15] = ink[:, 60:70] = 1
  ink[20:22] = 1
  cuts = fields._find_cuts(pieces.Piece(0, 0, ink), height=40)
  assert cuts
  assert all(15 <= cut <= 60 for cut in cuts)
  parts = fields._find_parts(pieces.Piece(0, 0, ink), height=40)
  assert parts[0, len(cuts) + 1].width == 80
  assert fields._find_parts(pieces.Piece(0, 0, ink[:, :20]), height=40).keys() == {(0, 1)}


def test_the_command(tiny_config, subprocess_env, tmp_path):
  digits.run(tiny_config('softmax', epochs=1), tmp_path / 'run')
  Image.fromarray(_draw(ONE, (20, 100, 150, 158))).save(tmp_path / 'two ones.png')
  Image.new('L', (50, 50), 255).save(tmp_path / 'blank.png')
  command = [sys.executable, '-m', 'digits', 'read', '--workdir=run']
  arguments = {'cwd': tmp_path, 'env': subprocess_env, 'capture_output': True, 'text': True, 'check': False}

  done = subprocess.run([*command, 'two ones.png', 'blank.png', 'none.png', '--json'], **arguments)
  assert done.returncode == 1
  assert len(done.stderr.splitlines()) == 2
  (answer,) = json.loads(done.stdout)['images']
  assert [digit['box'] for digit in answer['lines'][0]['digits']] == [[40, 20, 48, 100], [150, 20, 158, 100]]
  assert answer['lines'][0]['confidence'] == min(digit['probability'] for digit in answer['lines'][0]['digits'])

  done = subprocess.run([*command, 'two ones.png', '--annotate=out.png'], **arguments)
  assert (done.returncode, done.stderr) == (0, '')
  assert f'two ones.png: {answer["lines"][0]["text"]}' in done.stdout
  assert np.asarray(Image.open(tmp_path / 'out.png')).shape == (120, 300, 3)

  for extra in (['b.png', '--annotate=out.png'], ['--annotate=out.jpg']):
    done = subprocess.run([*command, 'two ones.png', *extra], **arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1


def test_of_a_comparison_the_best_model_reads(monkeypatch, tmp_path):
  from digits.commands import read
  from digits.train import runs

  def load(workdir):
    raise errors.DigitsError(f'{workdir} is loaded')

  monkeypatch.setattr(runs, 'find_runs', lambda workdir: {'good': tmp_path / 'a', 'bad': tmp_path / 'b'})
  monkeypatch.setattr(runs, 'read_results', lambda path: {'valid': {'loss': {'a': 0.1, 'b': 0.2}[path.name]}})
  monkeypatch.setattr(runs, 'load_run', load)
  with pytest.raises(errors.DigitsError, match='a is loaded'):
    read.run(read.parse(['--workdir=compare', 'a.png']))
