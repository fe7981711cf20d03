"""What models make of other images than they were trained on: the numbers, the table, and what a user gets wrong."""

import json

import numpy as np
from PIL import Image
import pytest

from digits import errors, experiments
from digits.data.corruptions import AFFINE, CORRUPTIONS
from measurements import transfer


@pytest.fixture
def photos(tmp_path, mnist):
  """A folder with photos of 7, 2, 1 and 0, of which the last is labelled as another digit, and of a field."""
  folder = tmp_path / 'photos'
  folder.mkdir()
  lines = ['file,answer,what', 'field-1.png,"12, 34",not a single digit']
  for i, answer in enumerate([7, 2, 1, 5]):
    Image.fromarray(255 - mnist.test.image[i, ..., 0]).resize((140, 140)).save(folder / f'digit-{i}.png')
    lines.append(f'digit-{i}.png,{answer},pen')
  (folder / 'labels.csv').write_text('\n'.join(lines) + '\n')
  return folder


def test_a_good_model_is_worse_on_what_is_corrupted(quick_run, mnist, photos):
  split = mnist.test._replace(image=mnist.test.image[:500], label=mnist.test.label[:500])
  corrupted = transfer.corrupt_all(split.image)
  measured = transfer.measure(quick_run, split, corrupted, transfer.load_photos(photos), num_strings=4, num_pasted=10)
  accuracy = measured['corruptions']['accuracy']
  assert list(accuracy) == list(CORRUPTIONS)
  assert measured['answers']['accuracy'] > 0.94
  assert accuracy['shot_noise'] > 0.85
  assert accuracy['stripe'] < 0.7
  others = [value for name, value in accuracy.items() if name not in AFFINE]
  assert len(others) == 11
  assert measured['corruptions']['mean'] == pytest.approx(sum(accuracy.values()) / 15)
  assert measured['corruptions']['mean_not_affine'] == pytest.approx(sum(others) / 11)
  assert measured['strings']['strings'] in (4, 5)
  assert measured['photos'] == {'digits': 4, 'right': 3, 'wrong': ['digit-3.png']}


def test_the_command_prints_a_column_for_each_model(tiny_config, tmp_path, photos, monkeypatch, capsys):
  monkeypatch.setattr(transfer, 'NUM_STRINGS', 2)
  monkeypatch.setattr(transfer, 'NUM_PASTED', 5)
  experiments.run(tiny_config('softmax', epochs=1), tmp_path / 'run')
  capsys.readouterr()
  arguments = [f'--workdir={tmp_path / "run"}', f'--workdir=again={tmp_path / "run"}', f'--photos={photos}']
  transfer.main([*arguments, f'--json={tmp_path / "transfer.json"}'])
  said = capsys.readouterr()
  table = [line.split() for line in said.out.splitlines()]
  assert table[0] == ['run', 'again']
  assert all(row[-1] == row[-2] for row in table[1:22])  # The same model gets the same images.
  measured = json.loads((tmp_path / 'transfer.json').read_text())
  assert list(measured) == ['run', 'again']
  assert measured['run'] == measured['again']
  fog = f'{measured["run"]["corruptions"]["accuracy"]["fog"]:.2%}'
  assert ['fog', fog, fog] in table
  assert 'corrupting 100 images' in said.err
  assert said.err.count('corrupting') == 1


def test_what_a_user_gets_wrong_is_said_before_anything_is_measured(tmp_path, photos, monkeypatch):
  def sentence(*arguments):
    with pytest.raises(errors.DigitsError) as caught:
      transfer.main([f'--workdir={tmp_path}', *arguments])
    return str(caught.value)

  assert 'has no config.json' in sentence()
  assert 'There is no folder' in sentence(f'--json={tmp_path}/none/a.json')
  assert 'is a folder' in sentence(f'--json={tmp_path}')
  assert 'has no labels.csv' in sentence(f'--photos={tmp_path}')
  assert 'There is no folder' in sentence(f'--photos={tmp_path}/none')
  labels = photos / 'labels.csv'
  for text, expected in (
    ('', 'the columns file and answer'),
    ('file,what\ndigit-0.png,pen\n', 'the columns file and answer'),
    ('file,answer\nfield-1.png,12\n', 'names no files digit-*'),
    ('file,answer\ndigit-0.png,12\n', "gives '12' as the answer of digit-0.png"),
    ('file,answer\ndigit-0.png\n', 'has no answer for digit-0.png'),
    ('answer,file\n1\n', 'has a line without a file'),
    ('file,answer\n,1\n', 'has a line without a file'),
    ('file,answer\ndigit-9.png,1\n', 'digit-9.png cannot be read'),
  ):
    labels.write_text(text)
    assert expected in sentence(f'--photos={photos}')
  monkeypatch.setattr(transfer.runs, 'load_run', lambda directory: np.zeros(0))
  with pytest.raises(errors.UsageError, match='Two models are called seed-0: give names'):
    transfer.load_named_runs(['a/seed-0', 'b/seed-0'])
  assert list(transfer.load_named_runs(['a/seed-0', 'b=b/seed-0'])) == ['seed-0', 'b']
