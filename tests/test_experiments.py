"""The experiments of many runs, end to end on tiny data: the comparison, the activation study, the sweep."""

import json

import conftest
import ml_collections
import numpy as np
import pytest

import digits
from digits import config as config_lib
from digits import errors, experiments
from digits.experiments import runner, sweep
from digits.export import formats
from digits.handwriting import predict
from digits.report import activation_claims, page
from digits.train import population, runs
from measurements import record


@pytest.fixture
def tiny_experiment(tiny_config, prepared_data_dir):
  """Makes a shipped experiment of many runs small."""

  def make(name, **overrides):
    values = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / f'{name}.py'))
    values |= {'data_dir': str(prepared_data_dir), 'num_validation': 60, 'num_seeds': 2}

    def shrink(recipe):
      small = config_lib.to_dict(tiny_config(recipe['model'], epochs=1))
      return small | {'architecture': small['architecture'] | _activations_of(recipe), 'learning_rate': 0.1}

    if 'recipes' in values:
      values['recipes'] = {key: shrink(recipe) for key, recipe in values['recipes'].items()}
    else:
      values['recipe'] = shrink(values['recipe'])
    return config_lib.from_dict(values | overrides)

  return make


def _activations_of(recipe):
  return {name: value for name, value in recipe['architecture'].items() if name.endswith('activation')}


def test_ablation(tiny_experiment, tmp_path):
  softmax = tiny_experiment('compare').recipes['softmax']
  recipes = {f'rate_{i}': softmax | {'learning_rate': 0.1 * i} for i in range(1, 8)}
  effects = (('rate_1', 'rate_2'), ('rate_7', 'rate_1'))
  config = tiny_experiment('ablation', recipes=recipes, effects=effects, num_seeds=1)
  results = digits.run(config, tmp_path)
  assert results['experiment'] == 'ablation'
  assert [(pair['a'], pair['b']) for pair in results['pairs']] == list(effects)
  accuracy = {name: model['test']['accuracy']['mean'] for name, model in results['models'].items()}
  assert list(accuracy) == list(recipes)
  assert results['pairs'][1]['difference'] == pytest.approx(accuracy['rate_1'] - accuracy['rate_7'])
  assert all(model['devices'] == ['cpu'] for model in results['models'].values())
  text = (tmp_path / 'report.html').read_text()
  assert 'With 7 models this page does without the curves' in text
  assert [path.name for path in sorted((tmp_path / 'figures').iterdir())] == [
    'pair-differences.png',
    'pair-differences.svg',
  ]
  lines = digits.experiments.runner.format_results(results, tmp_path).splitlines()
  assert len(lines) == 1 + 7 + 1 + 2
  assert 'rate_1' in lines[-1]
  assert 'rate_7' in lines[-1]


@pytest.mark.parametrize(
  ('effects', 'message'),
  [
    ((('cnn', 'mlp2'),), "names 'mlp2', which is no recipe: the recipes are softmax, mlp, cnn"),
    ((('cnn', 'cnn'),), "compares 'cnn' with itself"),
    ((), 'must be a tuple of 1 to 1000 items'),
    ((('cnn',),), 'must be a tuple'),
  ],
)
def test_effects_name_two_recipes(tiny_experiment, effects, message):
  recipes = tiny_experiment('compare').recipes
  with pytest.raises(errors.UsageError, match=f'config.effects.*{message}'):
    tiny_experiment('ablation', recipes=recipes, effects=effects)


def test_an_ingredient_of_the_shipped_ablation_is_left_out_alone():
  recipes = {name: runs[0] for name, runs in config_lib.load_config('ablation').train_configs().items()}

  def changed(a, b):
    flat = [config_lib.flatten(config_lib.to_dict(recipes[name])) for name in (a, b)]
    return {name for name in flat[0].keys() | flat[1].keys() if flat[0].get(name) != flat[1].get(name)}

  affine = {'augment.rotation', 'augment.scale', 'augment.shear', 'augment.shift'}
  assert changed('everything', 'without_affine') == changed('nothing', 'only_affine') == affine
  assert changed('everything', 'without_elastic') == changed('nothing', 'only_elastic') == {'augment.elastic'}
  assert changed('everything', 'without_thickness') == changed('nothing', 'only_thickness') == {'augment.thickness'}
  assert changed('everything', 'without_smoothing') == changed('nothing', 'only_smoothing') == {'label_smoothing'}
  assert changed('everything', 'with_erasing') == changed('nothing', 'only_erasing') == {'augment.erase_side'}
  assert changed('everything', 'with_averaging') == changed('nothing', 'only_averaging') == {'ema_decay'}
  assert changed('everything', 'half_as_long') == changed('everything', 'twice_as_long') == {'epochs'}
  everything = affine | {'augment.elastic', 'augment.thickness', 'label_smoothing'}
  for plain, augmented in (('nothing', 'everything'), ('mlp', 'mlp_augmented'), ('softmax', 'softmax_augmented')):
    assert changed(plain, augmented) == everything


