"""Composed photographs: each kind, its signs, pens and views, and the score of an answer."""

import json
import math
import re
import types

import numpy as np
from PIL import Image
import pytest

from digits import errors
from measurements import paper

PATTERNS = {
  'single': r'\d',
  'boxes': r'\d{6}',
  'edge': r'\d|\d{4,5}',
  'table': r'\d{2,9}(\n\d{2,9}){1,2}',
  'desk': r'\d{5}',
  'sideways': r'\d{5,6}',
  'date': r'\d\d/\d\d/\d{4}|\d{1,2}\.\d{1,2}\.\d{4}|\d{4}-\d\d-\d\d',
  'time': r'\d\d:\d\d',
  'phone': r'\d{3}-(\d{7}|\d{4})',
  'amount': r'(\d,\d{3}|\d{2,3})\.\d\d',
  'two lines': r'\d{4,6}\n\d{4,6}',
}


@pytest.mark.parametrize('kind', paper.KINDS)
def test_each_kind_is_a_picture_with_its_text_and_follows_from_its_seed(kind, mnist):
  image, text = paper.compose(0, kind, 1, mnist.test)
  assert image.dtype == np.uint8
  assert image.ndim == 2
  assert min(image.shape) >= 30
  assert max(image.shape) <= 2600
  assert image.std() > 2
  again, same_text = paper.compose(0, kind, 1, mnist.test)
  np.testing.assert_array_equal(image, again)
  assert text == same_text
  other, _ = paper.compose(0, kind, 2, mnist.test)
  assert image.shape != other.shape or (image != other).any()


@pytest.mark.parametrize('kind', PATTERNS)
def test_texts_have_the_form_of_their_kind(kind, mnist):
  for number in range(4):
    assert re.fullmatch(PATTERNS[kind], paper.compose(1, kind, number, mnist.test)[1])


