"""The explanation: claims and their tests, and the experiment from one end to the other on tiny data."""

import json

import conftest
import ml_collections
import numpy as np
import pytest

import digits
from digits import config as config_lib
from digits import errors
from digits.data import corruptions
from digits.experiments import explain, runner
from digits.explain import attacks, claims, transforms
from digits.report import explain_study
from digits.runtime import sealed_json

MEASURED = {
  'a': {'accuracy': [0.9, 0.92], 'loss': [0.3, 0.2]},
  'b': {'accuracy': [0.8, 0.85], 'loss': [0.25, 0.21]},
}


@pytest.mark.parametrize(
  ('test', 'verdict'),
  [
    ('a.accuracy > b.accuracy', 'supported'),
    ('b.accuracy > a.accuracy', 'contradicted'),
    ('a.loss > b.loss', 'undecided'),
    ('0.95 > a.accuracy', 'supported'),
    ('a.accuracy > 0.91', 'undecided'),
    ('a.accuracy ~ b.accuracy within 0.13', 'supported'),
    ('a.accuracy ~ b.accuracy within 0.04', 'contradicted'),
    ('a.accuracy ~ b.accuracy within 0.1', 'undecided'),
    ('a.accuracy - b.accuracy > 0.06', 'supported'),
    ('a.accuracy - b.accuracy > a.loss', 'contradicted'),
  ],
)
def test_verdicts_by_hand(test, verdict):
  assert claims.decide(claims.parse(test), MEASURED) == verdict


def test_a_difference_is_taken_seed_by_seed():
  np.testing.assert_allclose(claims.evaluate('a.accuracy - b.accuracy', MEASURED), [0.1, 0.07])


@pytest.mark.parametrize('text', ['a.accuracy', 'a.accuracy < b.accuracy', 'a.accuracy ~ b.accuracy', 'a ~ b within x'])
def test_what_is_no_test(text):
  with pytest.raises(errors.UsageError, match='is not a test: write'):
    claims.parse(text)


@pytest.mark.parametrize('text', ['accuracy', 'a.', '.accuracy', 'a.accuracy - b', 'nan'])
def test_what_is_no_value(text):
  with pytest.raises(errors.UsageError, match='is no value: write a number'):
    claims.measures_in(text)


@pytest.mark.parametrize(
  ('verdicts', 'verdict'),
  [
    (['supported', 'supported'], 'supported'),
    (['supported', 'undecided'], 'undecided'),
    (['undecided', 'contradicted'], 'contradicted'),
  ],
)
def test_a_claim_holds_if_all_of_its_tests_do(verdicts, verdict):
  assert claims.combine(verdicts) == verdict


def test_a_finding_has_its_numbers():
  (finding,) = claims.find({'one': {'claims': (('A is more.', 'a.accuracy > b.accuracy', 'a.loss > 0.1'),)}}, MEASURED)
  assert finding['claim'] == 'A is more.'
  assert finding['experiment'] == 'one'
  assert finding['verdict'] == 'supported'
  assert list(finding['numbers']) == ['a.accuracy', 'b.accuracy', 'a.loss']
  assert finding['numbers']['a.accuracy']['mean'] == pytest.approx(0.91)
  # Student's t with one degree of freedom: 12.706 standard errors of 0.01.
  assert finding['numbers']['a.accuracy']['interval_95'] == pytest.approx([0.91 - 0.12706, 0.91 + 0.12706], abs=1e-4)


@pytest.mark.parametrize(
  ('test', 'sentence'),
  [
    ('a.accuracy > b.accuracy', 'Test accuracy: a 91.00\u00a0%, b 82.50\u00a0%'),
    ('a.accuracy > 0.5', 'Test accuracy: a 91.00\u00a0%'),
    ('a.accuracy - b.accuracy > 0.1', 'Test accuracy: a less b 8.50\u00a0%'),
    ('a.accuracy > a.gap', 'A: test accuracy 91.00\u00a0%, training less test accuracy 1.00\u00a0%'),
    ('a.loss > b.loss', 'Test loss in nats: a 0.2500, b 0.2300'),
  ],
)
def test_a_test_is_told_with_its_numbers(test, sentence):
  measured = {'a': MEASURED['a'] | {'gap': [0.01, 0.01]}, 'b': MEASURED['b']}
  parsed = claims.parse(test)
  numbers = {
    value: {'mean': float(claims.evaluate(value, measured).mean()), 'interval_95': None}
    for value in (parsed.left, parsed.right)
  }
  assert explain_study._say_test(parsed, numbers) == sentence


