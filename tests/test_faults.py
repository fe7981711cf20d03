"""The fault campaign in short, and that it catches a bug: a trial that cannot fail would be worth nothing."""

import json
import os
import subprocess
import sys

import conftest


def test_nothing_is_lost_and_a_planted_bug_is_caught(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'measurements.faults', '--trials=1', '--kind=kill', '--kind=flip', '--kind=damage'),
      *('--kind=disk', '--catch=no-checksums', f'--json={tmp_path}/figures.json'),
    ],
    cwd=conftest.ROOT,
    env=os.environ | {'PYTHONPATH': str(conftest.ROOT)},
    capture_output=True,
    text=True,
    timeout=500,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  figures = json.loads((tmp_path / 'figures.json').read_text())
  assert [(row['lost'], sum(row['outcomes'].values())) for row in figures['kinds'].values()] == [(0, 1)] * 4
  assert figures['caught'] == {'no-checksums': 1}
