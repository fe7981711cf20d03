import logging
import shutil
import time

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digits import config as config_lib
from digits import errors
from digits.store import checkpoint
from digits.train import loop


def _tree(scale=1.0):
  key = jax.random.key(0)
  return {'a': {'kernel': scale * jax.random.normal(key, (30, 20))}, 'b': jnp.int32(3 * scale), 'c': ({}, jnp.ones(4))}


@pytest.fixture
def directory(tmp_path):
  with checkpoint.Checkpoints(tmp_path / 'checkpoints', needs=lambda record: record['best']) as checkpoints:
    for step in (10, 20, 30, 40):
      checkpoints.save(step, _tree(step), {'best': 10})
  return tmp_path / 'checkpoints'


def test_newest_two_and_best_are_kept_exactly(directory):
  assert checkpoint.list_steps(directory) == [10, 30, 40]
  loaded = checkpoint.load(directory, 30, _tree())
  assert loaded.record == {'best': 10}
  jax.tree.map(np.testing.assert_array_equal, loaded.tree, _tree(30))
  assert jax.tree.structure(loaded.tree) == jax.tree.structure(_tree())
  assert checkpoint.load_newest(directory, _tree()).step == 40


def _files(directory, step):
  return sorted(path for path in (directory / str(step)).rglob('*') if path.is_file() and path.stat().st_size)


def test_every_flipped_bit_is_noticed(directory, tmp_path):
  rng = np.random.default_rng(0)
  for trial in range(100):
    copy = tmp_path / f'copy{trial}'
    shutil.copytree(directory / '40', copy / '40')
    path = rng.choice(_files(copy, 40))
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    with pytest.raises(errors.DamagedError):
      checkpoint.load(copy, 40, _tree())


def _flip_in_arrays(directory, offset):
  path = max(_files(directory, 40), key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2 + offset] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize('check', ['_check_files', '_check_arrays'])
def test_either_check_alone_sees_a_flipped_weight_and_orbax_does_not(directory, monkeypatch, check):
  _flip_in_arrays(directory, 0)
  other = {'_check_files': '_check_arrays', '_check_arrays': '_check_files'}[check]
  monkeypatch.setattr(checkpoint, other, lambda *args: None)
  with pytest.raises(errors.DamagedError):
    checkpoint.load(directory, 40, _tree())
  monkeypatch.setattr(checkpoint, check, lambda *args: None)
  wrong = checkpoint.load(directory, 40, _tree()).tree['a']['kernel']
  assert not np.array_equal(wrong, _tree(40)['a']['kernel'])


def test_what_the_second_newest_needs_is_kept_too(tmp_path):
  with checkpoint.Checkpoints(tmp_path, needs=lambda record: record['best']) as checkpoints:
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4)):
      checkpoints.save(step, _tree(step), {'best': best})
  assert checkpoint.list_steps(tmp_path) == [1, 3, 4]


@pytest.mark.parametrize('damage', ['truncate', 'delete', 'half', 'empty'])
def test_damaged_step_is_named_and_the_one_before_is_used(directory, damage, caplog):
  paths = _files(directory, 40)
  if damage == 'truncate':
    path = max(paths, key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:100])
  elif damage == 'delete':
    next(path for path in paths if path.name == '_METADATA').unlink()
  elif damage == 'half':
    for path in paths[len(paths) // 2 :]:
      path.unlink()
  else:
    shutil.rmtree(directory / '40')
    (directory / '40').mkdir()
  with caplog.at_level(logging.WARNING):
    newest = checkpoint.load_newest(directory, _tree())
  assert newest.step == 30
  assert str(directory / '40') in caplog.text
  checkpoint.delete_after(directory, newest.step)
  assert checkpoint.list_steps(directory) == [10, 30]
  with checkpoint.Checkpoints(directory) as checkpoints:
    checkpoints.save(40, _tree(40), {})
  assert checkpoint.load_newest(directory, _tree()).step == 40


def test_a_step_whose_best_step_is_damaged_is_not_used(directory):
  shutil.rmtree(directory / '10')
  assert checkpoint.load_newest(directory, _tree(), needs=lambda record: 10) is None
  assert checkpoint.load_newest(directory, _tree(), needs=lambda record: None).step == 40


def test_other_shapes_and_names_are_said_clearly(directory):
  other = _tree() | {'a': {'kernel': jnp.ones((30, 21))}}
  with pytest.raises(errors.UsageError, match=r"\['a'\]\['kernel'\]: \[\[30, 20\], 'float32'\] saved, \[\[30, 21\]"):
    checkpoint.load(directory, 40, other)
  with pytest.raises(errors.UsageError, match=r"\['d'\]: absent saved"):
    checkpoint.load(directory, 40, _tree() | {'d': jnp.ones(2)})


def test_no_directory_has_no_steps(tmp_path):
  assert checkpoint.list_steps(tmp_path / 'none') == []
  assert checkpoint.load_newest(tmp_path / 'none', _tree()) is None


def test_unwritable_directory_is_one_sentence(directory, monkeypatch):
  with checkpoint.Checkpoints(directory) as checkpoints:

    def fail(*args, **kwargs):
      raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checkpoints._checkpointer, 'save', fail)
    with pytest.raises(errors.DigitsError, match='step 50 could not be written .*No space left'):
      checkpoints.save(50, _tree(), {})
  assert checkpoint.load_newest(directory, _tree()).step == 40


def test_verification_costs_under_a_twentieth_of_a_cnn_epoch(tmp_path, monkeypatch):
  """An epoch takes 12 s on two cores; the sums of one save are to take less than 5 % of that."""
  config = config_lib.load_config(conftest.ROOT / 'configs' / 'cnn.py')
  tree = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), loop.carry_template(config).state)
  seconds = []

  def timed(function):
    def measured(*args):
      start = time.process_time()
      result = function(*args)
      seconds.append(time.process_time() - start)
      return result

    return measured

  for name in ('_hash_array', '_write_manifest'):
    monkeypatch.setattr(checkpoint, name, timed(getattr(checkpoint, name)))
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, tree, {})
  assert len(seconds) > len(jax.tree.leaves(tree.params))
  assert sum(seconds) < 0.05 * 12
