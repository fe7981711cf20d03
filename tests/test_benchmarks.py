"""The benchmark's own arithmetic and protocol; and, where the peers are installed, that they do what we do."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import protocol, run, summary
import digits
from digits import config as config_lib
from digits import models
from digits.train import optim
from digits.train import step as step_lib

ROOT = pathlib.Path(__file__).parent.parent
_ENV = os.environ | {'PYTHONPATH': str(ROOT)}

_WORKER = """
import os
from benchmarks import protocol

class Peer:
  def twice(self, value):
    print('a library that prints')
    yield {'reached': 'half'}
    yield {'value': 2 * value}

  def fail(self):
    yield {'reached': 'half'}
    raise ValueError('no such model')

  def die(self):
    os._exit(3)
    yield

protocol.serve(Peer())
"""


@pytest.fixture
def worker(tmp_path):
  log = tmp_path / 'log.txt'
  log.touch()
  with protocol.Worker([sys.executable, '-c', _WORKER], log=log, env=_ENV) as worker:
    yield worker


def test_worker_replies_in_order_and_is_asked_again(worker):
  first, second = worker.ask('twice', value=3)
  assert first['reached'] == 'half'
  assert second['value'] == 6
  assert 0 < first['arrived'] <= second['arrived']
  assert worker.ask('twice', value=5)[-1]['value'] == 10


def test_worker_that_fails_in_one_measurement_does_the_next(worker):
  with pytest.raises(protocol.WorkerError, match='ValueError: no such model'):
    worker.ask('fail')
  assert worker.ask('twice', value=1)[-1]['value'] == 2


def test_worker_that_dies_is_an_error(worker):
  for _ in range(2):
    with pytest.raises(protocol.WorkerError, match='has ended'):
      worker.ask('die')


def test_worker_that_does_not_start_says_why(tmp_path):
  with (
    protocol.Worker([sys.executable, '-c', 'import no_such_peer'], log=tmp_path / 'log.txt', env=_ENV) as worker,
    pytest.raises(protocol.WorkerError, match="No module named 'no_such_peer'"),
  ):
    worker.ask('describe')


def test_median_has_its_range():
  assert summary.median([3.0, 1.0, 2.0]) == {'median': 2.0, 'low': 1.0, 'high': 3.0, 'n': 3}


def test_ratio_is_paired_by_round():
  # The second round was ten times as slow for both; the ratio of medians would be 20 / 4.
  assert summary.ratio([1.0, 20.0, 30.0], [4.0, 40.0, None]) == {'median': 0.375, 'low': 0.25, 'high': 0.5, 'n': 2}
  assert summary.ratio([None], [1.0]) is None


def test_tables_have_rates_and_ratios():
  rows = [
    {
      'section': 'Training',
      'what': 'cnn',
      'unit': 's',
      'images': 4000,
      'values': {'us': [2.0, 4.0], 'them': [4.0, 16.0]},
    },
    {'section': 'Memory', 'what': 'cnn', 'unit': 'bytes', 'images': None, 'values': {'us': [2**21], 'them': [None]}},
  ]
  assert summary.format_tables(summary.summarise(rows)) == '\n'.join(
    [
      '### Training',
      '',
      '| | us | them |',
      '|---|---|---|',
      '| cnn | 1,333 images/s | 400 images/s<br>0.38 (0.25 to 0.50) |',
      '',
      '### Memory',
      '',
      '| | us | them |',
      '|---|---|---|',
      '| cnn | 2 MiB |  |',
    ]
  )


def test_rounds_are_told_apart_by_the_distance_of_the_cores():
  row = {'section': 'Training', 'what': 'mlp', 'unit': 's', 'images': 1, 'message_ns': [70, 210, 68]}
  rows = [row | {'values': {'us': [1.0, 3.0, 2.0], 'them': [4.0, 6.0, 4.0], 'others': [1.0, 1.0, 1.0]}}]
  rows += [
    rows[0] | {'what': 'cnn', 'message_ns': [70, 70, None]},
    rows[0] | {'what': 'softmax', 'message_ns': [70] * 3},
  ]
  assert summary.format_distances(rows).splitlines()[2:] == [
    '| us / them | shared | not shared |',
    '|---|---|---|',
    '| Training: mlp | 0.38 (2 of 3 rounds) | 0.50 (1 of 3 rounds) |',
    '| Training: softmax | 0.50 (3 of 3 rounds) |  |',
  ]


@pytest.mark.skipif(
  not hasattr(os, 'sched_getaffinity') or len(os.sched_getaffinity(0)) != 2, reason='needs two cores, and Linux'
)
def test_a_message_between_two_cores_takes_nanoseconds():
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.cores'], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert 10 < int(done.stdout) < 100_000


def test_cnn_arithmetic_is_that_of_the_literature():
  # Products of each layer, by hand: 28*28*25*16 + 14*14*400*32 + 7*7*800*64 + 57,600 + 1,000 = 5,389,800; two
  # operations each, three times, less the first layer's gradient by its input.
  assert summary.CNN_FLOP_PER_IMAGE == 2 * (3 * 5_389_800 - 313_600) == 31_711_600


def test_share_of_peak_counts_the_fastest_product():
  rows = summary.summarise(
    [
      {
        'section': 'P',
        'what': '',
        'unit': 'GFLOP/s',
        'images': None,
        'values': {'a': [50.0, 100.0], 'b': [80.0, None]},
      },
      {'section': 'Training', 'what': 'cnn, batch 128', 'unit': 's', 'images': 1000, 'values': {'us': [0.5, 0.5]}},
    ]
  )
  assert run.cnn_share_of_peak(rows) == {'us': pytest.approx(1000 * 31.7116e6 / 0.5 / 100e9)}
  assert run.cnn_share_of_peak(rows[1:]) == {}


def _recipe(name):
  values = config_lib.to_dict(config_lib.load_config(ROOT / 'configs' / f'{name}.py'))
  return values | {'learning_rate': 0.1, 'weight_decay': 0.01}


def _batch():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (32, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, 32).astype(np.int32)


def _step_of_ours(name, recipe):
  """Parameters, logits, and parameters after a step at learning rate 0.1."""
  config = config_lib.from_dict(recipe)
  model, optimizer = config.make_model(), digits.make_optimizer(config, num_steps=50)
  state = step_lib.init_state(jax.random.key(0), model=model, optimizer=optimizer)
  image, label = _batch()
  logits = step_lib.apply_model(model, state.variables, image)
  batch = {'image': jnp.asarray(image), 'label': jnp.asarray(label), 'mask': jnp.ones(len(label))}
  after, _ = step_lib.train_step(state, batch, model=model, optimizer=optimizer)
  return jax.device_get((state.params, logits, after.params))


def _layers(params):
  return [params[name] for name in ('conv1', 'conv2', 'conv3', 'hidden', 'logits') if name in params]


def _to_keras(params):
  """Our parameters in Keras' order of layers and axes."""
  arrays = []
  for layer in _layers(params):
    kernel = layer['kernel']
    arrays += [kernel.T if kernel.ndim == 2 else kernel, layer['bias']]
  return arrays


