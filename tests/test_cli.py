"""The command line: what is parsed, imported and refused, and the commands as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time

import conftest
import pytest

from digits import config as config_lib
from digits import errors, models
from digits.commands import cli, predict, read, train

MLP = f'--config={conftest.ROOT}/configs/mlp.py'
SHIPPED = sorted(path.stem for path in (conftest.ROOT / 'configs').glob('*.py'))


def _parse(*arguments):
  args = train.parse(arguments)
  return config_lib.from_dict(train.read_config(args.config, args.overrides))


def test_overrides():
  config = _parse(MLP, '--config.epochs=3', '--config.architecture.hidden_units=7', '--workdir=x')
  assert config.epochs == 3
  assert config.make_model().hidden_units == 7
  config = _parse('--config', 'cnn', '--config.architecture.features=(4,)', '--config.seed', '5', '--noconfig.nesterov')
  assert config.make_model().features == (4,)
  assert (config.seed, config.nesterov) == (5, False)
  config = _parse('--config=mlp', '--config.optimizer.name=adam', '--config.augment.name=random_shift')
  assert (config.optimizer, config.augment) == ({'name': 'adam'}, {'name': 'random_shift'})


def _leaves(values, path=()):
  for name, value in values.items():
    if hasattr(value, 'items'):
      yield from _leaves(value, (*path, name))
    else:
      yield (*path, name), value


def _override(shipped, values):
  """The config with fields set from the command line, before it is checked."""
  return dict(_leaves(train.read_config(shipped, [f'--config.{".".join(path)}={value}' for path, value in values])))


@pytest.mark.parametrize('shipped', SHIPPED)
def test_every_field_of_every_shipped_config_can_be_overridden(shipped):
  leaves = list(_leaves(config_lib.get_config(shipped).to_dict()))
  assert len(leaves) > 20
  assert config_lib.from_dict(train.read_config(shipped, [f'--config.{".".join(p)}={v}' for p, v in leaves]))
  assert _override(shipped, leaves) == dict(leaves)
  other = {bool: lambda value: not value, int: lambda value: value + 1, float: lambda value: 3}
  other |= {str: lambda value: f'{value}x', tuple: lambda value: 2 * value}
  changed = [(path, other[type(value)](value)) for path, value in leaves]
  overridden = _override(shipped, changed)
  assert overridden == dict(changed)
  assert {path: type(value) for path, value in overridden.items()} == {path: type(value) for path, value in leaves}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], '--config is missing: give it as --config=cnn.'),
    (['--config.epochs=3'], '--config is missing'),
    (['--config=configs/none.py'], 'There is no config file configs/none.py: give a path, or one of'),
    ([MLP, '--config.epoch=3'], 'did you mean epochs?'),
    ([MLP, '--config.augment.max_pixels=3'], 'config.augment.max_pixels is not in the config file'),
    ([MLP, '--config.seed.x=3'], 'config.seed.x is not in the config file'),
    ([MLP, '--config.=3'], 'config. is not in the config file'),
    ([MLP, '--config.epochs=many'], 'Flag --config.epochs=many'),
    ([MLP, '--config.epochs=1.5'], 'Flag --config.epochs=1.5'),
    ([MLP, '--config.nesterov=maybe'], 'Flag --config.nesterov=maybe'),
    ([MLP, '--config.epochs'], 'Missing value for flag --config.epochs'),
    ([MLP, '--config.epochs=-1'], 'config.epochs=-1 is not allowed'),
    ([MLP, '--config.learning_rate=nan'], 'config.learning_rate=nan is not allowed'),
    ([MLP, '--config.model=rnn'], "config.model='rnn' is not a registered model"),
    ([MLP, '--config.model=cnn'], 'config.architecture'),
    ([MLP, '--config.architecture={}'], 'config.architecture.hidden_units is missing'),
    ([MLP, '--config.architecture=3'], 'is not a dict'),
    ([MLP, '--config.seed=1', '--config.seed=2'], '--config.seed is given more than once'),
    ([MLP, '--workdir=a', '--workdir=b'], '--workdir is given more than once'),
    ([MLP, '--workdir='], '--workdir is empty'),
    ([MLP, '--num_processes=two'], "invalid int value: 'two'"),
    ([MLP, 'epochs=3'], "'epochs=3' is not a flag"),
    ([MLP, '--wordir=x'], "Unknown command line flag 'wordir'"),
  ],
)
def test_wrong_calls_are_one_sentence(arguments, message):
  with pytest.raises(errors.UsageError) as caught:
    _parse(*arguments)
  assert message in str(caught.value)
  assert '\n' not in str(caught.value)


def test_config_file_with_an_error_in_it(tmp_path):
  (tmp_path / 'bad.py').write_text('def get_config(: pass')
  with pytest.raises(errors.UsageError, match='bad.py does not load: SyntaxError'):
    _parse(f'--config={tmp_path}/bad.py')


def test_help_lists_the_commands_and_importing_the_command_line_is_cheap(subprocess_env, tmp_path, capsys):
  cli._dispatch([])
  bare = capsys.readouterr().out
  cli._dispatch(['--help'])
  assert capsys.readouterr().out == bare
  assert all(f'\n  {name} ' in bare for name in cli.COMMANDS)
  heavy = ('jax', 'flax', 'numpy', 'absl', 'ml_collections')
  code = f'import sys; from digits.commands import cli; print([m for m in {heavy} if m in sys.modules])'
  assert _run(subprocess_env, tmp_path, '-c', code).stdout == '[]\n'
  with pytest.raises(errors.UsageError, match="'trian' is not a command: give one of train, evaluate"):
    cli._dispatch(['trian'])


OWN_MODEL = """
import digits
from flax import linen as nn

