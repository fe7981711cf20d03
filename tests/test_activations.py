"""The activation study of any model that describes its layers."""

import html
import re

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import own_models
from support.outline import Outline

from digits import config as config_lib
from digits import errors, models
from digits.experiments import activations
from digits.models.activations import ACTIVATIONS
from digits.report import activation_claims, activation_study, study
from digits.runtime import sealed_json
from measurements import activations as chapter

BATCH = {
  'image': np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1)).astype(np.uint8),
  'label': np.arange(8, dtype=np.int32),
  'mask': np.array([1] * 6 + [0] * 2, np.float32),
}


def test_a_probe_measures_gradients_and_zeros_of_the_real_rows():
  model = models.CNN(features=(2, 3), hidden_units=8)
  variables = own_models.random_variables(model)
  measured = jax.jit(activations.make_probe(model))(variables, BATCH)
  layers = ('conv1', 'conv2', 'hidden', 'logits')
  assert set(measured) == {f'gradient/{name}' for name in layers} | {f'zeros/{name}' for name in layers[:-1]}

  def loss(params):
    logits = model.apply({'params': params}, jnp.asarray(BATCH['image'][:6]) / 255)
    return -jax.nn.log_softmax(logits)[np.arange(6), np.arange(6)].mean()

  gradients = jax.grad(loss)(variables['params'])
  for name in layers:
    norm = np.sqrt(np.mean(np.square(gradients[name]['kernel'])))
    assert measured[f'gradient/{name}'] == pytest.approx(norm, rel=1e-4)
  _, state = model.apply(variables, jnp.asarray(BATCH['image'][:6]) / 255, mutable='intermediates')
  (active,) = state['intermediates']['conv2_active']
  assert measured['zeros/conv2'] == pytest.approx(np.mean(np.abs(active) < 1e-6))
  assert 0 < measured['zeros/conv2'] < 1
  assert measured['zeros/hidden'] == 0


def test_layers_that_are_described_and_not_sown_have_gradients_only():
  model = own_models.OwnDescribed()
  measured = jax.jit(activations.make_probe(model))(own_models.random_variables(model), BATCH)
  assert set(measured) == {f'gradient/{name}' for name in ('first', 'second', 'third', 'last')}


def _recipe(activation, ratio, zeros):
  """What results.json says of a recipe of one seed, with other names than those of the shipped models."""
  records = [{'gradient/stem': ratio, 'gradient/top': 1.0, 'zeros/top': 0.9} | zeros]
  return {
    'model': 'own',
    'activation': activation,
    'layers': {'stem': 'Convolution', 'middle': 'Convolution', 'top': 'Dense'},
    'test': [{'accuracy': 0.5}],
    'valid': [[{'loss': 1.0}]],
    'probe': [records],
  }


def test_claims_are_about_the_first_and_the_last_layer_and_the_zeros_of_layers_like_the_first():
  relu = _recipe('relu', 2.0, {'zeros/stem': 0.4, 'zeros/middle': 0.2})
  gelu = _recipe('gelu', 1.0, {'zeros/stem': 0.0, 'zeros/middle': 0.1})
  found = {finding['claim']: finding for finding in activation_claims.find({'a': relu, 'b': gelu})}
  flow = found['With GELU, the gradient of the first layer is smaller against that of the last than with ReLU.']
  assert (flow['verdict'], flow['numbers']) == ('supported', {'gelu': 1.0, 'relu': 2.0})
  zeros = found['With GELU, fewer hidden activations are zero than with ReLU.']
  assert (zeros['verdict'], zeros['numbers']) == ('supported', pytest.approx({'gelu': 0.05, 'relu': 0.3}))
  assert zeros['sentence'] == 'Their share at the end is 5.0\u00a0% with GELU and 30.0\u00a0% with ReLU.'


def test_nothing_is_claimed_of_zeros_that_were_not_measured():
  claims = [
    one['claim'] for one in activation_claims.find({'a': _recipe('relu', 2.0, {}), 'b': _recipe('elu', 1.0, {})})
  ]
  assert len(claims) == 3
  assert not any('zero' in claim for claim in claims)


@pytest.mark.parametrize(('model', 'architecture'), [('own_resnet', {'features': 2}), ('softmax', {})])
def test_a_recipe_without_known_activations_is_refused_before_training(model, architecture, tiny_config, tmp_path):
  import digits

  own_models.register()
  tiny = tiny_config('mlp')
  recipe = config_lib.to_dict(tiny) | {'model': model, 'architecture': architecture}
  shipped = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / 'activations.py'))
  config = config_lib.from_dict(
    shipped | {'recipes': {'mine': recipe}, 'data_dir': tiny.data_dir, 'num_validation': 60, 'num_seeds': 1}
  )
  with pytest.raises(errors.UsageError, match=rf'recipes.mine cannot be studied, because the model {model} has no'):
    digits.run(config, tmp_path / 'study')
  assert not (tmp_path / 'study').exists()


