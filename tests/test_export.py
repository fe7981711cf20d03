"""Models taken along: every format gives JAX's logits, and loads without this project."""

import json
import re
import subprocess
import sys

import conftest
import jax
import numpy as np
import pytest
from support import own_models

import digits
from digits import config as config_lib
from digits import errors
from digits.export import formats, model_card
from digits.train import runs as runs_lib
from digits.train import step as step_lib

KINDS = sorted(formats.FORMATS)


def make_run(name, **architecture):
  """A run with random variables, biases included, of a shipped config or of a registered model."""
  own_models.register()
  is_shipped = (conftest.ROOT / 'configs' / f'{name}.py').exists()
  config = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / f'{name if is_shipped else "mlp"}.py'))
  shipped = config['architecture'] if is_shipped else {}
  config = config_lib.from_dict(config | {'model': name, 'architecture': shipped | architecture, 'num_validation': 60})
  model = config.make_model()
  return digits.Run(config, model, own_models.random_variables(model), step=3, history=[])


RUNS = {
  'softmax': ('softmax', {}),
  'mlp': ('mlp', {'hidden_units': 30}),
  'mlp tanh': ('mlp', {'hidden_units': 5, 'activation': 'tanh'}),
  'mlp identity': ('mlp', {'hidden_units': 5, 'activation': 'identity'}),
  'cnn': ('cnn', {'features': (4, 6, 8)}),
  'cnn even kernel': ('cnn', {'features': (3, 4), 'kernel_size': 4, 'conv_activation': 'elu'}),
  'cnn gelu': ('cnn', {'features': (3, 4), 'conv_activation': 'gelu', 'hidden_activation': 'silu'}),
  'described': ('own_described', {'inner': 'gelu', 'outer': 'silu'}),
}


@pytest.fixture(params=RUNS)
def run(request):
  name, architecture = RUNS[request.param]
  return make_run(name, **architecture)


@pytest.fixture
def undescribed():
  return make_run('own_resnet', features=2)


IMAGES = np.random.default_rng(1).integers(0, 256, (600, 28, 28, 1)).astype(np.uint8)


@pytest.mark.parametrize('kind', KINDS)
def test_exported_models_give_the_logits_of_jax(kind, run):
  write, execute = formats.FORMATS[kind]
  content = write(run)
  expected = step_lib.apply_model(run.model, run.variables, IMAGES)
  for count in (600, 1, 7):  # 600 is a whole batch of 500 and a part of one.
    logits = execute(content, run, IMAGES[:count])
    assert (logits.shape, logits.dtype) == ((count, 10), np.float32)
    np.testing.assert_allclose(logits, expected[:count], atol=1e-5)


@pytest.mark.parametrize('kind', ['safetensors', 'stablehlo'])
def test_a_model_that_says_nothing_of_its_layers_is_exported(kind, undescribed):
  write, execute = formats.FORMATS[kind]
  expected = step_lib.apply_model(undescribed.model, undescribed.variables, IMAGES)
  np.testing.assert_allclose(execute(write(undescribed), undescribed, IMAGES), expected, atol=1e-5)


def test_onnx_of_a_model_that_says_nothing_of_its_layers_is_refused(undescribed):
  with pytest.raises(errors.UsageError, match=r'--format=onnx needs to know the layers of OwnResNet.*stablehlo'):
    formats.to_onnx(undescribed)


def test_safetensors_holds_all_variables_by_path(undescribed):
  from safetensors import numpy as safetensors

  arrays = safetensors.load(formats.to_safetensors(undescribed))
  block = {f'block.{name}' for name in ('conv.kernel', 'norm.scale', 'norm.bias')}
  ends = {f'{layer}.{leaf}' for layer in ('stem', 'head') for leaf in ('kernel', 'bias')}
  assert set(arrays) == ends | block | {'batch_stats.block.norm.mean', 'batch_stats.block.norm.var'}
  np.testing.assert_array_equal(
    arrays['batch_stats.block.norm.var'], undescribed.variables['batch_stats']['block']['norm']['var']
  )