@digits.register_model('line')
class Line(nn.Module):
  width: int = 3
  num_classes: int = 10

  @nn.compact
  def __call__(self, image):
    return nn.Dense(self.num_classes)(nn.Dense(self.width)(image.reshape(len(image), -1)))
"""


@pytest.fixture
def own_model(tmp_path, monkeypatch):
  """A folder, made the current one, with a module that registers a model."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  (tmp_path / 'own_model.py').write_text(OWN_MODEL)
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'elsewhere' / 'other_model.py').write_text(OWN_MODEL.replace("'line'", "'other_line'"))
  yield tmp_path
  for name in ('own_model', 'other_model'):
    sys.modules.pop(name, None)
  for name in ('line', 'other_line'):
    models.MODELS.pop(name, None)


def test_models_of_ones_own_are_imported_by_name_and_by_path(own_model, monkeypatch):
  del own_model
  monkeypatch.setattr(train, 'run', lambda args: None)
  cli._dispatch(['train', '--config=cnn', '--import=own_model', '--import=elsewhere/other_model.py'])
  assert {'line', 'other_line'} <= set(models.MODELS)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('none', 'There is no module none, neither installed nor in this folder'),
    ('none.py', 'There is no file none.py'),
    ('broken', '--import=broken does not load: ZeroDivisionError: division by zero'),
    ('needs', "--import=needs does not load: ModuleNotFoundError: No module named 'missing_module'"),
    ('json.py', 'Another module is called json already: rename json.py'),
    ('taken.py', "The model 'mlp' is part of this package"),
    ('', '--import= does not load'),
    ('.hidden', '--import=.hidden does not load'),
  ],
)
def test_imports_that_fail_are_one_sentence(own_model, source, message):
  (own_model / 'broken.py').write_text('1 / 0')
  (own_model / 'needs.py').write_text('import missing_module')
  (own_model / 'json.py').write_text('')
  (own_model / 'taken.py').write_text(OWN_MODEL.replace("'line'", "'mlp'"))
  with pytest.raises(errors.UsageError) as caught:
    cli._dispatch(['train', '--config=cnn', f'--import={source}'])
  assert message in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_model_of_ones_own_from_training_to_reading(own_model, subprocess_env):
  from PIL import Image

  (own_model / 'elsewhere' / 'line_config.py').write_text(
    'import digits\n\ndef get_config():\n'
    "  config = digits.get_config('softmax')\n  config.model = 'line'\n  config.architecture.width = 4\n"
    '  config.epochs = 1\n  return config\n'
  )
  image = Image.new('L', (100, 160), 255)
  image.paste(0, (46, 30, 54, 130))
  image.save('one.png')
  train_it = ['train', '--config=elsewhere/line_config.py', '--import=own_model.py', *_TINY, '--json']
  done = _run(subprocess_env, own_model, '-m', 'digits', *train_it)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == json.loads((own_model / 'runs' / 'line_config' / 'results.json').read_text())
  for command in (['evaluate'], ['predict', 'one.png'], ['read', 'one.png']):
    command = [*command, '--workdir=runs/line_config', '--json']
    with pytest.raises(errors.UsageError, match=r"'line' is not a registered model .*--import=MODULE"):
      cli._dispatch(command)
    sys.modules.pop('own_model', None)
    cli._dispatch([*command, '--import=own_model'])
    models.MODELS.pop('line')


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

  evaluate = ['-m', 'digits', 'evaluate', '--workdir=runs/softmax']
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
    (['-m', 'digits', 'evaluate'], 2, 'arguments are required: --workdir'),
    (['-m', 'digits', 'evaluate', '--workdir=none'], 2, 'none is not the workdir of a run'),
    (['-m', 'digits', 'evaluate', '--workdir=none', '--split=all'], 2, 'invalid choice'),
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


