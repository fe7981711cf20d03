"""Folders of real photographs: what counts as right, the report, and what a user gets wrong."""

import json
import types

import numpy as np
from PIL import Image
import pytest

from digits import errors
from measurements import photos

LABELS = """file,answer,what
digit-1.png,7,pen
digit-2.png,1,pen
field-1.png,12 345,a form
field-2.png,23991,sheet; compare as a multiset
field-3.png,1/2/1999,a date
"""
# What a reader says of each picture, told apart by its brightness.
READ = [('7', 0.99), ('7', 0.6), ('12\n345', 0.97), ('92931', 0.5), ('11991', 0.96)]


@pytest.fixture
def folder(tmp_path):
  """Five pictures and their labels."""
  folder = tmp_path / 'photos'
  folder.mkdir()
  (folder / 'labels.csv').write_text(LABELS)
  for i, line in enumerate(LABELS.splitlines()[1:]):
    Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / line.partition(',')[0])
  return folder


@pytest.fixture
def reader(monkeypatch):
  """Answers from `READ` in place of a model's, and fails for a digit that is read as a field or a field as a digit."""

  def predict(images, run, temperature):
    assert temperature == 1.5
    value, probability = READ[:2][images[0][0, 0]]
    row = np.full((1, 10), (1 - probability) / 9)
    row[0, int(value)] = probability
    return types.SimpleNamespace(found=np.array([True]), digit=row.argmax(1), probability=row)

  monkeypatch.setattr(photos.predict, 'predict', predict)
  monkeypatch.setattr(photos.predict, 'load_temperature', lambda run: 1.5)
  monkeypatch.setattr(photos, 'read_text', lambda image, run, temperature: READ[2:][image[0, 0] - 2])
  run = types.SimpleNamespace(config=types.SimpleNamespace(model='cnn'))
  monkeypatch.setattr(photos.runs, 'load_run', lambda workdir: run)


@pytest.mark.parametrize(
  ('answer', 'read', 'ordered', 'expected'),
  [
    ('', '', True, 0),
    ('123', '123', True, 0),
    ('123', '13', True, 1),
    ('123', '1123', True, 1),
    ('123', '321', True, 2),
    ('123', '321', False, 0),
    ('1123', '3214', False, 1),
    ('112', '12', False, 1),
    ('777', '', True, 3),
  ],
)
def test_errors_are_the_digits_to_change(answer, read, ordered, expected):
  assert photos.count_errors(answer, read, ordered) == expected
  assert photos.count_errors(read, answer, ordered) == expected


def test_a_folder_is_reported_picture_by_picture_and_counted(folder, reader, tmp_path, capsys):
  photos.main([str(folder), '--workdir=run', f'--json={tmp_path / "photos.json"}'])
  assert capsys.readouterr().out.splitlines() == [
    'digit-2.png: 1 was read as 7, confidence 60%',
    'field-3.png: 1/2/1999 was read as 11991, confidence 96%',
    'single digits right           1 of 2',
    'fields right                  2 of 3',
    'wrong digits of fields        2 of 16',
    'right where sure (95%)        2 of 3',
  ]
  measured = json.loads((tmp_path / 'photos.json').read_text())
  assert measured['model'] == 'cnn'
  assert measured['singles'] == {'num': 2, 'right': 1}
  assert measured['fields'] == {'num': 3, 'right': 2, 'digits': 16, 'errors': 2}
  assert [one['read'] for one in measured['pictures']] == [read for read, _ in READ]


def test_a_picture_without_ink_is_read_as_nothing(quick_run):
  blank = np.full((40, 40), 200, np.uint8)
  assert photos.read_digit(blank, quick_run, 1.0) == ('', 0.0)
  assert photos.read_text(blank, quick_run, 1.0) == ('', 0.0)


def test_fields_are_read_line_by_line(mnist, quick_run):
  row = np.concatenate([mnist.test.image[i, ..., 0] for i in (1, 3)], 1)  # 2 and 0.
  image = np.kron(255 - np.concatenate([row, row]), np.ones((3, 3), np.uint8))
  text, confidence = photos.read_text(image, quick_run, 1.0)
  assert text == '20\n20'
  assert 0.5 < confidence <= 1


def test_what_a_user_gets_wrong_is_said_in_a_sentence(folder, tmp_path):
  def sentence(*arguments):
    with pytest.raises(errors.DigitsError) as caught:
      photos.main([f'--workdir={tmp_path}', *map(str, arguments)])
    return str(caught.value)

  assert 'required: DIR' in sentence()
  assert 'There is no folder' in sentence(tmp_path / 'none')
  assert 'has no labels.csv' in sentence(tmp_path)
  assert 'has no config.json' in sentence(folder)
  assert 'is a folder' in sentence(folder, f'--json={tmp_path}')
  assert 'There is no folder' in sentence(folder, f'--json={tmp_path}/none/a.json')
  for text, expected in (
    ('file,what\ndigit-1.png,pen\n', 'the columns file and answer'),
    ('', 'the columns file and answer'),
    ('file,answer\n,1\n', 'has a line without a file'),
    ('file,answer\ndigit-1.png\n', 'has no answer for digit-1.png'),
    ('file,answer\ndigit-1.png,seven\n', "The answer of digit-1.png, 'seven', has no digits"),
    ('file,answer\ndigit-9.png,1\n', 'digit-9.png cannot be read: No such file'),
  ):
    (folder / 'labels.csv').write_text(text)
    assert expected in sentence(folder)
