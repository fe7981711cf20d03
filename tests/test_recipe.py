import dataclasses
import math

from flax import linen as nn
import jax.numpy as jnp
import pytest

import digits
from digits import data, errors, models
from digits.train import metrics, recipe


class _Base(nn.Module):
  num_classes: int = 10

  @nn.compact
  def __call__(self, image):
    return nn.Dense(self.num_classes)(image.reshape(image.shape[0], -1))


class _Eleven(_Base):
  @nn.compact
  def __call__(self, image):
    return nn.Dense(11)(image.reshape(image.shape[0], -1))


class _Raises(_Base):
  def __call__(self, image):
    raise RuntimeError('my own mistake')


class _Unhashable(_Base):
  sizes: dict = dataclasses.field(default_factory=dict)


class _Listed(_Base):
  sizes: list = dataclasses.field(default_factory=list)


class _Unknown(_Base):
  width: 'Width' = 3  # noqa: F821  # That is the mistake.


class _Normalized(_Base):
  @nn.compact
  def __call__(self, image, train=False):
    return nn.BatchNorm(use_running_average=not train)(_Base()(image))


@pytest.fixture
def check(prepared_data_dir, monkeypatch):
  """Checks a config whose model is a module of this file."""

  def check(module, architecture=None, **overrides):
    monkeypatch.setitem(models.MODELS, 'mine', module)
    dataset = data.load_dataset('mnist', prepared_data_dir, num_validation=60)
    small = {'model': 'mine', 'architecture': architecture or {}, 'batch_size': 32, 'eval_batch_size': 50}
    recipe.check_recipe(digits.load_config('mlp', **small, **overrides), dataset)

  return check


def test_a_model_of_ones_own_passes(check):
  check(_Base)
  check(_Normalized)


@pytest.mark.parametrize(
  ('module', 'message'),
  [
    (_Eleven, r'The model mine maps 32 images to an array \[32, 11\]: it must give \[32, 10\]'),
    (_Raises, r'cannot be trained by this config: RuntimeError in .*test_recipe.py, line \d+: my own mistake'),
    (_Unhashable, 'cannot be trained by this config: TypeError in .*: Failed to hash Flax Module'),
    (_Unknown, "An annotation of the model _Unknown names what its file does not have .*'Width'"),
  ],
)
def test_what_is_wrong_with_a_model_is_one_sentence(check, module, message):
  with pytest.raises(errors.UsageError, match=message) as caught:
    check(module, {'sizes': {'a': 1}} if module is _Unhashable else {})
  assert '\n' not in str(caught.value)


def test_batch_statistics_and_microbatches_do_not_go_together(check):
  with pytest.raises(errors.UsageError, match='config.microbatch_size=8 is not possible: the model mine'):
    check(_Normalized, microbatch_size=8)


def test_an_optimizer_that_fails_is_one_sentence(check):
  with pytest.raises(errors.UsageError, match='cannot be trained by this config: TypeError in'):
    check(_Base, optimizer={'name': 'sgd', 'accumulator_dtype': 'x'})


def test_label_smoothing_is_named():
  assert recipe.describe_loss(digits.load_config('mlp')) == 'cross-entropy'
  smoothed = digits.load_config('mlp', label_smoothing=0.1)
  assert recipe.describe_loss(smoothed) == 'cross-entropy with label smoothing 0.1'
  made = recipe.make_recipe(smoothed, num_steps=1)
  assert float(made.loss(jnp.zeros((1, 10)), jnp.zeros(1, jnp.int32))[0]) == pytest.approx(2.302585)


def test_the_loss_of_images_of_no_digit_is_chosen_by_the_dataset():
  labels = jnp.array([0, -1], jnp.int32)
  logits = jnp.array([[2.0] + [0.0] * 9] * 2)
  config = digits.load_config('cnn_reading')
  assert recipe.describe_loss(config) == (
    'cross-entropy with label smoothing 0.05, every class alike for an image of no digit'
  )
  known, unsure = recipe.make_recipe(config, num_steps=1).loss(logits, labels)
  assert float(known) == pytest.approx(math.log(math.e**2 + 9) - 2 * (0.95 + 0.005))
  assert float(unsure) == pytest.approx(math.log(math.e**2 + 9) - 0.2)
  plain = recipe.make_recipe(dataclasses.replace(config, dataset='mnist', label_smoothing=0.0), num_steps=1)
  assert plain.loss is metrics.cross_entropy


def test_a_field_with_another_annotation_is_said_to_be_one(check):
  with pytest.raises(errors.UsageError, match='config.architecture.sizes cannot be set: annotate it as int'):
    check(_Listed, {'sizes': (1, 2)})
