"""Attacks on linear models, where the worst case is known, and on small trained ones."""

from flax import linen as nn
import hypothesis
from hypothesis import strategies
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from digits import data
from digits.explain import attacks
from digits.train import step as step_lib

SIDE = 6


class Linear(nn.Module):
  """Logits that are linear in the pixels; the variables are given, not learned."""

  def __call__(self, image):
    weights = self.get_variable('params', 'weights')
    return image.reshape(image.shape[0], -1) @ weights + self.get_variable('params', 'bias')


def linear(num_classes=2, seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  weights = scale * rng.normal(size=(SIDE * SIDE, num_classes)).astype(np.float32)
  return Linear(), {'params': {'weights': jnp.asarray(weights), 'bias': jnp.zeros(num_classes)}}


def uniform_images(count, low=0.0, high=1.0, seed=1):
  return jnp.asarray(np.random.default_rng(seed).uniform(low, high, (count, SIDE, SIDE, 1)), jnp.float32)


def answers(model, variables, images):
  return np.argmax(model.apply(variables, images), axis=-1)


@pytest.fixture(scope='module')
def small(mnist):
  """200 test images, of which a network that was trained for a moment gets most right."""
  return data.Split(mnist.test.image[:200], mnist.test.label[:200])


def test_fgsm_goes_epsilon_along_the_sign_of_the_gradient():
  model, variables = linear(num_classes=4)
  images, labels = uniform_images(100, 0.2, 0.8), np.arange(100) % 4
  attacked = attacks.fgsm(model, variables, images, labels, 0.1)
  weights = np.asarray(variables['params']['weights'], np.float64)
  # The derivative of the cross-entropy by the logits is probability - one_hot(label).
  logits = np.asarray(images, np.float64).reshape(100, -1) @ weights
  gradient = (special.softmax(logits, axis=-1) - np.eye(4)[labels]) @ weights.T
  expected = np.asarray(images) + 0.1 * np.sign(gradient).reshape(images.shape)
  np.testing.assert_allclose(attacked.images, expected, atol=1e-6)
  np.testing.assert_array_equal(attacked.fooled, answers(model, variables, attacked.images) != labels)


def test_fgsm_follows_the_gradient_of_answers_that_float32_calls_certain():
  """The cross-entropy of the label is rounded to 0 here, and its gradient loses the label's weights."""
  model, variables = linear(num_classes=4, scale=30.0)
  images = uniform_images(100, 0.2, 0.8)
  labels = answers(model, variables, images)
  weights = np.asarray(variables['params']['weights'], np.float64)
  logits = np.asarray(images, np.float64).reshape(100, -1) @ weights
  probability = special.softmax(logits, axis=-1)
  assert (np.float32(1) - probability.max(1).astype(np.float32) == 0).mean() > 0.3
  others = np.where(np.eye(4, dtype=bool)[labels], -np.inf, logits)
  gradient = special.softmax(others, axis=-1) @ weights.T - weights.T[labels]
  attacked = attacks.fgsm(model, variables, images, labels, 0.1)
  moved = np.sign(np.asarray(attacked.images - images).reshape(100, -1))
  assert (moved == np.sign(gradient)).mean() > 0.999


@pytest.mark.parametrize(('epsilon', 'num_steps'), [(0.01, 8), (0.03, 1), (0.1, 8)])
def test_pgd_reaches_the_worst_case_of_a_linear_model(epsilon, num_steps):
  """Where no pixel is clipped, an attack lowers the margin by epsilon times the weights' sum of absolute values.

  One step is enough, as it goes from any place to the border.
  """
  model, variables = linear(seed=3)
  images, labels = uniform_images(100, 0.3, 0.7), np.arange(100) % 2
  weights = np.asarray(variables['params']['weights'], np.float64)
  logits = np.asarray(images, np.float64).reshape(100, -1) @ weights
  margin = logits[np.arange(100), labels] - logits[np.arange(100), 1 - labels]
  withstands = margin > epsilon * np.abs(weights[:, 0] - weights[:, 1]).sum()
  attacked = attacks.pgd(model, variables, images, labels, epsilon, rng=jax.random.key(0), num_steps=num_steps)
  np.testing.assert_array_equal(attacked.fooled, ~withstands)
  worst = np.asarray(images) - epsilon * np.sign((weights.T[labels] - weights.T[1 - labels]).reshape(images.shape))
  np.testing.assert_allclose(attacked.images, worst, atol=1e-6)
  if epsilon == 0.03:
    assert 10 < withstands.sum() < 40


def test_accuracy_of_a_linear_model_is_the_share_of_wide_margins():
  model, variables = linear(seed=3)
  image = np.random.default_rng(0).integers(80, 170, (230, SIDE, SIDE, 1)).astype(np.uint8)
  weights = np.asarray(variables['params']['weights'], np.float64)
  logits = (image / 255).reshape(230, -1) @ weights
  label = np.arange(230, dtype=np.int32) % 2
  margin = logits[np.arange(230), label] - logits[np.arange(230), 1 - label]
  epsilons = (0.0, 0.01, 0.03, 0.1)
  expected = [np.mean(margin > epsilon * np.abs(weights[:, 0] - weights[:, 1]).sum()) for epsilon in epsilons]
  measured = attacks.accuracy_under_attack(model, variables, data.Split(image, label), epsilons, num_steps=5)
  assert measured == {'fgsm': expected, 'pgd': expected}
  assert 0.4 < expected[0] < 0.6
  assert 0 < expected[2] < expected[1] < expected[0]


@hypothesis.given(
  epsilon=strategies.floats(0, 0.5),
  num_steps=strategies.integers(1, 5),
  restarts=strategies.integers(0, 2),
  seed=strategies.integers(0, 1000),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_changed_images_stay_in_the_ball_and_within_0_and_1(epsilon, num_steps, restarts, seed):
  model, variables = linear(num_classes=4, seed=seed)
  images, labels = (uniform_images(100, seed=seed) * 1.4 - 0.2).clip(0, 1), np.arange(100) % 4  # A third is 0 or 1.
  options = {'rng': jax.random.key(seed), 'num_steps': num_steps, 'num_restarts': restarts}
  for attacked in (
    attacks.fgsm(model, variables, images, labels, epsilon),
    attacks.pgd(model, variables, images, labels, epsilon, **options),
  ):
    assert float(jnp.abs(attacked.images - images).max()) <= epsilon + 1e-7
    assert attacked.images.min() >= 0
    assert attacked.images.max() <= 1
    np.testing.assert_array_equal(attacked.fooled, answers(model, variables, attacked.images) != labels)


def test_epsilon_0_changes_nothing():
  model, variables = linear(num_classes=4)
  images, labels = uniform_images(100), np.arange(100) % 4
  right = answers(model, variables, images) == labels
  for attacked in (
    attacks.fgsm(model, variables, images, labels, 0.0),
    attacks.pgd(model, variables, images, labels, 0.0, rng=jax.random.key(0)),
  ):
    np.testing.assert_array_equal(attacked.images, images)
    np.testing.assert_array_equal(attacked.fooled, ~right)


class Valley(nn.Module):
  """Another class wins for means between 0.52 and 0.54 alone; further on all others together get more likely."""

  def __call__(self, image):
    mean = jnp.mean(image, (1, 2, 3))
    others = jnp.tile(1.3 + 0.1 * mean[:, None], 8)
    best = jnp.where((mean > 0.52) & (mean < 0.54), 1.6, 1.3)
    return jnp.concatenate([2.0 - mean[:, None], best[:, None], others], -1)


def test_a_search_keeps_what_fools_although_it_moves_on_to_a_higher_loss():
  images, labels = jnp.full((100, SIDE, SIDE, 1), 0.5), np.zeros(100, np.int32)
  attacked = attacks.pgd(Valley(), {}, images, labels, 0.1, rng=jax.random.key(0), num_steps=40, num_restarts=1)
  assert attacked.fooled.all()
  means = np.mean(attacked.images, (1, 2, 3))
  assert 0.52 < means.min() <= means.max() < 0.54
  beyond = Valley().apply({}, jnp.full((1, SIDE, SIDE, 1), 0.6))
  kept = Valley().apply({}, attacked.images)
  assert (jax.nn.log_softmax(beyond)[0, 0] < jax.nn.log_softmax(kept)[:, 0]).all()
  assert not attacks.fgsm(Valley(), {}, images, labels, 0.1).fooled.any()


def test_random_places_spread_over_the_ball_and_differ_between_searches():
  images, rng = jnp.full((100, SIDE, SIDE, 1), 0.5), jax.random.key(0)
  first, second = (np.asarray(attacks._draw_places(images, 0.2, rng, restart, np.arange(100))) for restart in (0, 1))
  assert np.ptp(first) == pytest.approx(0.4, abs=0.01)
  assert first.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.05)
  assert len(np.unique(first)) > 3400
  assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0, abs=0.1)
  moved = attacks._draw_places(images, 0.2, rng, 0, np.roll(np.arange(100), 3))
  np.testing.assert_array_equal(moved, np.roll(first, 3, 0))


