"""Files: written whole or not at all, and locks that clear only what is theirs."""

import pytest

from digits import errors
from digits.runtime import files


def test_a_lock_clears_what_its_own_processes_left_and_nothing_of_another_run(tmp_path):
  own = [tmp_path / name for name in ('', 'figures', 'checkpoints/20', 'mlp/seed-0/checkpoints/40')]
  others = [tmp_path / name for name in ('nested', 'nested/checkpoints/20', 'mlp/seed-1', 'deep/er/run/figures')]
  for folder in own + others:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / '.results.json.abcd_123.tmp').touch()
    (folder / 'kept.tmp').touch()
  for folder in ('nested', 'mlp/seed-1'):
    (tmp_path / folder / '.lock').touch()
  with (
    files.lock(tmp_path / 'deep' / 'er' / 'run' / '.lock'),
    files.replace_atomically(tmp_path / 'deep' / 'er' / 'run' / 'config.json') as file,
  ):
    (tmp_path / 'deep' / 'er' / 'run' / 'figures' / '.results.json.abcd_123.tmp').touch()
    file.write(b'{}')
    with files.lock(tmp_path / '.lock'):
      pass
  assert (tmp_path / 'deep' / 'er' / 'run' / 'config.json').read_bytes() == b'{}'
  left = {path.parent for path in tmp_path.rglob('.results.json.*.tmp')}
  assert left == set(others)
  assert len(list(tmp_path.rglob('kept.tmp'))) == len(own + others)


def test_a_lock_that_is_held_is_refused(tmp_path):
  with (
    files.lock(tmp_path / '.lock'),
    pytest.raises(errors.DigitsError, match='is in use by another run'),
    files.lock(tmp_path / '.lock'),
  ):
    pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  def write_half():
    with files.replace_atomically(path) as file:
      file.write(b'half')
      raise ZeroDivisionError

  path = tmp_path / 'a'
  path.write_text('old')
  with pytest.raises(ZeroDivisionError):
    write_half()
  assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('a', 'old')]
  with files.replace_atomically(path) as file:
    file.write(b'new')
  assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('a', 'new')]
