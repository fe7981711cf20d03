"""Reading fields: digits found, ordered and recognised, on strings whose answers are known."""

import json
import math
import subprocess
import sys
import time

import numpy as np
from PIL import Image, ImageDraw
import pytest

import digits
from digits import errors
from digits.handwriting import cuts, fields, patterns, pieces, predict, prepare
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
  lines = fields.read(_photograph(rng, ink), quick_run).lines
  assert [len(line.tokens) for line in lines] == [len(text) for text in texts]
  assert _share_right([line.text for line in lines], texts) >= 0.8
  outside = ink.copy()
  for i, line in enumerate(lines):
    assert [token.box[0] for token in line.tokens] == sorted(token.box[0] for token in line.tokens)
    for left, top, right, bottom in (token.box for token in line.tokens):
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
  (line,) = fields.read(broken, quick_run).lines
  assert [token.box for token in line.tokens if token.text != ' '] == [(40, 20, 48, 100), (150, 20, 158, 100)]


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
    (line,) = fields.read(255 - np.kron(rows, np.ones((4, 4), np.uint8)), quick_run).lines
    cut += len(line.tokens) == 2
    right += line.text == '00'
  assert cut >= 6  # The small model is unsure of what has a stub.
  assert right >= 4


@pytest.mark.parametrize('image', [np.full((60, 200), 255), np.full((1, 1), 9), np.full((3, 900), 40)])
def test_nothing_is_read_where_nothing_is_written(image, quick_run):
  assert fields.read(image.astype(np.uint8), quick_run).lines == []


def test_cuts_lie_between_the_parts():
  ink = np.zeros((40, 80), np.float32)
  ink[:, 5:15] = ink[:, 60:70] = 1
  ink[20:22] = 1
  found = cuts.find_cuts(pieces.Piece(0, 0, ink), height=40, pen=10)
  assert found
  assert all(15 <= cut.columns.mean() <= 60 for cut in found)
  assert min(cut.crossed for cut in found) == pytest.approx(0.2)
  assert cuts.find_cuts(pieces.Piece(0, 0, ink[:, :20]), height=40, pen=10) == []


def test_a_cut_follows_a_slanted_gap():
  # Two strokes that lean by 25 degrees, so that no upright line passes between them, and touch nowhere but at a bridge.
  rows, columns = np.mgrid[:60, :90]
  place = columns + rows * np.tan(np.radians(25))
  ink = (np.abs(place - 42) < 6) | (np.abs(place - 64) < 6) | ((np.abs(rows - 30) < 2) & (place > 42) & (place < 64))
  piece = pieces.Piece(0, 0, ink.astype(np.float32))
  assert not any((ink[:, column].sum() <= 4) for column in range(22, 50))
  best = min(cuts.find_cuts(piece, height=60, pen=12), key=lambda cut: cut.crossed)
  assert best.crossed < 0.6
  left, right = cuts.take_part(piece, None, best), cuts.take_part(piece, best, None)
  assert left.ink.sum() == pytest.approx(right.ink.sum(), rel=0.15)


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
  probabilities = [token['probability'] for kind in ('digits', 'signs') for token in answer['lines'][0][kind]]
  assert answer['lines'][0]['confidence'] == pytest.approx(math.prod(probabilities))

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


# What the signs are is decided by shape alone, so that a stub in place of the model is enough: it takes all for 8.

_HEIGHT, _PEN = 60, 7


def _write(text, *, height=_HEIGHT, sizes=(1,), pitch=50, degrees=0):
  """A picture of a text in which every digit but 1 is an 8, on a base line at row 130."""
  image = Image.new('L', (pitch * len(text) + 120, 220), 255)
  draw = ImageDraw.Draw(image)
  pen, base, left = _PEN * height // _HEIGHT, 130, 60
  for i, character in enumerate(text):
    size = height * sizes[i % len(sizes)]

    def line(*points, left=left, size=height):
      draw.line([(left + x * size, base - y * size) for x, y in points], fill=0, width=pen)

    def dot(x, y, left=left):
      radius = 0.6 * pen
      x, y = left + x * height, base - y * height
      draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)

    if character == '1':
      line((0.25, 0), (0.25, 1), size=size)
    elif character.isdecimal():
      draw.ellipse((left, base - size / 2, left + size / 2, base), outline=0, width=pen)
      draw.ellipse((left, base - size, left + size / 2, base - size / 2 + pen), outline=0, width=pen)
    elif character == '-':
      line((0.1, 0.45), (0.5, 0.48))
    elif character == '/':
      line((0.05, -0.1), (0.5, 1.15))
    elif character == '.':
      dot(0.2, 0.04)
    elif character == ',':
      line((0.25, 0.08), (0.12, -0.22))
    elif character == ':':
      dot(0.2, 0.2)
      dot(0.2, 0.65)
    left += pitch
  return np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR, expand=True, fillcolor=255))