def test_a_trained_network_under_attack(quick_run, small):
  variables = jax.tree.map(np.copy, quick_run.variables)
  measured = attacks.accuracy_under_attack(quick_run.model, variables, small, num_steps=10, num_restarts=2)
  clean = step_lib.apply_model(quick_run.model, variables, small.image).argmax(-1) == small.label
  assert clean.mean() > 0.9
  for each in measured.values():
    assert each[0] < clean.mean()
    assert each[0] > each[-1]
  assert (np.diff(measured['pgd']) <= 0).all()
  assert (np.subtract(measured['pgd'], measured['fgsm']) <= 0).all()
  assert measured['pgd'][0] > 0.3
  assert measured['pgd'][-1] < 0.02
  jax.tree.map(np.testing.assert_array_equal, variables, quick_run.variables)


def test_attacking_only_what_withstood_leaves_the_numbers_as_they_are(quick_run, small):
  model, variables, epsilons = quick_run.model, quick_run.variables, (0.02, 0.05, 0.08)
  images, fooled, expected = step_lib.normalize(small.image), np.zeros(200, bool), []
  for epsilon in epsilons:
    rng = jax.random.key(4)
    attacked = attacks.pgd(model, variables, images, small.label, epsilon, rng=rng, num_steps=6, num_restarts=2)
    fooled |= np.asarray(attacked.fooled)
    expected.append(1 - fooled.mean())
  for batch_size in (200, 100):
    measured = attacks.accuracy_under_attack(
      model, variables, small, epsilons, num_steps=6, num_restarts=2, seed=4, batch_size=batch_size
    )
    # Batches of other sizes are rounded in other ways.
    np.testing.assert_allclose(measured['pgd'], expected, atol=1.5 / 200)


def test_epsilons_must_ascend(quick_run, small):
  with pytest.raises(ValueError, match=r'epsilons=\(0.2, 0.1\) must ascend'):
    attacks.accuracy_under_attack(quick_run.model, quick_run.variables, small, (0.2, 0.1))
