import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import optimize, stats

from digits import statistics

NUM_SEEDS, NUM_EXAMPLES, NUM_CLASSES = 3, 200, 10


def _answers(seed, accuracy, num_seeds=NUM_SEEDS, num_examples=NUM_EXAMPLES):
  return np.random.default_rng(seed).random((num_seeds, num_examples)) < accuracy


def _logits(seed, num_examples=NUM_EXAMPLES, scale=1.0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, NUM_CLASSES, num_examples)
  return scale * (rng.standard_normal((num_examples, NUM_CLASSES)) + 2 * np.eye(NUM_CLASSES)[labels]), labels


def test_spread_is_that_of_a_sample():
  assert statistics.spread([1.0, 2.0, 4.0]) == {
    'mean': pytest.approx(7 / 3),
    'std': pytest.approx(math.sqrt(7 / 3)),
    'n': 3,
    'per_seed': [1.0, 2.0, 4.0],
  }


def test_one_seed_has_no_deviation():
  assert statistics.spread(np.float32([0.5])) == {'mean': 0.5, 'std': None, 'n': 1, 'per_seed': [0.5]}


def test_cross_entropy_is_that_of_the_label():
  logits = np.array([[[0.0, math.log(3.0)], [1000.0, 0.0]]], np.float32)
  np.testing.assert_allclose(statistics.cross_entropy(logits, np.array([1, 1])), [[math.log(4 / 3), 1000]], rtol=1e-6)


def test_of_equal_logits_the_first_counts():
  np.testing.assert_array_equal(statistics.is_correct(np.zeros((2, 3)), np.array([0, 1])), [True, False])


def test_confusion_matrix_has_a_row_for_each_label():
  matrix = statistics.confusion_matrix(np.array([0, 2, 2, 1]), np.array([0, 1, 1, 1]), 3)
  np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, 2], [0, 0, 0]])


def test_per_class_accuracy():
  correct = np.array([[True, False, True], [True, True, True]])
  accuracy = statistics.per_class_accuracy(correct, np.array([0, 0, 2]), 3)
  np.testing.assert_array_equal(accuracy, [[0.5, np.nan, 1.0], [1.0, np.nan, 1.0]])


@given(st.integers(1, 2000), st.data())
@settings(max_examples=30, deadline=None)
def test_wilson_interval_is_that_of_scipy(count, draw):
  successes = draw.draw(st.integers(0, count))
  expected = stats.binomtest(successes, count).proportion_ci(method='wilson')
  np.testing.assert_allclose(statistics.wilson_interval(successes / count, count), expected, atol=1e-12)


# Pairs.


def test_bootstrap_agrees_with_scipy():
  a, b = _answers(0, 0.85), _answers(1, 0.9)
  difference, low, high = statistics.bootstrap_difference(a, b, seed=0)
  per_image = b.mean(0) - a.mean(0)
  peer = stats.bootstrap(
    (per_image,), np.mean, method='percentile', n_resamples=10_000, rng=np.random.default_rng(1), vectorized=True
  ).confidence_interval
  assert difference == pytest.approx(per_image.mean())
  assert low == pytest.approx(peer.low, abs=0.1 * (peer.high - peer.low))
  assert high == pytest.approx(peer.high, abs=0.1 * (peer.high - peer.low))


def test_bootstrap_pairs_the_images():
  """Models that are right on the same images differ by nothing, however many of them they get wrong."""
  a = _answers(0, 0.5, num_seeds=1)
  assert statistics.bootstrap_difference(a, np.repeat(a, 4, axis=0), seed=0) == (0.0, 0.0, 0.0)


def test_bootstrap_interval_covers_as_often_as_it_says():
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(200):
    a, b = rng.random((1, 300)) < 0.8, rng.random((1, 300)) < 0.9
    _, low, high = statistics.bootstrap_difference(a, b, seed=int(rng.integers(2**31)), num_resamples=1000)
    covered += low <= 0.1 <= high
  assert 180 <= covered <= 200  # 95 % of 200 is 190, with a deviation of 3.


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_swapping_the_models_turns_the_difference(seed):
  a, b = _answers(seed, 0.8), _answers(seed + 1, 0.8, num_seeds=2)
  difference, low, high = statistics.bootstrap_difference(a, b, seed=seed)
  turned, turned_low, turned_high = statistics.bootstrap_difference(b, a, seed=seed)
  assert turned == pytest.approx(-difference, abs=1e-12)
  assert low <= difference <= high
  assert turned_low == pytest.approx(-high, abs=0.02)
  assert turned_high == pytest.approx(-low, abs=0.02)


def test_mcnemar_counts_only_where_the_two_differ():
  a = np.array([True] * 50 + [True] * 1 + [False] * 5 + [False] * 7)
  b = np.array([True] * 50 + [False] * 1 + [True] * 5 + [False] * 7)
  assert statistics.mcnemar_test(a, b) == pytest.approx(2 * (1 + 6) / 2**6)  # One head or none of 6, on either side.
  assert statistics.mcnemar_test(b, a) == statistics.mcnemar_test(a, b)