@pytest.fixture
def stub(monkeypatch):
  """Stands in for a model: `stub(0.9)` makes it that sure of every 8."""

  def arrange(probability=0.97):
    row = np.full(10, (1 - probability) / 9, np.float32)
    row[8] = probability
    monkeypatch.setattr(predict, 'compute_probabilities', lambda pictures, *_: np.tile(row, (len(pictures), 1)))

  arrange()
  return arrange


def _read(image, run, **options):
  return [line.text for line in fields.read(image, run, **options).lines]


SIGNED = [
  '8-8',
  '888.88',
  '8,888.88',
  '88:88',
  '88/88/8888',
  '8888-88-88',
  '-88',
  '88.',
  '8:88:88',
  '8/8',
  '88,88',
  '.88',
]


@pytest.mark.parametrize('text', SIGNED)
@pytest.mark.parametrize(('height', 'pitch'), [(60, 50), (90, 70), (30, 26)])
def test_signs_are_read(text, height, pitch, stub, quick_run):
  (line,) = fields.read(_write(text, height=height, pitch=pitch), quick_run).lines
  assert line.text == text
  assert line.digits_only == '8' * text.count('8')
  assert line.confidence == pytest.approx(math.prod(token.probability for token in line.tokens))
  assert min(token.probability for token in line.tokens) > 0.5