def test_comparison(tiny_experiment, tmp_path, monkeypatch, capsys):
  config = tiny_experiment('compare')
  trained = []
  train = population.train_population
  monkeypatch.setattr(
    population,
    'train_population',
    lambda configs, *args, **kwargs: trained.append(len(configs)) or train(configs, *args, **kwargs),
  )

  def fail(*args):
    raise errors.DigitsError('stopped here')

  with monkeypatch.context() as interrupted:
    interrupted.setattr(page, 'write_report', fail)
    with pytest.raises(errors.DigitsError, match='stopped here'):
      digits.run(config, tmp_path)
  assert sum(trained) == 6
  assert not (tmp_path / 'results.json').exists()

  results = digits.run(config, tmp_path)
  assert sum(trained) == 6  # Finished runs are not repeated.
  assert list(results['models']) == ['softmax', 'mlp', 'cnn']
  assert results == json.loads((tmp_path / 'results.json').read_text())
  for name, model in results['models'].items():
    run_results = [json.loads((tmp_path / name / f'seed-{seed}' / 'results.json').read_text()) for seed in (0, 1)]
    for key in ('accuracy', 'loss'):
      per_seed = [one['test'][key] for one in run_results]
      assert model['test'][key]['per_seed'] == pytest.approx(per_seed, rel=1e-4)
      assert model['test'][key]['mean'] == pytest.approx(np.mean(per_seed), rel=1e-4)
  assert [(pair['a'], pair['b']) for pair in results['pairs']] == [
    ('softmax', 'mlp'),
    ('softmax', 'cnn'),
    ('mlp', 'cnn'),
  ]
  assert '<html' in (tmp_path / 'report.html').read_text()
  assert runs.load_run(tmp_path / 'cnn' / 'seed-1').config.seed == 1
  assert capsys.readouterr().out == ''
  assert experiments.format_results(results, tmp_path).count('softmax') == 1


def test_activation_study(tiny_experiment, tmp_path):
  shipped = tiny_experiment('activations')
  recipes = {name: shipped.recipes[name] for name in ('cnn_relu', 'cnn_tanh')}
  results = digits.run(tiny_experiment('activations', recipes=recipes, num_seeds=1), tmp_path)
  assert results == json.loads((tmp_path / 'results.json').read_text())
  probe = results['recipes']['cnn_relu']['probe'][0]
  assert [record['step'] for record in probe] == [0, 8]
  assert {'gradient/conv1', 'gradient/logits', 'zeros/conv1', 'zeros/hidden'} <= probe[0].keys()
  assert 0 < probe[0]['zeros/conv1'] < 1
  assert results['recipes']['cnn_tanh']['probe'][0][0]['zeros/hidden'] == 0
  claims = {(finding['model'], finding['claim']) for finding in results['findings']}
  assert len(claims) == 4
  assert {path.suffix for path in (tmp_path / 'figures').iterdir()} == {'.png', '.svg'}
  assert all(claim in (tmp_path / 'report.html').read_text() for _, claim in claims)
  assert 'supported' in experiments.format_results(results, tmp_path)
  assert runner.headline(results).startswith('Of 4 claims, ')


def _recipe(activation, gradient, zeros, early, accuracy):
  """A recipe's record of two seeds."""
  return {
    'model': 'mlp',
    'activation': activation,
    'layers': {'hidden': 'Dense', 'logits': 'Dense'},
    'test': [{'accuracy': value} for value in accuracy],
    'valid': [[{'loss': value}] for value in early],
    'probe': [
      [{'gradient/hidden': g, 'gradient/logits': 1.0, 'zeros/hidden': z}] for g, z in zip(gradient, zeros, strict=True)
    ],
  }