def test_mcnemar_without_a_difference_is_one():
  assert statistics.mcnemar_test(np.array([True, False]), np.array([True, False])) == 1.0


@pytest.mark.parametrize(
  ('p_values', 'combined'),
  [([0.03], 0.03), ([0.2, 0.01], 0.02), ([0.9, 0.02, 0.01], 0.03), ([0.04, 0.03, 0.02, 0.01], 0.04), ([0.9, 0.8], 1.0)],
)
def test_combined_p_values(p_values, combined):
  assert statistics.combine_p_values(p_values) == pytest.approx(combined)


def test_one_lucky_seed_does_not_decide():
  assert statistics.combine_p_values([1e-9, 0.5, 0.6, 0.7]) == 1.0


# Calibration.


def test_reliability_by_hand():
  bins = statistics.reliability(np.array([0.0, 0.5, 0.51, 1.0]), np.array([True, False, True, True]), num_bins=2)
  np.testing.assert_array_equal(bins.num_answers, [2, 2])
  np.testing.assert_allclose(bins.confidence, [0.25, 0.755])
  np.testing.assert_allclose(bins.accuracy, [0.5, 1.0])


def test_expected_calibration_error_by_hand():
  confidence = np.array([0.95, 0.95, 0.65, 0.65])
  correct = np.array([True, True, True, False])
  assert statistics.expected_calibration_error(confidence, correct) == pytest.approx((0.05 + 0.15) / 2)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_calibration_error_is_at_least_the_gap_of_the_means(seed):
  logits, labels = _logits(seed)
  confidence = statistics.probabilities(logits).max(-1)
  correct = statistics.is_correct(logits, labels)
  error = statistics.expected_calibration_error(confidence, correct)
  assert abs(confidence.mean() - correct.mean()) <= error + 1e-12 <= 1


@pytest.mark.parametrize('scale', [0.3, 1.0, 5.0])
def test_temperature_is_where_the_loss_is_flat(scale):
  logits, labels = _logits(0, scale=scale)
  temperature = statistics.fit_temperature(logits, labels)

  def slope(t):  # The derivative of the mean loss by 1 / T, written out.
    probs = statistics.probabilities(logits / t)
    return np.mean(np.sum(probs * logits, -1) - logits[np.arange(len(labels)), labels])

  assert temperature == pytest.approx(optimize.brentq(slope, 0.05, 50), rel=1e-4)


def test_temperature_undoes_a_scale():
  logits, labels = _logits(1)
  ratio = statistics.fit_temperature(3 * logits, labels) / statistics.fit_temperature(logits, labels)
  assert ratio == pytest.approx(3, rel=1e-4)


def test_temperature_stays_finite_where_every_answer_is_right():
  assert 0.01 <= statistics.fit_temperature(np.eye(10), np.arange(10)) < 0.02


# Refusing.


def test_risk_coverage_by_hand():
  risk = statistics.risk_coverage(np.array([0.5, 0.9, 0.7, 0.8]), np.array([True, True, False, False]))
  np.testing.assert_allclose(risk, [0, 1 / 2, 2 / 3, 1 / 2])
  assert statistics.coverage_at_risk(risk, 0.5) == 1.0
  assert statistics.coverage_at_risk(risk, 0.4) == 0.25
  assert statistics.coverage_at_risk(risk + 0.1, 0.05) == 0.0


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_risk_does_not_depend_on_the_order_of_the_examples(seed):
  rng = np.random.default_rng(seed)
  confidence, correct = rng.integers(0, 4, 30) / 4, rng.random(30) < 0.7
  order = rng.permutation(30)
  risk = statistics.risk_coverage(confidence, correct)
  np.testing.assert_allclose(risk, statistics.risk_coverage(confidence[order], correct[order]), atol=1e-12)
  assert risk[-1] == pytest.approx(1 - correct.mean())


def test_disputed_labels_are_fifteen_images_of_the_test_split():
  assert len(set(statistics.DISPUTED)) == len(statistics.WRONG_LABELS) + len(statistics.UNCLEAR_LABELS) == 15
  assert min(statistics.DISPUTED) >= 0
  assert max(statistics.DISPUTED) < 10_000


def test_an_ensemble_averages_probabilities():
  logits = np.random.default_rng(0).normal(0, 3, (4, 50, 10))
  powers = np.exp(logits)
  expected = (powers / powers.sum(-1, keepdims=True)).mean(0)
  np.testing.assert_allclose(np.exp(statistics.average_logits(logits)), expected)
  single = np.log(powers[0] / powers[0].sum(-1, keepdims=True))
  np.testing.assert_allclose(statistics.average_logits(logits[:1]), single)
  # Far from everything that float64 can hold as a probability.
  assert np.isfinite(statistics.average_logits(np.array([[[0.0, -2000.0]], [[0.0, -3000.0]]]))).all()