def test_what_a_text_says_is_drawn_with_digits_of_that_label(mnist):
  glyphs = paper.draw_glyphs(np.random.default_rng(0), mnist.test, '1-0')
  one, dash, zero = (glyph.sum(1) > 1 for glyph in glyphs)
  assert {glyph.shape[0] for glyph in glyphs} == {200}
  # A digit stands on row 170 and is 100 high; a dash lies in its middle, a hole is in the middle of a 0.
  for digit in (one, zero):
    rows = np.flatnonzero(digit)
    assert abs(rows[0] - 70) < 20
    assert abs(rows[-1] - 170) < 20
  rows = np.flatnonzero(dash)
  assert abs(rows.mean() - (170 - 43)) < 12
  assert len(rows) < 35
  assert glyphs[2][120, glyphs[2].shape[1] // 2] < 0.1
  assert glyphs[0][120].max() > 0.9


@pytest.mark.parametrize(('sign', 'top', 'bottom'), [('/', 105, -8), ('.', 9, -3), (',', 12, -26), (':', 68, 10)])
def test_signs_reach_where_they_should(sign, top, bottom):
  ink = paper.draw_sign(np.random.default_rng(0), sign, pen=0.1)
  rows = 170 - np.flatnonzero(ink.max(1) > 0.5)
  assert rows[0] == pytest.approx(top, abs=10)
  assert rows[-1] == pytest.approx(bottom, abs=10)
  columns = np.flatnonzero(ink.max(0) > 0.5)
  assert ink.shape[1] - len(columns) <= 6  # Nothing is cut off, and nothing is left at the sides.


def test_a_thin_line_is_left_of_a_thick_one():
  bar = np.zeros((20, 40), bool)
  bar[6:13, 5:35] = True
  line = paper.thin(bar)
  assert (line.sum(0)[10:30] == 1).all()
  assert line[9, 10:30].all()
  ring = np.hypot(*(np.indices((41, 41)) - 20)) < 15
  ring &= np.hypot(*(np.indices((41, 41)) - 20)) > 8
  radius = np.hypot(*(np.argwhere(paper.thin(ring)) - 20).T)
  assert ((radius > 9.5) & (radius < 13.5)).all()


@pytest.mark.parametrize('pen', [0.05, 0.2])
def test_a_pen_has_its_width(pen, mnist):
  (one,) = paper.draw_glyphs(np.random.default_rng(0), mnist.test, '1', pen)
  middle = one[100:140].max(0) > 0.5
  assert one[115:125].sum(1).mean() == pytest.approx(100 * pen, rel=0.3)
  assert middle.any()


def test_margins_are_cut_or_added():
  ink = np.zeros((300, 300), np.float32)
  ink[100:200, 150:170] = 1
  assert paper.trim(ink, (0, 0, 0, 0)).shape == (100, 20)
  wide = paper.trim(ink, (2, 1, 0.5, 3))
  assert wide.shape == (100 + 250, 20 + 400)
  assert wide[200:300, 300:320].all()
  assert wide.sum() == 2000
  assert paper.trim(ink, (-0.1, 0, 0, 0)).sum() == 1800  # Cut through the ink.


def test_ink_is_darker_than_paper_and_chalk_is_lighter_than_a_board(mnist):
  for kind, sign in (('single', -1), ('thick', -1), ('light on dark', 1)):
    for number in range(3):
      image, _ = paper.compose(0, kind, number, mnist.test)
      height, width = image.shape
      middle = image[height // 4 : -height // 4, width // 6 : -width // 6].astype(int)
      away = middle - np.median(image)
      assert (sign * away).max() > 40
      assert (sign * away).max() > 1.5 * -(sign * away).min()


def test_ink_at_the_edge_reaches_it(mnist):
  for number in range(5):
    image, _ = paper.compose(0, 'edge', number, mnist.test)
    image = image.astype(int)
    rims = [image[0], image[-1], image[:, 0], image[:, -1]]
    assert max(np.median(rim) - rim.min() for rim in rims) > 30


def test_a_view_from_above_only_turns():
  corners = np.array([[-2, -1], [2, -1], [2, 1], [-2, 1]])
  np.testing.assert_allclose(paper.project(paper.view(0, 1, 0, 10), corners), corners, atol=1e-12)
  turned = paper.project(paper.view(0, 1, math.pi / 2, 10), corners)
  np.testing.assert_allclose(turned, [[1, -2], [1, 2], [-1, 2], [-1, -2]], atol=1e-12)
  # About the x axis by 30 degrees, from a distance of 10: y = 1 comes to cos(30) at depth sin(30).
  tilted = paper.project(paper.view(math.pi / 6, 0, 0, 10), np.array([[0, 1], [2, -1]]))
  far, near = 1 + 0.05, 1 - 0.05
  np.testing.assert_allclose(tilted, [[0, 0.8660254 / far], [2 / near, -0.8660254 / near]], atol=1e-6)


@pytest.mark.parametrize(
  ('answer', 'read', 'confidence', 'expected'),
  [
    ('12/05/2026', '12/05/2026', 0.97, (1, 1, 8, 0, 1, 1)),
    ('12/05/2026', '12/05 /2026', 0.5, (1, 1, 8, 0, 0, 0)),
    ('12/05/2026', '12-05-2026', 0.5, (0, 1, 8, 0, 0, 0)),
    ('12/05/2026', '1210512026', 0.97, (0, 0, 8, 2, 1, 0)),
    ('12\n34', '12\n34', 0.95, (1, 1, 4, 0, 1, 1)),
    ('12\n34', '1234', 0.2, (0, 1, 4, 0, 0, 0)),
    ('7', '', 0.0, (0, 0, 1, 1, 0, 0)),
  ],
)
def test_an_answer_is_scored(answer, read, confidence, expected):
  names = ('text', 'digits', 'length', 'errors', 'sure', 'sure_right')
  assert paper.score(answer, read, confidence) == {'num': 1} | dict(zip(names, expected, strict=True))


def test_scores_add_up(monkeypatch):
  read = {'1': ('1', 0.99), '23': ('24', 0.6), '4,5': ('45', 0.99)}
  monkeypatch.setattr(paper.photos, 'read_picture', lambda image, answer, run, temperature: read[answer])
  counts = paper.measure(None, [(None, answer) for answer in read], 1.0)
  assert counts == {'num': 3, 'text': 1, 'digits': 2, 'length': 5, 'errors': 1, 'sure': 2, 'sure_right': 2}
  assert paper.format_row('date', counts).split() == ['date', '33.3%', '66.7%', '20.0%', '2/2']


def test_the_command_measures_and_draws(mnist, tmp_path, monkeypatch, capsys):
  config = types.SimpleNamespace(model='cnn', dataset='mnist', data_dir=None, num_validation=2000)
  run = types.SimpleNamespace(config=config)
  monkeypatch.setattr(paper.runs, 'load_run', lambda workdir: run)
  monkeypatch.setattr(paper.data, 'load_dataset', lambda *source: mnist)
  monkeypatch.setattr(paper.predict, 'load_temperature', lambda run: 1.5)
  monkeypatch.setattr(paper.photos, 'read_picture', lambda image, answer, run, temperature: (answer, temperature))
  asked = ['--workdir=run', '--kinds', 'thick', 'date']
  paper.main([*asked, '--num=2', '--split=valid', f'--json={tmp_path / "paper.json"}'])
  assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ['text', 'thick', 'date']
  measured = json.loads((tmp_path / 'paper.json').read_text())
  assert {name: measured[name] for name in ('model', 'split', 'seed', 'num')} == {
    'model': 'cnn',
    'split': 'valid',
    'seed': 0,
    'num': 2,
  }
  assert list(measured['kinds']) == ['thick', 'date']
  counts = {'num': 2, 'text': 2, 'digits': 2, 'length': 2, 'errors': 0, 'sure': 2, 'sure_right': 2}
  assert measured['kinds']['thick'] == counts
  paper.main([*asked, f'--sheet={tmp_path / "sheet.png"}'])
  with Image.open(tmp_path / 'sheet.png') as sheet:
    assert sheet.size == (1440, 240)
  with pytest.raises(errors.UsageError, match='invalid choice'):
    paper.main(['--workdir=run', '--kinds', 'crayon'])
  with pytest.raises(errors.UsageError, match='There is no folder'):
    paper.main(['--workdir=run', f'--json={tmp_path}/none/a.json'])