@pytest.fixture
def tiny(prepared_data_dir, monkeypatch):
  """The shipped config with three recipes, tiny networks, few seeds and sizes."""
  monkeypatch.setattr(explain, '_NUM_UNKNOWN', 20)
  config = digits.get_config(conftest.ROOT / 'configs' / 'explain.py')
  recipes = {name: config.recipes[name] for name in ('softmax', 'mlp', 'cnn')}
  for recipe in recipes.values():
    recipe.update({'epochs': 2, 'batch_size': 32, 'eval_batch_size': 32, 'log_every_steps': 3})
  recipes['mlp'].architecture.hidden_units = 16
  recipes['cnn'].architecture.update({'features': (2,), 'hidden_units': 8})
  config.recipes = ml_collections.ConfigDict(recipes, sort_keys=False)
  config.update({'num_seeds': 2, 'data_dir': str(prepared_data_dir), 'num_validation': 60})
  config.update({'permuted': ('mlp',), 'sized': ('softmax',), 'sizes': (40,), 'least_updates': 3})
  monkeypatch.setattr(config_lib, '_LEAST_EPOCH', 40)
  config.update({'measured': ('softmax', 'cnn'), 'num_attacked': 20, 'probed': ('cnn',), 'num_probed': 100})
  claim = lambda *tests: ((f'It is so in {len(tests)}.', *tests),)
  sections = {
    'order': (('recipes', 'accuracy', ('mlp', 'mlp_permuted')), claim('mlp.accuracy ~ mlp_permuted.accuracy within 1')),
    'width': (('parameters', ('softmax', 'mlp')), claim('mlp.gap > -1.5')),
    'data': (('sizes',), claim('2 > softmax_of_40.accuracy')),
    'moved': (('moved',), claim('cnn.shift_6 > 1.5')),
    'paper': (('corruptions',), claim(*(f'2 > cnn.corrupted_{name}' for name in corruptions.CORRUPTIONS))),
    'unknown': (('unknown',), claim('cnn.energy - cnn.probability > -2', 'softmax.unsure_noise > -1')),
    'fooled': (('attacks',), claim('2 > cnn.pgd_0.1')),
    'layers': (('probes',), claim('cnn.probe_conv1 > cnn.probe_pixels')),
  }
  config.sections = ml_collections.ConfigDict(
    {
      name: {'heading': name.title(), 'text': f'About {name}.', 'figures': (figure,), 'claims': some}
      for name, (figure, some) in sections.items()
    },
    sort_keys=False,
  )
  return config


