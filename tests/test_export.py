"""Models taken along: every format gives JAX's logits, and loads without this project."""

import json
import re
import subprocess
import sys

import conftest
import jax
import numpy as np
import pytest

import digits
from digits import config as config_lib
from digits import errors
from digits.export import formats
from digits.export import model_card
from digits.train import step as step_lib

KINDS = sorted(formats.FORMATS)


def _make_run(name, **architecture):
  """A run with random parameters, biases included."""
  config = config_lib.load_config(conftest.ROOT / 'configs' / f'{name}.py')
  config = config_lib.from_dict(
    config_lib.to_dict(config) | {'architecture': dict(config.architecture) | architecture, 'num_validation': 60}
  )
  model = config.make_model()
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))['params']
  rng = np.random.default_rng(0)

  def draw(leaf):
    # A dense kernel is [outputs, inputs]; a convolution's has its outputs last.
    inputs = leaf.shape[-1] if leaf.ndim == 2 else leaf.size / leaf.shape[-1]
    return rng.standard_normal(leaf.shape, np.float32) / np.float32(np.sqrt(inputs + 1))

  params = jax.tree.map(draw, shapes)
  return digits.Run(config, model, params, step=3, history=[], finished=True)


RUNS = {
  'softmax': ('softmax', {}),
  'mlp': ('mlp', {'hidden_units': 30}),
  'mlp tanh': ('mlp', {'hidden_units': 5, 'activation': 'tanh'}),
  'cnn': ('cnn', {'features': (4, 6, 8)}),
  'cnn even kernel': ('cnn', {'features': (3, 4), 'kernel_size': 4, 'conv_activation': 'elu'}),
}


@pytest.fixture(params=RUNS)
def run(request):
  name, architecture = RUNS[request.param]
  return _make_run(name, **architecture)


IMAGES = np.random.default_rng(1).integers(0, 256, (600, 28, 28, 1)).astype(np.uint8)


@pytest.mark.parametrize('kind', KINDS)
def test_exported_models_give_the_logits_of_jax(kind, run):
  write, execute = formats.FORMATS[kind]
  content = write(run)
  expected = step_lib.apply_model(run.model, run.params, IMAGES)
  for count in (600, 1, 7):  # 600 is a whole batch of 500 and a part of one.
    logits = execute(content, run, IMAGES[:count])
    assert (logits.shape, logits.dtype) == ((count, 10), np.float32)
    np.testing.assert_allclose(logits, expected[:count], atol=1e-5)


def test_safetensors_holds_the_parameters_by_name():
  from safetensors import numpy as safetensors

  run = _make_run('cnn', features=(4, 6))
  params = safetensors.load(formats.to_safetensors(run))
  assert sorted(params) == sorted(
    f'{layer}.{leaf}' for layer in ('conv1', 'conv2', 'hidden', 'logits') for leaf in ('kernel', 'bias')
  )
  np.testing.assert_array_equal(params['conv1.kernel'], run.params['conv1']['kernel'])


def test_stablehlo_is_for_every_platform_and_any_number_of_images():
  from jax import export

  content = formats.to_stablehlo(_make_run('cnn', features=(2,)))
  assert b'.py' not in content  # No path of this machine.
  exported = export.deserialize(bytearray(content))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  assert str(exported.in_avals[0]) == 'uint8[N,28,28,1]'


def test_a_model_in_bfloat16_is_exported_in_float32():
  run = _make_run('mlp')
  config = config_lib.from_dict(config_lib.to_dict(run.config) | {'dtype': 'bfloat16'})
  half = run._replace(config=config, model=config.make_model())
  for kind in ('stablehlo', 'onnx'):
    write, execute = formats.FORMATS[kind]
    expected = step_lib.apply_model(run.model, run.params, IMAGES[:9])
    np.testing.assert_allclose(execute(write(half), half, IMAGES[:9]), expected, atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_the_lines_in_the_model_card_load_it_without_this_project(kind, run, tmp_path):
  content = formats.FORMATS[kind][0](run)
  file = f'model.{kind}'
  (tmp_path / file).write_bytes(content)
  card = model_card.make_card([run], kind=kind, file=file, content=content, results=[None], difference=1e-6)
  code = re.search(r'```python\n(.*?)```', card, re.DOTALL)[1]
  assert 'digits' not in code.replace(file, '')
  np.save(tmp_path / 'images.npy', IMAGES[:5])
  code = code.replace('np.zeros((2, 28, 28, 1), np.uint8)', "np.load('images.npy')") + "np.save('logits.npy', logits)\n"
  if kind == 'safetensors' and run.config.model != 'softmax':
    exec(
      compile(
        code.replace("'model.", f"'{tmp_path}/model.")
        .replace("'images", f"'{tmp_path}/images")
        .replace("'logits.npy", f"'{tmp_path}/logits.npy"),
        file,
        'exec',
      ),
      {},
    )
  else:
    done = subprocess.run([sys.executable, '-I', '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
  expected = step_lib.apply_model(run.model, run.params, IMAGES[:5])
  np.testing.assert_allclose(np.load(tmp_path / 'logits.npy'), expected, atol=1e-4)


def test_the_command_writes_file_and_card(tiny_config, subprocess_env, tmp_path):
  digits.run(tiny_config('softmax', epochs=1), tmp_path / 'run')
  command = [sys.executable, '-m', 'digits.commands.export', '--workdir=run', '--format=onnx']
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
    formats.FORMATS[kind][0](_make_run('softmax'))