def test_verdicts_follow_the_numbers():
  relu = _recipe('relu', (0.5, 0.6), (0.7, 0.8), (0.3, 0.4), (0.97, 0.98))
  sigmoid = _recipe('sigmoid', (0.1, 0.2), (0.0, 0.0), (0.2, 0.35), (0.98, 0.99))
  verdicts = {one['claim']: one['verdict'] for one in activation_claims.find({'a': relu, 'b': sigmoid})}
  assert verdicts == {
    'With sigmoid, the gradient of the first layer is smaller against that of the last than with ReLU.': 'supported',
    'With sigmoid, fewer hidden activations are zero than with ReLU.': 'supported',
    'After one epoch, ReLU has a lower validation loss than sigmoid.': 'undecided',
    'At the end, ReLU makes fewer test errors than sigmoid.': 'undecided',
  }
  better = _recipe('sigmoid', (0.7, 0.9), (0.0, 0.0), (0.1, 0.2), (0.99, 0.99))
  verdicts = [one['verdict'] for one in activation_claims.find({'a': relu, 'b': better})]
  assert sorted(verdicts) == ['contradicted', 'contradicted', 'contradicted', 'supported']


def test_grid_sweep_resumes_and_never_scores_the_test_split(tiny_experiment, tmp_path, monkeypatch):
  config = tiny_experiment('sweep', search={'learning_rate': (0.01, 0.3), 'batch_size': (32, 64)})
  trained = []
  train = population.train_population

  def counted(configs, *args, **kwargs):
    trained.extend(configs)
    if len(trained) > 4 and not (tmp_path / 'again').exists():
      raise errors.DigitsError('Stopped')
    return train(configs, *args, **kwargs)

  monkeypatch.setattr(population, 'train_population', counted)
  with pytest.raises(errors.DigitsError, match='Stopped'):
    digits.run(config, tmp_path)
  assert len((tmp_path / 'trials.jsonl').read_text().splitlines()) == 4
  (tmp_path / 'again').touch()
  trained.clear()
  results = digits.run(config, tmp_path)
  assert len(trained) == 4
  assert len(results['trials']) == 4
  losses = [trial['valid']['loss'] for trial in results['trials']]
  assert losses == sorted(losses)
  best = results['trials'][0]['values']
  recipe = digits.load_config(tmp_path / 'best.py')
  assert (recipe.learning_rate, recipe.batch_size) == (best['learning_rate'], best['batch_size'])
  assert (tmp_path / 'figures' / 'heat-map.png').exists()
  assert 'test' not in (tmp_path / 'trials.jsonl').read_text()
  assert f'--config={tmp_path}/best.py' in experiments.format_results(results, tmp_path)


def test_the_best_recipe_is_a_config_file_of_all_its_fields(tiny_experiment, tiny_config, tmp_path):
  recipe = config_lib.to_dict(
    tiny_config('cnn', schedule='cosine', optimizer={'name': 'adam', 'b1': 0.8}, momentum=0.0)
  )
  config = tiny_experiment('sweep', recipe=recipe, search={'learning_rate': (0.3, 0.7)})
  sweep._write_best(config, {'learning_rate': 0.7}, tmp_path)
  best = digits.load_config(tmp_path / 'best.py')
  assert best == config.make_train_config('recipe', recipe, learning_rate=0.7)


def test_a_config_as_its_file_makes_it_runs(tiny_experiment, tmp_path):
  recipes = {'softmax': config_lib.to_dict(tiny_experiment('compare'))['recipes']['softmax']}
  config = tiny_experiment('compare', recipes=recipes, num_seeds=1)
  results = digits.run(ml_collections.ConfigDict(config_lib.to_dict(config)), tmp_path)
  assert digits.run(config, tmp_path) == results