def _to_torch(params):
  """Our parameters in PyTorch's order of layers and axes."""
  arrays = []
  for layer in _layers(params):
    kernel = layer['kernel']
    if kernel.ndim == 4:
      kernel = kernel.transpose(3, 2, 0, 1)
    elif 'conv3' in params and kernel.shape == (100, 576):
      kernel = kernel.reshape(100, 3, 3, 64).transpose(0, 3, 1, 2).reshape(100, 576)
    arrays += [kernel, layer['bias']]
  return arrays


@pytest.fixture
def torch():
  torch = pytest.importorskip('torch', reason='the extra bench is not installed')
  # Its threads wait for each other in busy loops, which takes minutes where other processes want the cores.
  torch.set_num_threads(1)
  return torch


@pytest.mark.peers
@pytest.mark.parametrize('name', models.MODELS)
def test_pytorch_does_the_same_step(torch, name):
  from benchmarks import pytorch

  recipe = _recipe(name)
  params, logits, after = _step_of_ours(name, recipe)
  image, label = _batch()
  image = torch.from_numpy(image).reshape(-1, 1, 28, 28)
  label = torch.from_numpy(label).long()
  trainer = pytorch.Trainer(
    name, recipe | {'warmup_fraction': 0.0}, image, label, batch_size=32, epochs=1, mode='eager'
  )
  parameters = list(trainer.model.parameters())
  for parameter, array in zip(parameters, _to_torch(params), strict=True):
    parameter.data = torch.from_numpy(np.array(array))

  np.testing.assert_allclose(trainer.model(pytorch.normalize(image)).detach(), logits, atol=2e-5)
  trainer.step(image, label)
  for parameter, array in zip(parameters, _to_torch(after), strict=True):
    np.testing.assert_allclose(parameter.detach(), array, atol=3e-5)


@pytest.mark.peers
def test_pytorch_has_our_schedule_and_initial_scale(torch):
  from benchmarks import pytorch

  recipe = _recipe('cnn')
  schedule = optim.make_schedule(config_lib.from_dict(recipe | {'epochs': 1}), 50)
  for step in (0, 3, 10, 30, 49):
    assert pytorch.one_cycle(step, 50, recipe) == pytest.approx(float(schedule(step)), rel=1e-5, abs=1e-8)
  torch.manual_seed(0)
  for kernel in (p for p in pytorch.make_model('mlp').parameters() if p.ndim > 1):
    assert float(kernel.detach().std()) == pytest.approx(kernel.shape[1] ** -0.5, rel=0.1)


