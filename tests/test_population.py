import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

import digits
from digits import data, errors
from digits.runtime import progress
from digits.train import loop, population, runs


@pytest.fixture
def dataset(prepared_data_dir):
  return data.load_dataset('mnist', prepared_data_dir, num_validation=60)


@pytest.mark.parametrize(('name', 'method'), [('softmax', 'map'), ('mlp', 'vmap'), ('cnn', 'map')])
def test_members_equal_their_single_runs(tiny_config, dataset, tmp_path, name, method):
  first = tiny_config(name, learning_rate=0.1, epochs=2)
  configs = [first, dataclasses.replace(first, seed=5, learning_rate=0.05, weight_decay=1e-3, momentum=0.5)]
  members = population.train_population(configs, dataset, method=method)
  for i, (config, member) in enumerate(zip(configs, members, strict=True)):
    single, together = tmp_path / f'single{i}', tmp_path / f'together{i}'
    results = population.write_member(member, together, dataset)
    expected = digits.run(config, single)
    for split in ('valid', 'test'):
      assert results[split] == pytest.approx(expected[split], rel=1e-3)
    assert results['step'] == expected['step']
    ours, theirs = (
      [json.loads(line) for line in (path / 'metrics.jsonl').read_text().splitlines()] for path in (together, single)
    )
    assert [record['step'] for record in ours] == [record['step'] for record in theirs]
    for key in ('loss', 'learning_rate', 'grad_norm'):
      np.testing.assert_allclose(
        [record[key] for record in ours if key in record],
        [record[key] for record in theirs if key in record],
        rtol=2e-3,
        atol=1e-7,
      )
    params, expected_params = runs.load_run(together).params, runs.load_run(single).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), params, expected_params)


def test_a_written_member_is_a_finished_run(tiny_config, dataset, tmp_path):
  config = tiny_config('softmax')
  (member,) = population.train_population([config], dataset)
  results = population.write_member(member, tmp_path, dataset)
  assert digits.run(config, tmp_path) == results


def test_half_a_checkpoint_of_a_killed_process_is_written_again(tiny_config, dataset, tmp_path):
  (member,) = population.train_population([tiny_config('softmax')], dataset)
  half = tmp_path / 'checkpoints' / str(int(member.carry.state.step))
  half.mkdir(parents=True)
  (half / 'commit_success.txt').touch()
  results = population.write_member(member, tmp_path, dataset)
  assert runs.load_run(tmp_path).step == results['step']


def test_only_some_fields_may_differ(tiny_config, dataset):
  with pytest.raises(errors.UsageError, match='config.batch_size differs between members'):
    population.train_population([tiny_config('softmax'), tiny_config('softmax', batch_size=16)], dataset)


def test_a_diverging_member_leaves_the_others_alone(tiny_config, dataset, tmp_path):
  good = tiny_config('softmax')
  bad = dataclasses.replace(good, learning_rate=1e6, weight_decay=1e6)
  members = population.train_population([good, bad], dataset)
  assert members[0].failed_step == -1
  assert members[1].failed_step >= 0
  population.write_member(members[0], tmp_path / 'good', dataset)
  with pytest.raises(errors.DigitsError, match='not finite at step .* learning rate was .* and the gradient norm'):
    population.write_member(members[1], tmp_path / 'bad', dataset)
  assert not (tmp_path / 'bad').exists()


def test_ctrl_c_ends_in_a_sentence(tiny_config, dataset, monkeypatch):
  monkeypatch.setattr(progress.Progress, 'update', lambda *args: os.kill(os.getpid(), signal.SIGINT))
  with pytest.raises(errors.DigitsError, match='run the same command again to continue'):
    population.train_population([tiny_config('softmax')], dataset)


def test_more_devices_than_there_are(tiny_config, dataset):
  with pytest.raises(errors.UsageError, match='config.mesh.seeds=100 is more than the'):
    population.train_population([tiny_config('softmax')], dataset, num_devices=100)


def test_a_member_whose_validation_diverges_is_named(tiny_config, dataset, tmp_path, monkeypatch):
  step = loop.drive

  def poison(training, *args):
    for look in step(training, *args):
      if look.ends_epoch:
        state = training.carry.state
        training.carry = training.carry.replace(
          state=state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
        )
      yield look

  monkeypatch.setattr(loop, 'drive', poison)
  (member,) = population.train_population([tiny_config('softmax', epochs=1)], dataset)
  with pytest.raises(errors.DigitsError, match='validation loss was not finite after step 8: .* The seed was 0'):
    population.write_member(member, tmp_path / 'run', dataset)
  assert not (tmp_path / 'run').exists()
