"""The flags of launch.py, and the commands as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time

from absl import flags
import conftest
from ml_collections import config_flags
import pytest

from digits import config as config_lib
from digits import errors
from digits.commands import cli

MLP = f'--config={conftest.ROOT}/configs/mlp.py'


def _parse(monkeypatch, *arguments):
  values = flags.FlagValues()
  config = config_flags.DEFINE_config_file('config', None, '', flag_values=values)
  flags.DEFINE_string('workdir', None, '', flag_values=values)
  argv = ['launch.py', *arguments]
  monkeypatch.setattr(sys, 'argv', argv)  # Where config_flags looks for the overrides.
  cli.parse_flags(argv, required='config', example='--config=configs/cnn.py', flag_values=values)
  return config_lib.from_dict(config.value)


def test_overrides(monkeypatch):
  config = _parse(monkeypatch, MLP, '--config.epochs=3', '--config.architecture.hidden_units=7', '--workdir=x')
  assert config.epochs == 3
  assert config.make_model().hidden_units == 7
  cnn = _parse(monkeypatch, MLP.replace('mlp', 'cnn'), '--config.architecture.features=(4,)')
  assert cnn.make_model().features == (4,)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], '--config is missing: give it as --config=configs/cnn.py.'),
    (['--config.epochs=3'], '--config is missing'),
    (['--config=configs/none.py'], 'No such file'),
    ([MLP, '--config.epoch=3'], 'Did you mean "epochs" instead of "epoch"?'),
    ([MLP, '--config.epochs=many'], 'flag --config.epochs=many'),
    ([MLP, '--config.epochs=1.5'], 'flag --config.epochs=1.5'),
    ([MLP, '--config.epochs'], 'Missing value for flag --config.epochs'),
    ([MLP, '--config.epochs=-1'], 'config.epochs=-1 is not allowed'),
    ([MLP, '--config.learning_rate=nan'], 'config.learning_rate=nan is not allowed'),
    ([MLP, '--config.model=rnn'], "config.model='rnn' is not allowed"),
    ([MLP, '--config.model=cnn'], 'config.architecture'),
    ([MLP, '--config.architecture={}'], 'config.architecture.hidden_units is missing'),
    ([MLP, '--config.seed=1', '--config.seed=2'], '--config.seed is given more than once'),
    ([MLP, 'epochs=3'], "'epochs=3' is not a flag"),
    ([MLP, '--wordir=x'], "Unknown command line flag 'wordir'"),
  ],
)
def test_wrong_calls_are_one_sentence(monkeypatch, arguments, message):
  with pytest.raises(errors.UsageError) as caught:
    _parse(monkeypatch, *arguments)
  assert message in str(caught.value)
  assert '\n' not in str(caught.value)


def test_config_file_with_an_error_in_it(monkeypatch, tmp_path):
  (tmp_path / 'bad.py').write_text('def get_config(: pass')
  with pytest.raises(errors.UsageError, match='The config file does not load: SyntaxError'):
    _parse(monkeypatch, f'--config={tmp_path}/bad.py')


def _run(env, cwd, *command, **kwargs):
  return subprocess.run(
    [sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=150, check=False, **kwargs
  )


_TINY = [
  '--config.num_validation=60',
  '--config.batch_size=32',
  '--config.eval_batch_size=50',
]


def test_launch_and_evaluate_as_a_user_runs_them(subprocess_env, tmp_path):
  launch = [
    str(conftest.ROOT / 'launch.py'),
    f'--config={conftest.ROOT}/configs/softmax.py',
    *_TINY,
    '--config.epochs=2',
  ]
  done = _run(subprocess_env, tmp_path, *launch)
  assert done.returncode == 0, done.stderr
  results = json.loads((tmp_path / 'runs' / 'softmax' / 'results.json').read_text())
  assert f'{results["test"]["accuracy"]:.2%}' in done.stdout
  assert 'epoch 2/2' in done.stderr
  assert 'Warning' not in done.stderr

  evaluate = ['-m', 'digits.commands.evaluate', '--workdir=runs/softmax']
  for split in ('test', 'valid'):
    done = _run(subprocess_env, tmp_path, *evaluate, f'--split={split}', '--json')
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert (scores['split'], scores['step']) == (split, results['step'])
    assert {key: scores[key] for key in results[split]} == pytest.approx(results[split])
  done = _run(subprocess_env, tmp_path, *evaluate, '--split=train')
  assert 'softmax, train' in done.stdout

  config = tmp_path / 'runs' / 'softmax' / 'config.json'
  config.write_text(config.read_text().replace('"num_validation": 60', '"num_validation": 61'))
  done = _run(subprocess_env, tmp_path, *evaluate)
  assert (done.returncode, done.stdout) == (1, '')
  assert 'config.json is damaged (its content does not match its SHA-256)' in done.stderr


@pytest.mark.parametrize(
  ('command', 'code', 'message'),
  [
    (['launch.py', 'config=x'], 2, 'is not a flag'),
    (['launch.py', MLP, '--config.dataset=nope'], 2, 'is not a dataset that TFDS knows'),
    (['-m', 'digits.commands.evaluate'], 2, 'arguments are required: --workdir'),
    (['-m', 'digits.commands.evaluate', '--workdir=none'], 2, 'none is not the workdir of a run'),
    (['-m', 'digits.commands.evaluate', '--workdir=none', '--split=all'], 2, 'invalid choice'),
  ],
)
def test_wrong_calls_exit_with_2_and_write_nothing(subprocess_env, tmp_path, command, code, message):
  command = [str(conftest.ROOT / word) if word == 'launch.py' else word for word in command]
  done = _run(subprocess_env, tmp_path, *command)
  assert done.returncode == code
  assert message in done.stderr
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('command', [['launch.py', '--help'], ['-m', 'digits.commands.evaluate', '--help']])
def test_help(subprocess_env, tmp_path, command):
  command = [str(conftest.ROOT / word) if word == 'launch.py' else word for word in command]
  done = _run(subprocess_env, tmp_path, *command)
  assert done.returncode == 0
  assert '--workdir' in done.stdout


def test_missing_accelerator_is_one_sentence(subprocess_env, tmp_path):
  env = subprocess_env | {'JAX_PLATFORMS': 'tpu'}
  done = _run(env, tmp_path, str(conftest.ROOT / 'launch.py'), MLP, *_TINY)
  assert done.returncode == 1
  assert 'JAX finds no device for JAX_PLATFORMS=tpu' in done.stderr
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('allocate', ['bytearray(10**15)', 'jax.numpy.zeros(10**14).block_until_ready()'])
def test_running_out_of_memory_is_one_sentence(subprocess_env, tmp_path, allocate):
  script = f'import jax; from digits.commands import cli; cli.run(lambda: {allocate})'
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=tmp_path, env=subprocess_env, capture_output=True, text=True, check=False
  )
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1].startswith('error: Memory ran out')
  assert 'Traceback' not in done.stderr


def test_file_size_limit_is_one_sentence_and_the_run_goes_on_after_it(subprocess_env, tmp_path):
  """A file size limit stands in for a full disk."""
  limited = (
    'import resource, runpy, signal, sys\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 1 << 40))\n'
    f'sys.argv = sys.argv[1:]; runpy.run_path({str(conftest.ROOT / "launch.py")!r}, run_name="__main__")\n'
  )
  arguments = [f'--config={conftest.ROOT}/configs/mlp.py', *_TINY, '--config.epochs=2']
  done = _run(subprocess_env, tmp_path, '-c', limited, 'launch.py', *arguments)
  assert done.returncode == 1
  assert 'error: ' in done.stderr
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'runs' / 'mlp' / 'results.json').exists()
  done = _run(subprocess_env, tmp_path, str(conftest.ROOT / 'launch.py'), *arguments)
  assert done.returncode == 0, done.stderr


def test_sigterm_saves_and_the_same_command_goes_on(subprocess_env, tmp_path):
  command = [sys.executable, str(conftest.ROOT / 'launch.py'), MLP, *_TINY, '--config.epochs=5000']
  process = subprocess.Popen(command, cwd=tmp_path, env=subprocess_env, stderr=subprocess.PIPE, text=True)
  metrics = tmp_path / 'runs' / 'mlp' / 'metrics.jsonl'
  deadline = time.monotonic() + 100
  while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
    time.sleep(0.05)
  process.terminate()
  stderr = process.communicate(timeout=30)[1]
  assert process.returncode == 1
  assert 'Stopped and saved at step' in stderr
  assert 'run the same command to go on' in stderr
  step = int(stderr.split('saved at step ')[1].split()[0])
  assert (tmp_path / 'runs' / 'mlp' / 'checkpoints' / str(step)).exists()


def test_tfds_and_orbax_are_imported_when_first_needed(subprocess_env, tmp_path):
  code = 'import sys, digits; print([m for m in ("tensorflow_datasets", "orbax", "scipy.stats") if m in sys.modules])'
  assert _run(subprocess_env, tmp_path, '-c', code).stdout.strip() == '[]'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_imports_ends_in_a_sentence(subprocess_env, tmp_path, number):
  (tmp_path / 'absl').mkdir()
  (tmp_path / 'absl' / '__init__.py').write_text("import time\nprint('importing', flush=True)\ntime.sleep(100)\n")
  paths = [str(tmp_path), *filter(None, [subprocess_env.get('PYTHONPATH')])]
  process = subprocess.Popen(
    [sys.executable, str(conftest.ROOT / 'launch.py'), MLP],
    env=subprocess_env | {'PYTHONPATH': os.pathsep.join(paths)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'importing\n'
  process.send_signal(number)
  _, said = process.communicate(timeout=60)
  assert (process.returncode, said) == (1, 'error: Stopped; run the same command to go on.\n')


def test_a_signal_that_a_library_makes_an_error_of_is_still_a_stop(subprocess_env, tmp_path):
  script = """
import os
import signal
from digits.commands import cli

def main():
  try:
    os.kill(os.getpid(), signal.SIGTERM)
  except KeyboardInterrupt:
    raise TypeError('half done') from None

cli.run(main)
"""
  done = _run(subprocess_env, tmp_path, '-c', script)
  assert (done.returncode, done.stderr) == (1, 'error: Stopped; run the same command to go on.\n')