@pytest.mark.peers
def test_pytorch_loader_gives_every_example_once_in_both_modes(torch):
  from benchmarks import pytorch

  image = torch.arange(40, dtype=torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 28, 28)
  for mode in ('eager', 'loader'):
    trainer = pytorch.Trainer(
      'softmax', _recipe('softmax'), image, torch.arange(40), batch_size=16, epochs=1, mode=mode
    )
    batches = list(trainer._batches())
    assert [len(label) for _, label in batches] == [16, 16, 8]
    assert sorted(torch.cat([label for _, label in batches]).tolist()) == list(range(40))
    for rows, label in batches:
      torch.testing.assert_close(pytorch.normalize(rows)[:, 0, 0, 0] * 255, label.float())


def test_the_committed_tables_are_those_of_the_committed_measurements():
  directory = conftest.ROOT / 'benchmarks'
  results = json.loads((directory / 'results.json').read_text())
  readme = (directory / 'README.md').read_text()
  measured = [
    {name: value for name, value in row.items() if name not in ('medians', 'ratios')} for row in results['rows']
  ]
  assert summary.summarise(measured) == results['rows']
  assert summary.format_tables(results['rows']) in readme
  assert summary.format_distances(results['rows']) in readme
  (mlp,) = [row for row in results['rows'] if (row['section'], row['what']) == ('Training', 'mlp, batch 128')]
  milliseconds = {
    peer: sorted(round(1000 * value) for value in mlp['values'][peer]) for peer in list(mlp['values'])[:2]
  }
  (*ours, our_slowest), (*theirs, their_slowest) = milliseconds.values()
  assert (
    f"an epoch took {our_slowest} ms, PyTorch's {their_slowest}; in the eight others {ours[0]} to {ours[-1]} ms and "
    f'{theirs[0]} to {theirs[-1]}.'
  ) in ' '.join(readme.split())
  slowest_round = int(np.argmax(mlp['values']['digits']))
  assert [i for i, ns in enumerate(mlp['message_ns']) if ns > 130] == [slowest_round]
  shares = {peer: round(100 * share) for peer, share in results['cnn_share_of_peak'].items()}
  assert f"reaches {shares['digits']} % of the rate of the fastest matrix product, PyTorch's " in ' '.join(
    readme.split()
  )
  assert f"PyTorch's {shares['PyTorch eager']} %." in readme
  assert not results['quick']


@pytest.mark.peers
@pytest.mark.skipif(importlib.util.find_spec('keras') is None, reason='the extra bench is not installed')
@pytest.mark.parametrize('name', models.MODELS)
def test_keras_does_the_same_step(name, tmp_path):
  # In a process of its own, because Keras chooses its backend when it is imported.
  recipe = _recipe(name)
  params, logits, after = _step_of_ours(name, recipe)
  image, label = _batch()
  flat = _to_keras(params)
  np.savez(tmp_path / 'in.npz', *flat, image=image, label=label)
  (tmp_path / 'recipe.json').write_text(json.dumps(recipe | {'warmup_fraction': 0.0}))
  code = f"""
import json
import numpy as np
from benchmarks import keras_jax
arrays, recipe = np.load('in.npz'), json.load(open('recipe.json'))
model = keras_jax.compile_model(keras_jax.make_model({name!r}, recipe['weight_decay']), recipe, 1)
model.set_weights([arrays[f'arr_{{i}}'] for i in range({len(flat)})])
logits = np.asarray(model(arrays['image']))
schedule = keras_jax.OneCycle(50, recipe | {{'warmup_fraction': 0.2}})
rates = np.asarray([schedule(step) for step in (0, 3, 10, 30, 49)])
model.fit(arrays['image'], arrays['label'], 32, verbose=0)
np.savez('out.npz', *model.get_weights(), logits=logits, rates=rates)
"""
  subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=_ENV, check=True, capture_output=True)
  out = np.load(tmp_path / 'out.npz')
  np.testing.assert_allclose(out['logits'], logits, atol=2e-5)
  schedule = optim.make_schedule(config_lib.from_dict(recipe | {'epochs': 1, 'warmup_fraction': 0.2}), 50)
  np.testing.assert_allclose(out['rates'], [schedule(step) for step in (0, 3, 10, 30, 49)], rtol=1e-5, atol=1e-7)
  for i, array in enumerate(_to_keras(after)):
    np.testing.assert_allclose(out[f'arr_{i}'], array, atol=3e-5)