def test_accuracy_by_size_is_the_mean_over_subsets():
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 3, 200)
  logits = rng.normal(0, 1, (5, 200, 3)) + np.eye(3)[labels]
  measured = statistics.accuracy_by_size(logits, labels, seed=0, num_subsets=400)
  probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for size in range(1, 6):
    subsets = itertools.combinations(range(5), size)
    exact = np.mean([np.mean(probs[list(one)].mean(0).argmax(-1) == labels) for one in subsets])
    assert measured[size - 1] == pytest.approx(exact, abs=1e-12 if size in (1, 5) else 0.005)
  assert statistics.accuracy_by_size(logits[:1], labels, seed=0).tolist() == [np.mean(logits[0].argmax(-1) == labels)]
  assert len(statistics.accuracy_by_size(logits[:2], labels, seed=0)) == 2


# Known and unknown.

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=15).map(lambda values: np.array(values) / 2)


@given(SCORES, SCORES)
@settings(max_examples=100, deadline=None)
def test_auroc_counts_pairs(known, unknown):
  pairs = (known[:, None] > unknown) + 0.5 * (known[:, None] == unknown)
  area = statistics.auroc(known, unknown)
  assert area == pytest.approx(pairs.mean(), abs=1e-12)
  assert area == pytest.approx(stats.mannwhitneyu(known, unknown).statistic / pairs.size, abs=1e-12)


@given(SCORES, SCORES)
@settings(max_examples=50, deadline=None)
def test_auroc_depends_on_the_order_of_the_scores_alone(known, unknown):
  area = statistics.auroc(known, unknown)
  assert statistics.auroc(np.exp(known) - 40, np.exp(unknown) - 40) == pytest.approx(area, abs=1e-12)
  assert statistics.auroc(-known, -unknown) == pytest.approx(1 - area, abs=1e-12)
  assert statistics.auroc(unknown, known) == pytest.approx(1 - area, abs=1e-12)
  assert statistics.auroc(known, known) == pytest.approx(0.5, abs=1e-12)
  assert 0 <= area <= 1


def test_auroc_of_separate_scores_and_of_infinite_ones():
  assert statistics.auroc(np.array([3, 2]), np.array([1, 0, 1])) == 1.0
  assert statistics.auroc(np.array([np.inf, 1.0]), np.array([np.inf, -np.inf])) == pytest.approx(0.625)


# Power laws.

SIZES = np.array([100, 300, 1000, 3000, 10_000, 60_000])


@given(st.floats(-0.5, 1.5), st.floats(0.01, 10), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_a_power_law_without_noise_is_found_exactly(exponent, coefficient, num_seeds):
  fit = statistics.fit_power_law(SIZES, np.tile(coefficient * SIZES**-exponent, (num_seeds, 1)), num_resamples=100)
  assert fit.exponent == pytest.approx(exponent, abs=1e-9)
  assert fit.coefficient == pytest.approx(coefficient, rel=1e-8)
  if num_seeds == 1:
    assert fit.interval_95 is None
  else:
    assert fit.interval_95 == pytest.approx((exponent, exponent), abs=1e-9)


def _noisy_errors(rng, num_seeds, exponent=0.6):
  return 3 * SIZES**-exponent * np.exp(rng.normal(0, 0.1, (num_seeds, len(SIZES))))


def test_a_power_law_is_the_line_through_the_logarithms_of_the_means():
  errors = _noisy_errors(np.random.default_rng(0), 5)
  fit = statistics.fit_power_law(SIZES, errors)
  line = stats.linregress(np.log(SIZES), np.log(errors.mean(0)))
  assert fit.exponent == pytest.approx(-line.slope)
  assert fit.coefficient == pytest.approx(np.exp(line.intercept))
  # All of the 5**5 resamples, each as likely as the others.
  resamples = errors[list(itertools.product(range(5), repeat=5))].mean(1)
  slopes = np.polyfit(np.log(SIZES), np.log(resamples).T, 1)[0]
  width = np.ptp(fit.interval_95)
  np.testing.assert_allclose(fit.interval_95, np.quantile(-slopes, [0.025, 0.975]), atol=0.03 * width)
  assert fit == statistics.fit_power_law(SIZES, errors)


@pytest.mark.parametrize(('num_seeds', 'covered'), [(5, 0.83), (30, 0.93)])
def test_the_interval_of_few_seeds_is_too_narrow(num_seeds, covered):
  rng, hits = np.random.default_rng(1), 0
  for _ in range(400):
    low, high = statistics.fit_power_law(SIZES, _noisy_errors(rng, num_seeds), num_resamples=500).interval_95
    hits += low <= 0.6 <= high
  assert hits / 400 == pytest.approx(covered, abs=0.05)


def test_sizes_without_an_error_are_left_out():
  errors = np.tile(2 * SIZES**-0.5, (3, 1))
  errors[1, -1] = 0.0
  errors[:, -2] *= 1.1
  fit = statistics.fit_power_law(SIZES, errors)
  assert fit == statistics.fit_power_law(SIZES[:-1], errors[:, :-1])
  errors[0, 1:] = 0.0
  assert statistics.fit_power_law(SIZES, errors) is None