def test_a_model_that_needs_to_count_its_images_is_refused_by_stablehlo(undescribed):
  class Counts(type(undescribed.model)):
    def __call__(self, image, train=False):
      return super().__call__(image + len(image), train)

  counts = undescribed._replace(model=Counts(features=2))
  with pytest.raises(errors.DigitsError, match=r'Counts cannot be computed for an unknown number of images'):
    formats.to_stablehlo(counts)


def test_the_card_of_a_model_that_says_nothing_of_its_layers_has_no_numpy_code(undescribed):
  content = formats.to_safetensors(undescribed)
  card = model_card.make_card([undescribed], kind='safetensors', file='it', content=content, difference=0.0)
  assert '```' not in card
  assert 'does not describe its layers' in card
  assert '`{"features": 2}`' in card


def test_safetensors_holds_the_parameters_by_name():
  from safetensors import numpy as safetensors

  run = make_run('cnn', features=(4, 6))
  params = safetensors.load(formats.to_safetensors(run))
  assert sorted(params) == sorted(
    f'{layer}.{leaf}' for layer in ('conv1', 'conv2', 'hidden', 'logits') for leaf in ('kernel', 'bias')
  )
  np.testing.assert_array_equal(params['conv1.kernel'], run.params['conv1']['kernel'])


def test_stablehlo_is_for_every_platform_and_any_number_of_images():
  from jax import export

  content = formats.to_stablehlo(make_run('cnn', features=(2,)))
  assert b'.py' not in content  # No path of this machine.
  exported = export.deserialize(bytearray(content))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  assert str(exported.in_avals[0]) == 'uint8[N,28,28,1]'


def test_a_model_in_bfloat16_is_exported_in_float32():
  run = make_run('mlp')
  config = config_lib.from_dict(config_lib.to_dict(run.config) | {'dtype': 'bfloat16'})
  half = run._replace(config=config, model=config.make_model())
  for kind in ('stablehlo', 'onnx'):
    write, execute = formats.FORMATS[kind]
    expected = step_lib.apply_model(run.model, run.variables, IMAGES[:9])
    np.testing.assert_allclose(execute(write(half), half, IMAGES[:9]), expected, atol=1e-5)


def _code_of_card(run, kind, directory):
  """The lines of the card of an exported model, made to read five images and to write their logits in a directory."""
  content = formats.FORMATS[kind][0](run)
  (directory / f'model.{kind}').write_bytes(content)
  np.save(directory / 'images.npy', IMAGES[:5])
  card = model_card.make_card([run], kind=kind, file=f'model.{kind}', content=content, difference=1e-6)
  code = re.search(r'```python\n(.*?)```', card, re.DOTALL)[1]
  assert 'digits' not in code
  code = code.replace(f"'model.{kind}'", repr(str(directory / f'model.{kind}')))
  code = code.replace('np.zeros((2, 28, 28, 1), np.uint8)', f"np.load('{directory}/images.npy')")
  return f"{code}np.save('{directory}/logits.npy', logits)\n"


@pytest.mark.parametrize('kind', KINDS)
def test_the_lines_in_the_model_card_load_it_without_this_project(kind, tmp_path):
  run = make_run('softmax')
  command = [sys.executable, '-I', '-c', _code_of_card(run, kind, tmp_path)]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  expected = step_lib.apply_model(run.model, run.variables, IMAGES[:5])
  np.testing.assert_allclose(np.load(tmp_path / 'logits.npy'), expected, atol=1e-4)


def test_the_numpy_lines_in_the_model_card_compute_the_model(run, tmp_path):
  exec(compile(_code_of_card(run, 'safetensors', tmp_path), 'card', 'exec'), {})
  expected = step_lib.apply_model(run.model, run.variables, IMAGES[:5])
  np.testing.assert_allclose(np.load(tmp_path / 'logits.npy'), expected, atol=1e-4)


