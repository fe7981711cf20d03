import functools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digits.train import metrics


def test_literal_values():
  logits = jnp.array([[0.0, 0.0], [0.0, math.log(3.0)], [5.0, 0.0]])
  batch = {'label': jnp.array([0, 1, 1]), 'mask': jnp.array([1.0, 1.0, 0.0])}
  scores = metrics.Metrics.from_logits(logits, batch).compute()
  assert scores['examples'] == 2
  assert scores['accuracy'] == 1.0  # Of equal logits the first counts.
  assert scores['loss'] == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_padding_has_no_gradient():
  batch = {'label': jnp.array([0, 1]), 'mask': jnp.array([1.0, 0.0])}
  grad = jax.grad(lambda logits: metrics.Metrics.from_logits(logits, batch).loss)(jnp.ones((2, 3)))
  np.testing.assert_allclose(grad, [[-2 / 3, 1 / 3, 1 / 3], [0, 0, 0]], rtol=1e-6)


def test_empty_has_no_examples_and_no_nan():
  assert metrics.Metrics.empty().compute() == {'accuracy': 0.0, 'loss': 0.0, 'examples': 0}


@given(st.sampled_from([7, 32]), st.sampled_from([0, 3, 32]))
@settings(max_examples=6, deadline=None)
def test_merged_parts_are_the_whole(size, cut):
  rng = np.random.default_rng(size * 61 + cut)
  logits = rng.standard_normal((size, 10)).astype(np.float32)
  batch = {'label': rng.integers(0, 10, size).astype(np.int32), 'mask': np.ones(size, np.float32)}
  part = [{key: value[rows] for key, value in batch.items()} for rows in (slice(0, cut), slice(cut, None))]
  whole = metrics.Metrics.from_logits(logits, batch).compute()
  merged = metrics.Metrics.from_logits(logits[:cut], part[0])
  merged = merged.merge(metrics.Metrics.from_logits(logits[cut:], part[1])).compute()
  assert merged['examples'] == whole['examples'] == size
  assert merged['accuracy'] == whole['accuracy']
  assert merged['loss'] == pytest.approx(whole['loss'], rel=1e-5)


def test_a_nan_gradient_norm_stays_through_merging():
  bad = metrics.Metrics.empty().replace(grad_norm=jnp.float32(jnp.nan))
  assert math.isnan(bad.merge(metrics.Metrics.empty()).grad_norm)


def test_smoothed_targets_by_hand():
  logits = jnp.array([[0.0, math.log(3.0)]])  # Probabilities 1/4 and 3/4.
  (loss,) = metrics.smoothed_cross_entropy(logits, jnp.array([1]), smoothing=0.2)
  assert float(loss) == pytest.approx(-(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)))
  (plain,) = metrics.smoothed_cross_entropy(logits, jnp.array([1]), smoothing=0.0)
  assert float(plain) == pytest.approx(float(metrics.cross_entropy(logits, jnp.array([1]))[0]))


def test_of_an_image_of_no_class_every_class_is_equally_right():
  logits = jnp.array([[0.0, math.log(3.0)], [0.0, math.log(3.0)], [0.0, 0.0]])  # Probabilities 1/4 and 3/4, and 1/2.
  loss = functools.partial(metrics.cross_entropy_with_outliers, known=metrics.cross_entropy)
  found = loss(logits, jnp.array([1, -1, -1]))
  half = -(math.log(1 / 4) + math.log(3 / 4)) / 2
  np.testing.assert_allclose(found, [-math.log(3 / 4), half, math.log(2)], rtol=1e-6)
  smoothed = functools.partial(metrics.smoothed_cross_entropy, smoothing=0.2)
  found = metrics.cross_entropy_with_outliers(logits, jnp.array([1, -1, -1]), known=smoothed)
  np.testing.assert_allclose(found, [-(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)), half, math.log(2)], rtol=1e-6)
  # Its gradient is the probabilities less the targets.
  grad = jax.grad(lambda logits: loss(logits, jnp.array([1, -1, -1])).sum())(logits)
  np.testing.assert_allclose(grad, [[1 / 4, -1 / 4], [-1 / 4, 1 / 4], [0, 0]], atol=1e-6)


def test_labels_of_digits_lose_nothing_by_outliers():
  rng = np.random.default_rng(0)
  logits, labels = rng.standard_normal((64, 10)).astype(np.float32), rng.integers(0, 10, 64).astype(np.int32)
  known = metrics.cross_entropy(logits, labels)
  np.testing.assert_array_equal(metrics.cross_entropy_with_outliers(logits, labels, known=metrics.cross_entropy), known)


def test_no_answer_to_an_image_of_no_class_is_wrong():
  batch = {'label': jnp.array([-1, 0, 1]), 'mask': jnp.array([1.0, 1.0, 1.0])}
  loss = functools.partial(metrics.cross_entropy_with_outliers, known=metrics.cross_entropy)
  scores = metrics.Metrics.from_logits(jnp.array([[0.0, 5.0]] * 3), batch, loss).compute()
  assert scores['accuracy'] == pytest.approx(2 / 3)
