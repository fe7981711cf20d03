import functools
import json
import logging
import pickle
import signal
import threading

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import digits
from digits import config as config_lib
from digits import data, errors, experiments
from digits.runtime import signals
from digits.store import checkpoint
from digits.store import workdir as workdir_lib
from digits.train import loop, population, runs
from digits.train import step as step_lib


def _records(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def _without_seconds(records):
  return [{key: value for key, value in record.items() if key != 'seconds'} for record in records]


def _assert_same_end(workdir, other, config):
  template = loop.carry_template(config)
  ends = [checkpoint.load_newest(path / 'checkpoints', template) for path in (workdir, other)]
  assert ends[0].step == ends[1].step
  jax.tree.map(np.testing.assert_array_equal, ends[0].tree, ends[1].tree)
  assert _without_seconds(_records(workdir)) == _without_seconds(_records(other))
  results = [json.loads((path / 'results.json').read_text()) for path in (workdir, other)]
  assert [result.pop('seconds').keys() for result in results] == [{'data', 'compile', 'train', 'total'}] * 2
  for result in results:  # The sums are of times too.
    del result['sha256'], result['metrics_sha256']
  assert results[0] == results[1]


@pytest.mark.parametrize('name', ['softmax', 'mlp', 'cnn'])
def test_shipped_configs_end_to_end(tiny_config, tmp_path, name, capsys):
  config = tiny_config(name, learning_rate=0.1)
  results = digits.run(config, tmp_path / 'run')

  assert results == json.loads((tmp_path / 'run' / 'results.json').read_text())
  assert (results['experiment'], results['model'], results['seed'], results['epochs']) == ('train', name, 0, 3)
  assert results['valid']['examples'] == 60
  assert results['test']['examples'] == conftest.NUM_TEST
  assert results['test']['accuracy'] > (0.2 if name == 'cnn' else 0.9)
  assert results['device'] == 'cpu'
  assert config_lib.from_dict(workdir_lib.read_config(tmp_path / 'run')) == config

  records = _records(tmp_path / 'run')
  train = [record for record in records if record['split'] == 'train']
  assert [record['step'] for record in train] == [3, 6, 8, 11, 14, 16, 19, 22, 24]
  assert [record['epoch'] for record in train] == [0] * 3 + [1] * 3 + [2] * 3
  assert sum(record['examples'] for record in train) == 3 * 240
  assert [record['step'] for record in records if record['split'] == 'valid'] == [8, 16, 24]

  output = capsys.readouterr()
  assert output.out == ''
  table = experiments.format_results(results, tmp_path)
  assert f'{results["test"]["accuracy"]:.2%}' in table
  assert 'published' in table
  assert 'epoch 3/3' in output.err


@pytest.mark.parametrize('together', [False, True])
@pytest.mark.parametrize('select', ['best', 'last'])
def test_results_are_those_of_the_weights_that_the_config_selects(tiny_config, tmp_path, select, together):
  options = {'schedule': 'constant', 'learning_rate': 8.0, 'warmup_fraction': 0.0, 'epochs': 4, 'seed': 1}
  config = tiny_config('mlp', select=select, **options)
  dataset = data.load_dataset('mnist', config.data_dir, config.num_validation)
  if together:
    (member,) = population.train_population([config], dataset)
    results = population.write_member(member, tmp_path, dataset)
  else:
    results = digits.run(config, tmp_path)
  valid = [record for record in _records(tmp_path) if record['split'] == 'valid']
  best, last = min(valid, key=lambda record: record['loss']), valid[-1]
  assert best['step'] != last['step']
  selected = {'best': best, 'last': last}[select]
  assert results['step'] == selected['step']
  assert results['valid']['loss'] == selected['loss']
  run = runs.load_run(tmp_path)
  assert run.step == selected['step']
  # The losses are so small that float32 leaves them three digits, by the size of the batches.
  for split, scores in ((dataset.valid, selected), (dataset.test, results['test'])):
    found = digits.evaluate_split(run.variables, split, model=run.model)
    assert found == pytest.approx({name: scores[name] for name in found}, abs=1e-6)


def test_tensorboard_events_can_be_read_back(tiny_config, tmp_path):
  from tensorboardX.proto import event_pb2

  digits.run(tiny_config('softmax'), tmp_path)
  (path,) = tmp_path.glob('events.out.tfevents.*')
  content, values = path.read_bytes(), []
  while content:  # TFRecord: length, checksum of it, data, checksum of that.
    length = int.from_bytes(content[:8], 'little')
    event = event_pb2.Event.FromString(content[12 : 12 + length])
    values += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    content = content[16 + length :]
  expected = [(f'{record["split"]}/loss', record['step'], np.float32(record['loss'])) for record in _records(tmp_path)]
  assert [value for value in values if value[0].endswith('/loss')] == expected


def test_without_validation_the_last_step_counts(tiny_config, tmp_path):
  results = digits.run(tiny_config('softmax', num_validation=0), tmp_path)
  assert results['valid'] is None
  assert results['step'] == 3 * -(-conftest.NUM_TRAIN // 32)


def test_finished_run_is_not_run_again(tiny_config, tmp_path, monkeypatch, capsys):
  config = tiny_config('softmax')
  results = digits.run(config, tmp_path)
  first = capsys.readouterr().out
  monkeypatch.setattr(data, 'load_dataset', None)
  assert digits.run(config, tmp_path) == results
  assert capsys.readouterr().out == first


@pytest.mark.parametrize(
  ('name', 'num_devices', 'steps'),
  [('mlp', 1, (1,)), ('mlp', 1, (8, 16, 20)), ('cnn', 1, (5, 13)), ('cnn', 4, (5, 13))],
)
def test_interrupted_run_ends_bit_identical(tiny_config, tmp_path, interrupt_at, name, num_devices, steps):
  config = tiny_config(name, mesh={'data': num_devices})
  digits.run(config, tmp_path / 'straight')
  for step in steps:
    interrupt_at(step)
    with pytest.raises(errors.DigitsError, match=r'Stopped and saved at step \d+ in .*: run the same command'):
      digits.run(config, tmp_path / 'interrupted')
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  digits.run(config, tmp_path / 'interrupted')
  _assert_same_end(tmp_path / 'interrupted', tmp_path / 'straight', config)


def test_what_an_interruption_saves_gives_way_to_the_next_epoch(tiny_config, tmp_path, interrupt_at):
  config = tiny_config('mlp', learning_rate=0.3)
  for step in (10, 18, 20):
    interrupt_at(step)
    with pytest.raises(errors.DigitsError, match='Stopped and saved at step'):
      digits.run(config, tmp_path)
    kept = checkpoint.list_steps(tmp_path / 'checkpoints')
    assert kept[-1] >= step
    assert kept[-2] == 8 * (step // 8)
  digits.run(config, tmp_path)
  assert checkpoint.list_steps(tmp_path / 'checkpoints') == [16, 24]


def test_damaged_newest_checkpoint_ends_bit_identical(tiny_config, tmp_path, caplog):
  config = tiny_config('mlp')
  for name in ('straight', 'damaged'):
    digits.run(config, tmp_path / name)
  workdir = tmp_path / 'damaged'
  (workdir / 'results.json').unlink()
  (workdir / 'metrics.jsonl').write_text('{"step": 8, "ep')
  newest = checkpoint.list_steps(workdir / 'checkpoints')[-1]
  path = max((workdir / 'checkpoints' / str(newest)).rglob('*'), key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with caplog.at_level(logging.WARNING):
    digits.run(config, workdir)
  assert f'checkpoints/{newest} is damaged' in caplog.text
  _assert_same_end(workdir, tmp_path / 'straight', config)


def test_two_runs_of_one_seed_are_bit_identical_and_of_two_seeds_are_not(tiny_config, tmp_path):
  for name, seed in (('a', 0), ('b', 0), ('c', 1)):
    digits.run(tiny_config('mlp', seed=seed), tmp_path / name)
  config = tiny_config('mlp')
  _assert_same_end(tmp_path / 'a', tmp_path / 'b', config)
  assert _without_seconds(_records(tmp_path / 'a')) != _without_seconds(_records(tmp_path / 'c'))


def test_host_and_device_loops_agree(tiny_config, tmp_path):
  losses = []
  for step_loop in ('host', 'device'):
    digits.run(tiny_config('cnn', step_loop=step_loop, epochs=1), tmp_path / step_loop)
    losses.append([record['loss'] for record in _records(tmp_path / step_loop)])
  np.testing.assert_allclose(*losses, rtol=1e-4)


def test_loop_is_the_train_step_repeated(tiny_config, tmp_path):
  """An oracle in a few lines: what a reader of the README would write."""
  config = tiny_config('mlp', epochs=2)
  digits.run(config, tmp_path)
  dataset = data.load_dataset('mnist', config.data_dir, config.num_validation)
  optimizer = digits.make_optimizer(config, num_steps=16)
  kwargs = {'model': config.make_model(), 'optimizer': optimizer}
  state = step_lib.init_state(jax.random.key(config.seed), **kwargs)
  train_step = jax.jit(functools.partial(step_lib.train_step, **kwargs))
  for epoch in range(2):
    order = np.random.default_rng((config.seed, epoch)).permutation(240)
    for start in range(0, 240, 32):
      rows = order[start : start + 32]
      batch = {'image': dataset.train.image[rows], 'label': dataset.train.label[rows], 'mask': np.ones(len(rows))}
      state, _ = train_step(state, batch)
  end = checkpoint.load_newest(tmp_path / 'checkpoints', loop.carry_template(config))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), end.tree.state.params, state.params)


def test_bfloat16_trains(tiny_config, tmp_path):
  assert digits.run(tiny_config('mlp', dtype='bfloat16'), tmp_path)['test']['accuracy'] > 0.9


def test_another_config_is_refused_and_nothing_is_lost(tiny_config, tmp_path):
  digits.run(tiny_config('softmax'), tmp_path)
  before = (tmp_path / 'results.json').read_bytes()
  with pytest.raises(errors.UsageError, match='seed was 0 and is now 1'):
    digits.run(tiny_config('softmax', seed=1), tmp_path)
  assert (tmp_path / 'results.json').read_bytes() == before


def test_non_finite_loss_stops_at_its_step_and_keeps_the_checkpoint(tiny_config, tmp_path, monkeypatch):
  train_step = step_lib.train_step

  def failing(state, batch, **kwargs):
    state, metrics = train_step(state, batch, **kwargs)
    return state, metrics.replace(loss=jnp.where(state.step == 14, jnp.nan, metrics.loss))

  monkeypatch.setattr(step_lib, 'train_step', failing)
  with pytest.raises(errors.DigitsError, match=r'not finite at step 13, .*learning rate.*the checkpoint of step 8'):
    digits.run(tiny_config('mlp'), tmp_path)
  assert checkpoint.load_newest(tmp_path / 'checkpoints', loop.carry_template(tiny_config('mlp'))).step == 8
  assert not (tmp_path / 'results.json').exists()


def test_diverging_run_says_so(tiny_config, tmp_path):
  config = tiny_config('mlp', learning_rate=1e6, weight_decay=1e6, schedule='constant', warmup_fraction=0.0)
  with pytest.raises(errors.DigitsError, match='lower config.learning_rate'):
    digits.run(config, tmp_path)


@pytest.mark.parametrize('field', ['batch_size', 'eval_batch_size'])
def test_batches_larger_than_the_data(tiny_config, tmp_path, field):
  with pytest.raises(errors.UsageError, match=f'config.{field}=500 is more than'):
    digits.run(tiny_config('softmax', **{field: 500}), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_workdir_in_use_is_refused(tiny_config, tmp_path):
  from digits.runtime import files

  with files.lock(tmp_path / '.lock'), pytest.raises(errors.DigitsError, match='is in use by another run'):
    digits.run(tiny_config('softmax'), tmp_path)


def test_workdir_that_is_a_file(tiny_config, tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(errors.DigitsError, match='file'):
    digits.run(tiny_config('softmax'), tmp_path / 'file' / 'run')


@pytest.mark.parametrize('content', [b'', b'{"experiment": "tra', b'\xff\xfe'])
def test_damaged_config_and_results_are_named_and_made_again(tiny_config, tmp_path, content, caplog):
  results = digits.run(tiny_config('softmax'), tmp_path)
  for name in ('results.json', 'config.json'):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
      errors.DigitsError, match=f'{name} is damaged .* delete .*results.json and run the training command again'
    ):
      runs.load_run(tmp_path)
    with caplog.at_level(logging.WARNING):
      assert digits.run(tiny_config('softmax'), tmp_path)['test'] == results['test']
    assert f'{name} is damaged' in caplog.text
    assert runs.load_run(tmp_path).finished


def test_a_workdir_without_its_config_is_not_taken_for_anothers(tiny_config, tmp_path):
  digits.run(tiny_config('softmax'), tmp_path)
  (tmp_path / 'config.json').unlink()
  with pytest.raises(errors.UsageError, match='checkpoints holds the run of another config .seed was 0 and is now 1'):
    digits.run(tiny_config('softmax', seed=1), tmp_path)


@pytest.mark.parametrize('name', ['results.json', 'config.json', 'metrics.jsonl'])
def test_every_changed_digit_of_a_finished_run_is_noticed(tiny_config, tmp_path, name, caplog):
  config = tiny_config('softmax', epochs=1)
  digits.run(config, tmp_path)
  good = (tmp_path / name).read_bytes()
  position = max(i for i, byte in enumerate(good) if chr(byte).isdigit())
  (tmp_path / name).write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
  with caplog.at_level(logging.WARNING):
    digits.run(config, tmp_path)
  assert f'{name} is damaged' in caplog.text
  if name == 'metrics.jsonl':
    assert (tmp_path / name).read_bytes() == good


def test_nothing_is_unpickled(tiny_config, tmp_path, monkeypatch):
  digits.run(tiny_config('softmax', epochs=1), tmp_path)
  for name in ('load', 'loads', 'Unpickler'):
    monkeypatch.setattr(pickle, name, None)
  assert runs.load_run(tmp_path).finished


def test_links_out_of_the_workdir_are_not_followed(tiny_config, tmp_path):
  config = tiny_config('softmax', epochs=1)
  digits.run(config, tmp_path / 'run')
  (tmp_path / 'run' / 'results.json').rename(tmp_path / 'elsewhere.json')
  (tmp_path / 'run' / 'results.json').symlink_to('../elsewhere.json')
  for function in (lambda: digits.run(config, tmp_path / 'run'), lambda: runs.load_run(tmp_path / 'run')):
    with pytest.raises(errors.DigitsError, match='results.json is a link that leads out of'):
      function()


def test_signals_are_left_alone_outside_the_main_thread():
  caught = []

  def target():
    with signals.catch_signals() as event:
      caught.append(event.is_set())

  thread = threading.Thread(target=target)
  thread.start()
  thread.join()
  assert caught == [False]


@pytest.mark.parametrize('batch_size', [1, 7, 100])
def test_evaluation_does_not_depend_on_the_batch_size(prepared_data_dir, tiny_config, batch_size):
  config = tiny_config('cnn')
  dataset = data.load_dataset('mnist', prepared_data_dir, num_validation=60)
  variables = config.make_model().init(jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
  scores = digits.evaluate_split(variables, dataset.test, model=config.make_model(), batch_size=batch_size)
  whole = digits.evaluate_split(variables, dataset.test, model=config.make_model(), batch_size=50)
  assert scores['examples'] == conftest.NUM_TEST
  assert scores == pytest.approx(whole, rel=1e-5)
