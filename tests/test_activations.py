"""The activation study of any model that describes its layers."""

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import own_models

from digits import config as config_lib
from digits import errors, models
from digits.experiments import activations
from digits.report import study_figures

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
  found = {finding['claim']: finding for finding in activations.find({'a': relu, 'b': gelu})}
  flow = found['With gelu the gradient of the first layer is smaller against that of the last than with relu.']
  assert (flow['verdict'], flow['numbers']) == ('supported', {'gelu': 1.0, 'relu': 2.0})
  zeros = found['With gelu fewer hidden activations are zero than with relu.']
  assert (zeros['verdict'], zeros['numbers']) == ('supported', pytest.approx({'gelu': 0.05, 'relu': 0.3}))


def test_nothing_is_claimed_of_zeros_that_were_not_measured():
  claims = [one['claim'] for one in activations.find({'a': _recipe('relu', 2.0, {}), 'b': _recipe('elu', 1.0, {})})]
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


def test_recipes_with_different_numbers_of_layers_share_the_figures_of_common_ones(tmp_path):
  def recipe(activation, layers):
    probe = {'step': 0, **{f'gradient/{layer}': 1.0 for layer in layers}}
    return {'model': 'mine', 'activation': activation, 'valid': [[{'step': 1, 'loss': 1.0}]], 'probe': [[probe]]}

  recipes = {'a': recipe('relu', ('one', 'two')), 'b': recipe('tanh', ('one',))}
  study_figures.save_activations({'recipes': recipes}, tmp_path)
  assert (tmp_path / 'gradient-one-mine.svg').exists()
  assert not (tmp_path / 'gradient-two-mine.svg').exists()