def test_random_trials_are_within_bounds_and_repeatable(tiny_experiment):
  search = {'learning_rate': (1e-3, 1.0), 'epochs': (1, 4)}
  config = tiny_experiment('sweep', search=search, method='random', num_trials=200)
  trials = sweep.make_trials(config)
  assert trials == sweep.make_trials(config)
  rates = np.array([trial['learning_rate'] for trial in trials])
  assert rates.min() >= 1e-3
  assert rates.max() <= 1.0
  assert 0.4 < np.mean(rates < 10**-1.5) < 0.6  # Evenly over the logarithm.
  assert {trial['epochs'] for trial in trials} == {1, 2, 3, 4}


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    ({'search': {'model': (1, 2)}}, 'config.search.model is not allowed'),
    ({'search': {'learning_rate': ()}}, r'config.search.learning_rate=\(\) is not allowed'),
    ({'search': {'learning_rate': (-1.0,)}}, 'config.recipe.learning_rate=-1.0 is not allowed'),
    ({'search': {'momentum': (0.0, 0.9)}, 'method': 'random'}, 'logarithmic scale more than 0'),
    ({'num_validation': 0}, 'config.num_validation=0 is not allowed'),
    ({'mesh': {'seeds': -1}}, 'config.mesh'),
  ],
)
def test_bad_sweeps(tiny_experiment, overrides, message):
  with pytest.raises(errors.UsageError, match=message):
    tiny_experiment('sweep', **overrides)


def test_bad_recipe_is_named(tiny_experiment):
  good = config_lib.to_dict(tiny_experiment('compare'))
  good['recipes']['cnn']['epochs'] = 0
  with pytest.raises(errors.UsageError, match=r'config\.recipes\.cnn\.epochs=0 is not allowed'):
    config_lib.from_dict(good)


def test_ensemble(tiny_experiment, tmp_path):
  recipes = {name: recipe for name, recipe in tiny_experiment('compare').recipes.items() if name != 'softmax'}
  results = digits.run(tiny_experiment('ensemble', recipes=recipes, num_seeds=3), tmp_path / 'ensemble')
  assert results == json.loads((tmp_path / 'ensemble' / 'results.json').read_text())
  assert {name: one['members'] for name, one in results['ensembles'].items()} == {'mlp': 3, 'cnn': 3, 'all': 6}
  alone = [runs.load_run(tmp_path / 'ensemble' / 'cnn' / f'seed-{seed}') for seed in range(3)]
  test = digits.load_dataset('mnist', alone[0].config.data_dir, 60).test
  probabilities = np.mean([predict.compute_probabilities(test.image, run) for run in alone], axis=0)
  assert results['ensembles']['cnn']['accuracy'] == np.mean(probabilities.argmax(1) == test.label)
  singles = [np.mean(predict.compute_probabilities(test.image, run).argmax(1) == test.label) for run in alone]
  assert results['ensembles']['cnn']['single']['per_seed'] == pytest.approx(singles)
  assert results['ensembles']['cnn']['accuracy_by_size'][0] == pytest.approx(np.mean(singles))
  assert results['ensembles']['cnn']['accuracy_by_size'][2] == results['ensembles']['cnn']['accuracy']
  page_text = (tmp_path / 'ensemble' / 'report.html').read_text()
  assert 'Three networks of cnn that answer together' in page_text
  assert 'All networks' in experiments.format_results(results, tmp_path) + page_text

  # What answers for the workdir is the mean of all six.
  together = runs.load_run(tmp_path / 'ensemble')
  assert (together.name, len(together.model.members), together.finished) == ('ensemble', 6, True)
  directories = [tmp_path / 'ensemble' / name / f'seed-{seed}' for name in ('mlp', 'cnn') for seed in range(3)]
  members = [runs.load_run(directory) for directory in directories]
  expected = np.mean([predict.compute_probabilities(test.image[:40], run) for run in members], axis=0)
  np.testing.assert_allclose(predict.compute_probabilities(test.image[:40], together), expected, atol=1e-6)
  scores = digits.evaluate_split(together.variables, test, model=together.model)
  assert scores == pytest.approx(results['test'], rel=1e-5)


def test_ensemble_of_a_comparison(tiny_experiment, tmp_path):
  comparison = tiny_experiment('compare', recipes={'mlp': tiny_experiment('compare').recipes['mlp']})
  digits.run(comparison, tmp_path / 'compare')
  config = tiny_experiment('ensemble', trained_in=str(tmp_path / 'compare'))
  results = digits.run(config, tmp_path / 'ensemble')
  assert list(results['ensembles']) == ['mlp']
  assert not list((tmp_path / 'ensemble').glob('*/seed-*'))
  assert runs.load_run(tmp_path / 'ensemble').variables['params'].keys() == {'members_0', 'members_1'}
  assert digits.run(config, tmp_path / 'ensemble') == results

  with pytest.raises(errors.UsageError, match=r'config.num_validation=70 is not that of .*: set it to 60\.'):
    digits.run(tiny_experiment('ensemble', trained_in=str(tmp_path / 'compare'), num_validation=70), tmp_path / 'b')
  with pytest.raises(errors.UsageError, match='is not the workdir of a comparison'):
    digits.run(tiny_experiment('ensemble', trained_in=str(tmp_path / 'nowhere')), tmp_path / 'b')
  with pytest.raises(errors.UsageError, match='at least two members'):
    digits.run(tiny_experiment('ensemble', num_seeds=1), tmp_path / 'b')