def test_the_experiment_from_one_end_to_the_other(tiny, tmp_path, monkeypatch):
  beside = tmp_path / 'a comparison'
  beside.mkdir()
  (beside / 'report.html').touch()
  sealed_json.write(beside / 'config.json', {'experiment': 'compare'})
  tmp_path = tmp_path / 'explain'
  results = digits.run(tiny, tmp_path)
  assert results['num_seeds'] == 2
  assert set(results['recipes']) == {
    *('softmax', 'mlp', 'cnn', 'mlp_permuted', 'softmax_of_40'),
  }
  verdicts = {finding['experiment']: finding['verdict'] for finding in results['findings']}
  assert [name for name, verdict in verdicts.items() if verdict != 'supported'][:1] == ['moved']
  assert verdicts['moved'] == 'contradicted'
  config = config_lib.from_dict(tiny)
  for name, recipe in results['recipes'].items():
    assert set(recipe['measures']) == set(explain.measures_of(config, name))
    assert all(len(values) == 2 for values in recipe['measures'].values())
  cnn = results['recipes']['cnn']['measures']
  # Images that are not moved are the test images.
  assert cnn['shift_0'] == cnn['rotate_0'] == cnn['rescale_1'] == pytest.approx(cnn['accuracy'])
  assert cnn['corrupted'] == pytest.approx(
    np.mean([cnn[f'corrupted_{name}'] for name in corruptions.CORRUPTIONS], axis=0)
  )
  assert json.loads((tmp_path / 'results.json').read_text())['findings'] == results['findings']
  page = (tmp_path / 'report.html').read_text()
  for section in config.sections.values():
    assert section['heading'] in page
    for claim, *_ in section['claims']:
      assert claim in page
  assert 'href="../a%20comparison/report.html"' in page
  assert (tmp_path / 'figures' / 'fooled-1-pgd.png').exists()
  assert 'It is so' in runner.format_results(results, tmp_path)

  # What is trained and measured is neither trained nor measured again; what was damaged is measured.
  (tmp_path / 'results.json').unlink()
  path = tmp_path / 'measured' / 'cnn-1.json'
  path.write_text(path.read_text().replace('0', '1', 1))
  measured = []
  measure = explain.measure
  monkeypatch.setattr(explain, 'measure', lambda run, name, *rest: measured.append(name) or measure(run, name, *rest))
  again = digits.run(tiny, tmp_path)
  assert measured == ['cnn']
  assert again['findings'] == results['findings']


def test_the_names_of_the_measures_are_those_of_the_shipped_grids(tiny):
  known = explain.measures_of(config_lib.from_dict(tiny), 'cnn')
  assert len(known) == len(set(known))
  assert known.count('rescale_0.7') == known.count('rotate_30') == known.count('pgd_0.05') == 1
  moved = len(transforms.SHIFTS) + len(transforms.ROTATIONS) + len(transforms.SCALES)
  assert sum(name.split('_')[0] in ('shift', 'rotate', 'rescale') for name in known) == moved
  assert sum(name.startswith(('fgsm', 'pgd')) for name in known) == 2 * len(attacks.EPSILONS)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'measured': ('resnet',)}, "config.measured names 'resnet', which is no recipe"),
    ({'sizes': (40, 20)}, 'the numbers must ascend'),
    ({'sizes': (20, 1000)}, 'asks for 1,000 training images, and there are 240'),
    ({'probed': ()}, 'cnn.probe_conv1, which is not measured: cnn has accuracy'),
    ({'permuted': ()}, "names 'mlp_permuted', which is no recipe"),
  ],
)
def test_a_wrong_field_is_refused_before_anything_is_written(tiny, tmp_path, change, message):
  tiny.update(change)
  with pytest.raises(errors.UsageError, match=message):
    digits.run(tiny, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'claims': (('Alone.',),)}, 'write a sentence and at least one test'),
    ({'claims': (('Wrong.', 'a b c'),)}, "'a b c' is not a test"),
    ({'figures': (('pie',),)}, 'begin with one of recipes, parameters'),
    ({'heading': 3}, 'config.sections.width.heading=3 is not allowed'),
  ],
)
def test_a_wrong_section_is_refused(tiny, tmp_path, change, message):
  tiny.sections.width = ml_collections.ConfigDict(tiny.sections.width.to_dict() | change)
  with pytest.raises(errors.UsageError, match=message):
    digits.run(tiny, tmp_path / 'run')


def test_a_name_that_the_experiment_adds_is_taken(tiny):
  tiny.recipes['mlp_of_20'] = tiny.recipes['mlp']
  with pytest.raises(errors.UsageError, match='config.recipes.mlp_of_20 is not allowed'):
    config_lib.from_dict(tiny)


def test_runs_on_fewer_images_have_updates_enough_and_no_choice_by_validation(tiny, monkeypatch):
  monkeypatch.setattr(config_lib, '_LEAST_EPOCH', 5000)
  tiny.least_updates = 500
  for one in config_lib.from_dict(tiny).train_configs()['softmax_of_40']:
    assert one.dataset == f'repeated/125:subset/40/{one.seed}:mnist'
    # 125 times 40 images are 157 batches of 32.
    assert (one.batch_size, one.epochs, one.select) == (32, 4, 'last')