@pytest.mark.parametrize('degrees', [-10, -6, -3, 3, 6, 10])
@pytest.mark.parametrize('text', ['88888', '88/88/8888', '8-88.8'])
def test_lines_may_slope(text, degrees, stub, quick_run):
  image = _write(text, degrees=degrees)
  (line,) = fields.read(image, quick_run).lines
  assert line.text == text
  # The boxes hold the ink, and little else.
  covered = np.zeros(image.shape, bool)
  for left, top, right, bottom in (token.box for token in line.tokens):
    covered[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
  assert not (image[~covered] < 128).any()
  assert covered.sum() < 6000 * len(text)


@pytest.mark.parametrize('sizes', [(1, 0.6, 1.4), (0.6, 1.4), (1.4, 1, 0.8)])
def test_digits_of_a_line_may_differ_in_size(sizes, stub, quick_run):
  assert _read(_write('888888', sizes=sizes, pitch=60), quick_run) == ['888888']


def test_lines_may_differ_in_size(stub, quick_run):
  large, small = _write('88888', height=90, pitch=75), _write('88-88.8', height=36, pitch=32)
  width = max(large.shape[1], small.shape[1])
  padded = [np.pad(image, ((0, 0), (0, width - image.shape[1])), constant_values=255) for image in (large, small)]
  for order in (padded, padded[::-1]):
    texts = ['88888', '88-88.8'] if order is padded else ['88-88.8', '88888']
    assert _read(np.concatenate(order), quick_run) == texts


@pytest.mark.parametrize('text', ['8888888 8888888', '888 888', '8888 88888', '88 88 88'])
def test_wide_gaps_are_spaces(text, stub, quick_run):
  (line,) = fields.read(_write(text, pitch=44), quick_run).lines
  assert line.text == text
  assert line.digits_only == text.replace(' ', '')


@pytest.mark.parametrize('pitch', [40, 60, 90, 120])
def test_evenly_spaced_digits_have_no_spaces(pitch, stub, quick_run):
  assert _read(_write('88888', pitch=pitch), quick_run) == ['88888']


def test_what_is_no_digit_is_a_question_mark(stub, quick_run):
  image = _write('888-88')
  stub(fields.REJECT + 0.01)
  assert _read(image, quick_run) == ['888-88']
  stub(fields.REJECT - 0.01)
  (line,) = fields.read(image, quick_run).lines
  assert (line.text, line.digits_only) == ('???-??', '')
  assert line.confidence < fields.REJECT


def test_the_form_decides_between_a_slash_and_a_digit(monkeypatch, quick_run):
  # A model that takes what is narrow for 1.
  def compute(pictures, *_):
    narrow = (pictures > 0).any((1, 3)).sum(1) < 9
    rows = np.full((len(pictures), 10), 0.005, np.float32)
    rows[np.arange(len(pictures)), np.where(narrow, 1, 8)] = 0.955
    return rows

  monkeypatch.setattr(predict, 'compute_probabilities', compute)
  image = Image.new('L', (330, 120), 255)
  draw = ImageDraw.Draw(image)
  for left in (30, 80, 230, 280):
    draw.ellipse((left, 58, left + 30, 90), outline=0, width=6)
    draw.ellipse((left, 30, left + 30, 64), outline=0, width=6)
  draw.line((150, 93, 164, 28), fill=0, width=6)  # It leans, and is hardly higher than the digits.
  image = np.asarray(image)
  as_digit, as_sign = (
    fields.read(image, quick_run, expect=patterns.parse(form)).lines[0] for form in ('99999', '99/99')
  )
  assert (as_digit.text, as_digit.fits) == ('88188', True)
  assert (as_sign.text, as_sign.fits) == ('88/88', True)
  other = fields.read(image, quick_run, expect=patterns.parse('99.99')).lines[0]
  assert (other.text, other.fits) == (fields.read(image, quick_run).lines[0].text, False)


def test_a_form_may_have_spaces_or_leave_them_to_the_writing(stub, quick_run):
  image = _write('888 888', pitch=44)
  for form, text in (('999 999', '888 888'), ('999999', '888888'), ('9+', '888888')):
    (line,) = fields.read(image, quick_run, expect=patterns.parse(form)).lines
    assert (line.text, line.fits) == (text, True)


def test_the_command_says_what_is_unsure_and_what_does_not_fit(tiny_config, tmp_path, monkeypatch, capsys, stub):
  from digits.commands import read

  digits.run(tiny_config('softmax', epochs=1), tmp_path / 'run')
  capsys.readouterr()
  monkeypatch.chdir(tmp_path)
  Image.fromarray(_write('88/88')).save('a.png')

  def answer(*arguments):
    try:
      read.run(read.parse(['--workdir=run', 'a.png', *arguments]))
    except SystemExit as ended:
      return ended.code, capsys.readouterr()
    return 0, capsys.readouterr()

  code, said = answer('--annotate=out.png')
  assert (code, said.err) == (0, '')
  assert said.out.startswith('a.png: 88/88  (')
  assert (np.asarray(Image.open('out.png'))[..., 0] != np.asarray(Image.open('out.png'))[..., 2]).any()
  code, said = answer('--min-confidence=0.999')
  assert code == 0
  assert said.out.startswith('a.png: 88/88  (unsure, ')
  code, said = answer('--expect=99/99', '--min-confidence=0.999', '--json')
  (line,) = json.loads(said.out)['images'][0]['lines']
  assert (code, line['fits'], line['sure'], line['text'], line['digits_only']) == (0, True, False, '88/88', '8888')
  assert [one['sign'] for one in line['signs']] == ['/']
  assert [one['digit'] for one in line['digits']] == [8] * 4
  assert line['signs'][0].keys() == {'sign', 'probability', 'box'}
  code, said = answer('--expect=99:99')
  assert code == 1
  assert said.out.startswith('a.png: 88/88  (')
  assert said.err == 'error: a.png: 88/88 does not fit the pattern of --expect.\n'
  code, said = answer('--expect=99:99', '--json')
  assert code == 1
  assert json.loads(said.out)['images'][0]['lines'][0]['fits'] is False


@pytest.mark.parametrize('option', ['--expect=9a', '--expect=', '--min-confidence=2', '--min-confidence=nan'])
def test_options_that_make_no_sense_are_refused(option):
  from digits.commands import read

  with pytest.raises(errors.UsageError):
    read.parse(['--workdir=run', 'a.png', option])


def test_boxes_are_in_the_pixels_of_the_file(tiny_config, tmp_path, monkeypatch, capsys, stub):
  from digits.commands import read

  digits.run(tiny_config('softmax', epochs=1), tmp_path / 'run')
  capsys.readouterr()
  monkeypatch.chdir(tmp_path)
  page = np.full((400, 500), 255, np.uint8)
  written = _write('88')
  page[: written.shape[0], : written.shape[1]] = written
  boxes = {}
  for name, size in (('small', 1), ('large', 10)):
    Image.fromarray(page).resize((500 * size, 400 * size)).save(f'{name}.png')
    # A camera on its side: the file is wide, and what a person sees is high.
    turned = Image.fromarray(np.rot90(page)).resize((400 * size, 500 * size))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(f'{name}-turned.png', exif=exif)
    for file in (f'{name}.png', f'{name}-turned.png'):
      read.run(read.parse(['--workdir=run', file, '--json']))
      (image,) = json.loads(capsys.readouterr().out)['images']
      boxes[file] = np.array([digit['box'] for digit in image['lines'][0]['digits']])
  assert boxes['small.png'].shape == (2, 4)
  np.testing.assert_array_equal(boxes['small-turned.png'], boxes['small.png'])
  for file in ('large.png', 'large-turned.png'):
    np.testing.assert_allclose(boxes[file], 10 * boxes['small.png'], atol=15)


def test_the_drawing_does_not_overwrite_the_image_and_has_a_folder(tmp_path, monkeypatch):
  from digits.commands import read

  monkeypatch.chdir(tmp_path)
  Image.fromarray(_write('88')).save('a.png')
  for name, message in (
    ('a.png', 'is the image itself: give another name'),
    (f'{tmp_path}/a.png', 'is the image itself: give another name'),
    ('none/b.png', 'is in a folder that does not exist: make it first'),
  ):
    with pytest.raises(errors.UsageError, match=message):
      read.parse(['--workdir=run', 'a.png', f'--annotate={name}'])


@pytest.mark.parametrize('shape', [(1, 5000), (5000, 1), (20, 1000), (1, 1)])
def test_a_strip_of_noise_is_soon_read(shape, quick_run):
  noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  assert prepare._fit_size(noise).size <= 1280 * 1280
  start = time.monotonic()
  fields.read(noise, quick_run)
  assert time.monotonic() - start < 30  # It took minutes once.