def test_sweep_searches_fields_within_fields(tiny_experiment, tmp_path):
  recipe = {**tiny_experiment('sweep').recipe, 'augment': {'name': 'random_shift', 'max_pixels': 2}}
  search = {'augment': {'max_pixels': (0, 1)}, 'architecture': {'hidden_units': (4, 8)}}
  config = tiny_experiment('sweep', recipe=recipe, search=search, num_seeds=1)
  trials = sweep.make_trials(config)
  assert trials[1] == {'augment.max_pixels': 0, 'architecture.hidden_units': 8}
  results = digits.run(config, tmp_path)
  best = config_lib.load_config(tmp_path / 'best.py')
  assert best.augment['max_pixels'] == results['trials'][0]['values']['augment.max_pixels']
  assert best.architecture['hidden_units'] == results['trials'][0]['values']['architecture.hidden_units']
  for wrong in ({'augment': {'name': (1, 2)}}, {'augment': {'turn': (1, 2)}}, {'augment': (1, 2)}):
    with pytest.raises(errors.UsageError, match=r'config.search.augment\S* is not allowed: it is not a numeric field'):
      tiny_experiment('sweep', recipe=recipe, search=wrong)


def test_a_student_learns_from_an_ensemble(tiny_experiment, tiny_config, tmp_path):
  digits.run(
    tiny_experiment('ensemble', recipes={'mlp': tiny_experiment('compare').recipes['mlp']}), tmp_path / 'teacher'
  )
  teaching = {'workdir': str(tmp_path / 'teacher'), 'weight': 1.0, 'temperature': 1.0}
  augmenting = {'name': 'random_shift', 'max_pixels': 1}
  config = tiny_config('softmax', distill=teaching, augment=augmenting)
  digits.run(config, tmp_path / 'student')
  student, teacher = runs.load_run(tmp_path / 'student'), runs.load_run(tmp_path / 'teacher')
  digits.run(tiny_config('softmax', augment=augmenting), tmp_path / 'sibling')
  test = digits.load_dataset('mnist', config.data_dir, 60).test
  answers, taught, untaught = (
    predict.compute_probabilities(test.image, run) for run in (teacher, student, runs.load_run(tmp_path / 'sibling'))
  )
  assert np.abs(taught - answers).mean() < np.abs(untaught - answers).mean()
  with pytest.raises(errors.UsageError, match="config.distill.workdir='nowhere' holds no teacher"):
    digits.run(tiny_config('softmax', distill={**teaching, 'workdir': 'nowhere'}), tmp_path / 'other')


def test_networks_of_several_experiments_are_put_together(tiny_experiment, tmp_path, monkeypatch, capsys):
  recipes = {'mlp': tiny_experiment('compare').recipes['mlp']}
  digits.run(tiny_experiment('compare', recipes=recipes), tmp_path / 'compare')
  digits.run(tiny_experiment('compare', recipes=recipes, num_seeds=1, seed=7), tmp_path / 'more')
  path = tmp_path / 'more.safetensors'
  path.write_bytes(formats.to_safetensors(runs.load_run(tmp_path / 'more' / 'mlp' / 'seed-7')))
  record.main([f'small={tmp_path / "compare"}', f'small={path}', f'one={path}', f'--json={tmp_path / "record.json"}'])
  written = json.loads((tmp_path / 'record.json').read_text())
  per_seed = [
    json.loads((tmp_path / one / 'results.json').read_text())['test']['accuracy']
    for one in ('compare/mlp/seed-0', 'compare/mlp/seed-1', 'more/mlp/seed-7')
  ]
  assert written['models']['small']['test']['accuracy']['per_seed'] == pytest.approx(per_seed)
  assert {name: one['members'] for name, one in written['ensembles'].items()} == {'small': 3, 'all': 4}
  with pytest.raises(errors.UsageError, match='is not NAME=PATH'):
    record.main([str(path), f'--json={tmp_path / "other.json"}'])
