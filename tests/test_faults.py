"""The fault campaign in short, and that it catches bugs: a trial that cannot fail would be worth nothing."""

import json
import os
import subprocess
import sys

import conftest
import pytest


def _campaign(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'tests.faults', *arguments],
    cwd=conftest.ROOT,
    env=os.environ | {'PYTHONPATH': str(conftest.ROOT)},
    capture_output=True,
    text=True,
    timeout=500,
    check=False,
  )


def test_nothing_is_lost(tmp_path):
  done = _campaign('--trials=1', f'--json={tmp_path}/figures.json')
  assert done.returncode == 0, done.stderr
  kinds = json.loads((tmp_path / 'figures.json').read_text())['kinds']
  assert {'kill', 'term', 'flip', 'damage', 'disk', 'writers', 'load'} <= kinds.keys()
  for row in kinds.values():
    assert (row['lost'], row['trials'], sum(row['outcomes'].values())) == (0, 1, 1)


@pytest.mark.parametrize(
  ('plant', 'kind', 'said'),
  [
    ('no-checksums', 'flip', 'was flipped, and it was loaded'),
    ('no-lock', 'writers', ''),
    ('forgetful', 'term', 'arrays differs after SIG'),
  ],
)
def test_planted_bugs_are_caught(plant, kind, said):
  done = _campaign('--trials=4', f'--kind={kind}', f'--plant={plant}')
  assert done.returncode == 1, done.stdout
  assert said in done.stderr