def test_recipes_with_different_numbers_of_layers_share_the_figures_of_common_ones():
  def recipe(activation, names):
    probe = {'step': 0} | {f'gradient/{name}': 1.0 for name in names}
    about = {'model': 'mine', 'activation': activation, 'learning_rate': 0.1, 'layers': dict.fromkeys(names, 'Dense')}
    return about | {'test': [{'accuracy': 0.9}], 'valid': [[{'step': 1, 'loss': 1.0}]], 'probe': [[probe]]}

  recipes = {'a': recipe('relu', ('one', 'two')), 'b': recipe('silu', ('one',))}
  findings = activation_claims.find(recipes)
  made = activation_study.make_study({'recipes': recipes, 'num_seeds': 1, 'findings': findings})
  panels = [panel.name for section in made.sections for figure in section.figures for panel in figure.panels]
  assert 'gradient-one-mine' in panels
  assert 'gradient-two-mine' not in panels
  assert 'function-silu' in panels
  assert made.sections[-1].heading == 'mine'
  assert [claim.claim for claim in made.sections[-1].claims] == [finding['claim'] for finding in findings]


def test_every_activation_is_explained_and_what_is_said_of_it_is_so():
  assert activation_study.ABOUT.keys() == activation_claims.TITLES.keys() == ACTIVATIONS.keys()
  x = np.linspace(-30, 30, 60_001, dtype=np.float32)
  for name, about in activation_study.ABOUT.items():
    values = np.asarray(ACTIVATIONS[name].function(x))
    low, high = about.bounds
    assert values.min() == pytest.approx(max(low, -30), abs=1e-4)
    assert values.max() == pytest.approx(min(high, 30), abs=1e-4)


@pytest.fixture(scope='module')
def committed():
  return sealed_json.read(conftest.ROOT / 'results' / 'activations.json')


def test_the_committed_findings_are_those_of_the_committed_recipes(committed):
  found = activation_claims.find(committed['recipes'])
  assert [{**one, 'numbers': pytest.approx(one['numbers'])} for one in found] == committed['findings']


def test_the_page_of_the_committed_study(committed, tmp_path):
  path = study.write_study(activation_study.make_study(committed), tmp_path)
  text = html.unescape(path.read_text())
  outline = Outline(path.read_text())
  assert len(outline.ids) == len(set(outline.ids))
  for finding in committed['findings']:
    assert text.count(finding['claim']) >= 2
    assert finding['sentence'] in text
  for section in ('What an activation is', 'Sigmoid', 'Tanh', 'ReLU', 'GELU', 'Softmax', 'Why the loss takes logits'):
    assert f'>{section}</h2>' in text
  # Of the three models, as they are.
  assert 'Of the three models, cnn has it after conv1, conv2 and conv3.' in text
  assert 'Of the three models, cnn has it after hidden and mlp has it after hidden.' in text
  assert text.count('None of the three models has it; a config can ask for it.') == 2
  names = {attrs['id'] for tag, attrs in outline.tags if tag == 'svg'}
  assert {'function-softmax', 'softmax-temperature', 'loss-mlp', 'gradient-conv1-cnn', 'zeros-conv3-cnn'} <= names
  assert {file.stem for file in (tmp_path / 'figures').glob('*.png')} == names


def test_the_example_of_a_lost_probability_is_computed():
  (text,) = [section.text for section in activation_study.explain({}) if section.heading.startswith('Why the loss')]
  assert 'Softmax gives 0 and 1: the first probability would be exp(−120)' in text[1]
  assert 'Its logarithm is −inf, and the gradient (NaN, NaN)' in text[1]
  assert 'answers −120, with the gradient (1, −1).' in text[1]


def test_the_chapter_is_what_the_committed_study_gives(committed):
  text, panels = chapter.make_chapter(activation_study.explain(committed['recipes']))
  docs = conftest.ROOT / 'docs'
  assert (docs / 'activations.md').read_text() == text, 'Run python -m measurements.activations.'
  for panel in panels:
    assert (docs / 'figures' / f'{panel.name}.svg').exists()
  assert set(re.findall(r'\((figures/[^)]*)\)', text)) == {f'figures/{panel.name}.svg' for panel in panels}