def test_the_command_writes_file_and_card(tiny_config, subprocess_env, tmp_path):
  digits.run(tiny_config('softmax', epochs=1), tmp_path / 'run')
  command = [sys.executable, '-m', 'digits', 'export', '--workdir=run', '--format=onnx']
  arguments = {'cwd': tmp_path, 'env': subprocess_env, 'capture_output': True, 'text': True, 'check': False}
  done = subprocess.run([*command, '--output=model.onnx', '--json'], **arguments)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)['difference'] < 1e-5
  card = (tmp_path / 'model.onnx.md').read_text()
  results = json.loads((tmp_path / 'run' / 'results.json').read_text())
  assert f'| test | {results["test"]["accuracy"]:.2%} | {results["test"]["loss"]:.4f} | 100 |' in card
  assert '7,850 parameters' in card
  import hashlib

  assert hashlib.sha256((tmp_path / 'model.onnx').read_bytes()).hexdigest() in card

  for output in ('none/model.onnx', '.'):
    done = subprocess.run([*command, f'--output={output}'], **arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == f'error: --output={output} is not a file in a directory that exists.\n'


@pytest.mark.parametrize('kind', KINDS)
def test_a_missing_package_is_one_sentence(kind, monkeypatch):
  for name in ('onnx', 'flatbuffers', 'safetensors.numpy'):
    monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(errors.DigitsError, match=r'needs the package \w+: pip install "digits-jax\[export\]"'):
    formats.FORMATS[kind][0](make_run('softmax'))


@pytest.fixture(scope='module')
def ensemble():
  """An ensemble of three networks of two models."""
  return runs_lib.average(
    [make_run('mlp'), make_run('cnn', features=(3, 4)), make_run('own_described', inner='gelu', outer='silu')]
  )


@pytest.mark.parametrize('kind', ['safetensors', 'stablehlo', 'onnx'])
def test_an_ensemble_is_exported_whole(ensemble, kind):
  write, execute = formats.FORMATS[kind]
  images = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1), np.uint8)
  content = write(ensemble)
  logits = execute(content, ensemble, images)
  members = [np.asarray(step_lib.apply_model(one.model, one.variables, images)) for one in ensemble.members]
  powers = np.exp(np.array(members, np.float64))
  expected = (powers / powers.sum(-1, keepdims=True)).mean(0)
  np.testing.assert_allclose(np.exp(logits), expected, rtol=2e-4, atol=1e-7)
  card = model_card.make_card([ensemble], kind=kind, file='it', content=content, difference=0.0)
  assert 'mean of the probabilities of 3 networks' in card


def test_an_ensemble_is_no_page_to_draw_on(ensemble):
  with pytest.raises(errors.UsageError, match='for single networks: name a run of one'):
    formats.described_layers(ensemble.model, 'html')


def test_an_exported_file_is_a_run(ensemble, tmp_path):
  single = make_run('mlp')._replace(results={'test': {'accuracy': 0.5}})
  for run in (single, ensemble):
    path = tmp_path / 'it.safetensors'
    path.write_bytes(formats.to_safetensors(run))
    loaded = runs_lib.load_run(path)
    assert (loaded.name, loaded.config, loaded.step, loaded.results) == (run.name, run.config, run.step, run.results)
    assert [one.config for one in loaded.members] == [one.config for one in run.members]
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, run.variables)
    assert runs_lib.find_runs(path) == {run.name: path}


def test_another_or_a_damaged_file_is_no_run(tmp_path):
  path = tmp_path / 'it.safetensors'
  content = formats.to_safetensors(make_run('mlp'))
  path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(errors.DigitsError, match='it.safetensors cannot be loaded. It is damaged'):
    runs_lib.load_run(path)
  unsealed = content.replace(b'"sha256"', b'"sha255"')
  for other in (b'', b'text', content[:-3], b'\xff' * 100, unsealed):
    path.write_bytes(other)
    with pytest.raises(errors.UsageError, match='not in safetensors format as "digits export" writes it'):
      runs_lib.load_run(path)