@pytest.mark.parametrize('command', [['launch.py', '--help'], ['-m', 'digits', 'evaluate', '--help']])
def test_help(subprocess_env, tmp_path, command):
  command = [str(conftest.ROOT / word) if word == 'launch.py' else word for word in command]
  done = _run(subprocess_env, tmp_path, *command)
  assert done.returncode == 0
  assert '--workdir' in done.stdout


@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
@pytest.mark.parametrize('command', cli.COMMANDS)
def test_a_missing_accelerator_is_one_sentence(subprocess_env, tmp_path, command, platform):
  arguments = {
    'train': [MLP, *_TINY],
    'predict': ['--workdir=run', 'a.png'],
    'read': ['--workdir=run', 'a.png'],
    'export': ['--workdir=run', '--format=html', '--output=a.html'],
  }.get(command, ['--workdir=run'])
  done = _run(subprocess_env | {'JAX_PLATFORMS': platform}, tmp_path, '-m', 'digits', command, *arguments)
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr.splitlines()[-1].startswith(f'error: JAX finds no device for JAX_PLATFORMS={platform}')
  assert 'Traceback' not in done.stderr
  assert not list(tmp_path.iterdir())


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
  assert 'run the same command again to continue' in stderr
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
  assert (process.returncode, said) == (1, 'error: Stopped; run the same command again to continue.\n')


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
  assert (done.returncode, done.stderr) == (1, 'error: Stopped; run the same command again to continue.\n')


def test_what_follows_two_dashes_is_no_option():
  assert predict.parse(['--workdir=w', '--', '--x.png', '--x.png']).images == ['--x.png', '--x.png']


def test_names_of_images_and_previews_are_checked_before_anything_is_read(tmp_path):
  for command in (predict, read):
    with pytest.raises(errors.UsageError, match="'' is not the name of an image: give one, or - for standard input"):
      command.parse(['--workdir=w', 'a.png', ''])
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UsageError, match='is a file: name a folder, which is made if need be'):
    predict.parse(['--workdir=w', 'a.png', f'--preview={tmp_path / "file"}'])
  assert predict.parse(['--workdir=w', 'a.png', f'--preview={tmp_path / "new"}']).preview == tmp_path / 'new'


@pytest.mark.skipif(os.name != 'posix', reason='needs pipes of POSIX')
def test_a_closed_pipe_ends_a_command_quietly(subprocess_env):
  code = 'from digits.commands import cli; cli.run(lambda: [print("x" * 100) for _ in range(10_000)])'
  command = [sys.executable, '-c', code]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=subprocess_env) as process:
    assert process.stdout.readline().startswith(b'xxx')
    process.stdout.close()
    assert process.stderr.read() == b''
  assert process.returncode == 1
