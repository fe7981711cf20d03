"""A model that the package does not know, from train to export."""

import json
import subprocess
import sys

import conftest
import jax
import numpy as np
import pytest

import digits
from digits import config as config_lib
from digits import errors
from digits.runtime import devices
from digits.store import checkpoint
from digits.train import compiled, loop, population
from digits.train import recipe as recipe_lib

RESNET = conftest.ROOT / 'examples' / 'resnet.py'


@pytest.fixture
def make_config(prepared_data_dir):
  """The example's config, made small: `make_config(epochs=1)`."""

  def make(**overrides):
    config = digits.get_config(RESNET)
    small = {
      'architecture': {'widths': (3, 4), 'dropout': 0.1},
      'data_dir': str(prepared_data_dir),
      'num_validation': 60,
      'epochs': 2,
      'batch_size': 32,
      'eval_batch_size': 50,
      'log_every_steps': 4,
    }
    return config_lib.from_dict({**config, **small, **overrides})

  return make


def test_it_learns_and_keeps_the_averaged_weights(make_config, tmp_path):
  config = make_config(epochs=12, learning_rate=0.02, ema_decay=0.9)
  results = digits.run(config, tmp_path)
  assert results['test']['accuracy'] > 0.3  # Chance is 0.1.
  run = digits.load_run(tmp_path)
  assert set(run.variables) == {'params', 'batch_stats'}
  dataset = digits.load_dataset('mnist', config.data_dir, config.num_validation)
  found = digits.evaluate_split(run.variables, dataset.test, model=run.model)
  assert found['accuracy'] == results['test']['accuracy']
  assert found['loss'] == pytest.approx(results['test']['loss'], rel=1e-5)
  train = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert {record.get('objective') for record in train} == {'cross-entropy with label smoothing 0.05', None}


@pytest.mark.parametrize('options', [{}, {'mesh': {'data': 4}}, {'loader': 'grain'}])
def test_interruptions_leave_no_trace(make_config, tmp_path, interrupt_at, options):
  config = make_config(**options)
  straight = digits.run(config, tmp_path / 'straight')
  for step in (3, 9):
    interrupt_at(step)
    with pytest.raises(errors.StoppedError):
      digits.run(config, tmp_path / 'interrupted')
  assert digits.run(config, tmp_path / 'interrupted')['test'] == straight['test']
  sums = [
    checkpoint.load_newest(tmp_path / name / 'checkpoints', loop.carry_template(config)).tree
    for name in ('straight', 'interrupted')
  ]
  jax.tree.map(np.testing.assert_array_equal, *sums)


def test_eight_devices_are_as_one(make_config, prepared_data_dir):
  config = make_config(architecture={'widths': (3, 4), 'dropout': 0.0}, epochs=4)
  split = digits.load_dataset('mnist', prepared_data_dir, 60).train
  losses = {}
  for num_devices in (1, 8):
    mesh = devices.make_data_mesh(config.batch_size, num_devices)
    recipe = recipe_lib.make_recipe(config, num_steps=32)
    carry = jax.jit(lambda recipe=recipe: compiled.init_carry(recipe), out_shardings=devices.everywhere(mesh))()
    training = compiled.InMemory(config, split, carry, mesh, recipe)
    losses[num_devices] = []
    for step in range(20):
      before = float(training.carry.window.loss)
      training.advance(step, step + 1)
      losses[num_devices].append(float(training.carry.window.loss) - before)
  np.testing.assert_allclose(losses[8], losses[1], rtol=1e-4)


@pytest.mark.parametrize('method', ['map', 'vmap'])
def test_members_of_a_population_are_single_runs(make_config, tmp_path, method):
  configs = [make_config(seed=seed, learning_rate=rate) for seed, rate in ((0, 3e-3), (1, 1e-3))]
  dataset = digits.load_dataset('mnist', configs[0].data_dir, 60)
  members = population.train_population(configs, dataset, method=method)
  for config, member in zip(configs, members, strict=True):
    single = digits.run(config, tmp_path / f'{config.seed}')
    (best,) = [r for r in member.history if r['split'] == 'valid' and r['step'] == int(member.selected.state.step)]
    assert best['loss'] == pytest.approx(single['valid']['loss'], rel=1e-3)


def test_it_is_compared_beside_a_model_of_the_package(make_config, tiny_config, tmp_path):
  mlp, resnet = (config_lib.to_dict(config) for config in (tiny_config('mlp', epochs=2), make_config()))
  shared = {name: mlp[name] for name in ('data_dir', 'num_validation')}
  compare = config_lib.to_dict(digits.load_config('compare'))
  config = config_lib.from_dict({**compare, **shared, 'recipes': {'mlp': mlp, 'mine': resnet}, 'num_seeds': 2})
  results = digits.run(config, tmp_path)
  assert list(results['models']) == ['mlp', 'mine']
  assert results['models']['mine']['published'] is None
  page = (tmp_path / 'report.html').read_text()
  assert 'mine' in page


def _digits(environment, folder, *arguments):
  return subprocess.run(
    [sys.executable, '-m', 'digits', *map(str, arguments)], env=environment, cwd=folder, capture_output=True, text=True
  )


def test_the_commands_use_it(make_config, subprocess_env, tmp_path):
  config = make_config(epochs=1)
  digits.run(config, tmp_path / 'run')
  from PIL import Image

  one = np.zeros((28, 28), np.uint8)
  one[4:24, 13:16] = 255
  Image.fromarray(one).save(tmp_path / 'one.png')
  run = '--workdir=run'
  done = _digits(subprocess_env, tmp_path, 'evaluate', run)
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'not a registered model' in done.stderr
  assert '--import' in done.stderr
  mine = f'--import={RESNET}'
  for command in (
    ['evaluate', run, mine, '--json'],
    ['predict', run, mine, 'one.png', '--json'],
    ['read', run, mine, 'one.png', '--json'],
    ['export', run, mine, '--format=safetensors', '--output=model.safetensors', '--json'],
    ['export', run, mine, '--format=stablehlo', '--output=model.stablehlo', '--json'],
  ):
    done = _digits(subprocess_env, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
  for kind in ('onnx', 'html'):
    done = _digits(subprocess_env, tmp_path, 'export', run, mine, f'--format={kind}', '--output=model')
    assert (done.returncode, done.stderr.count('\n')) == (2, 1), done.stderr
    assert 'layers' in done.stderr
  assert not (tmp_path / 'model').exists()
