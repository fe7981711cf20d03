import json
import socket
import subprocess
import sys
import time

import conftest
import pytest

import digits
from digits import config as config_lib
from digits import errors
from digits.runtime import distributed

_EPOCHS = 20


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('localhost:1', None, 0), '--num_processes is missing'),
    ((None, 2, 0), '--coordinator is missing'),
    (('localhost', 2, 0), '--coordinator=localhost is not an address'),
    (('localhost:1', 2, 2), '--process_id=2 is not one of --num_processes=2'),
    (('localhost:1', 0, 0), '--process_id=0 is not one of --num_processes=0'),
  ],
)
def test_wrong_flags(arguments, message):
  with pytest.raises(errors.UsageError, match=message), distributed.session(*arguments):
    pytest.fail('joined')


def test_unreachable_coordinator_is_named(monkeypatch):
  monkeypatch.setattr(distributed, '_SECONDS_TO_JOIN', 0.3)
  address = f'localhost:{_free_port()}'
  with pytest.raises(errors.DigitsError, match=f'{address} does not answer'), distributed.session(address, 2, 1):
    pytest.fail('joined')


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'SLURM_PROCID': '3', 'SLURM_STEP_NUM_TASKS': '4'}, True),
    ({'SLURM_PROCID': '0', 'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
  ],
)
def test_clusters_are_found_in_the_environment(monkeypatch, environment, expected):
  for name in ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert distributed._in_cluster() == expected


def test_many_runs_are_for_one_process(subprocess_env, tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, 'launch.py', '--config=configs/compare.py', f'--workdir={tmp_path / "run"}'),
      *(f'--coordinator=localhost:{_free_port()}', '--num_processes=1', '--process_id=0'),
    ],
    cwd=conftest.ROOT,
    env=subprocess_env,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 2
  assert done.stderr.strip().splitlines()[-1].startswith('error: config.experiment=compare runs in one process')
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('failing', ['0', '1', '01'])
def test_a_process_that_fails_says_why_and_ends_the_others(subprocess_env, tmp_path, failing):
  script = tmp_path / 'script.py'
  script.write_text(
    'import sys\n'
    'from digits import errors\nfrom digits.commands import cli\nfrom digits.runtime import distributed\n'
    'def main():\n'
    '  with distributed.session(sys.argv[1], 2, int(sys.argv[2])):\n'
    '    if sys.argv[2] in sys.argv[3]:\n'
    "      raise errors.DigitsError(f'Process {sys.argv[2]} is out of luck.')\n"
    "    distributed.wait_for_all('never')\n"
    'cli.run(main)\n'
  )
  address = f'localhost:{_free_port()}'
  processes = [
    subprocess.Popen(
      [sys.executable, script, address, str(i), failing], env=subprocess_env, stderr=subprocess.PIPE, text=True
    )
    for i in range(2)
  ]
  for i, process in enumerate(processes):
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    if str(i) in failing:
      assert f'error: Process {i} is out of luck.' in message
    else:
      assert 'error: Another process has ended' in message
    assert 'Traceback' not in message


@pytest.mark.parametrize('killed', [0, 1])
def test_two_processes_stream_lose_one_and_go_on_as_one(tiny_config, subprocess_env, tmp_path, killed):
  config = tiny_config('mlp', epochs=_EPOCHS, learning_rate=0.3, loader='grain')
  (tmp_path / 'config.py').write_text(_config_file(config))
  workdir = tmp_path / 'run'
  processes = _start_two(tmp_path, workdir, subprocess_env)
  survivor = processes[1 - killed]
  try:
    _wait_until(lambda: len(list(workdir.glob('checkpoints/[0-9]*'))) == 2, processes)
    processes[killed].kill()
    _, message = survivor.communicate(timeout=30)
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  assert survivor.returncode == 1
  assert 'error: Another process has ended' in message
  assert 'Traceback' not in message
  assert not (workdir / 'results.json').exists()

  results = digits.run(config, workdir)
  straight = digits.run(config, tmp_path / 'straight')
  assert results['test']['examples'] == straight['test']['examples']
  assert results['valid']['loss'] == pytest.approx(straight['valid']['loss'], rel=1e-3)
  steps = [json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert steps == sorted(steps)


def _config_file(config):
  values = config_lib.to_dict(config)
  return (
    'import json\n\nimport ml_collections\n\n\n'
    f'def get_config():\n  return ml_collections.ConfigDict(json.loads({json.dumps(values)!r}))\n'
  )


def _free_port():
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


def _start_two(directory, workdir, environment):
  command = [
    sys.executable,
    'launch.py',
    f'--config={directory / "config.py"}',
    f'--workdir={workdir}',
    f'--coordinator=localhost:{_free_port()}',
    '--num_processes=2',
  ]
  return [
    subprocess.Popen(
      [*command, f'--process_id={i}'],
      cwd=conftest.ROOT,
      env=environment | {'JAX_NUM_CPU_DEVICES': '2'},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]


def _wait_until(condition, processes):
  give_up = time.monotonic() + 120
  while not condition():
    for process in processes:
      if process.poll() is not None:
        pytest.fail(f'A process ended with {process.returncode}: {process.communicate()[1]}')
    assert time.monotonic() < give_up
    time.sleep(0.05)
