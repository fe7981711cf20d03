"""The statistics of a comparison, as pure functions of NumPy arrays.

Throughout, S counts seeds, N examples and C classes; probabilities and accuracies are fractions, losses are nats.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy import special
from scipy import stats

# Test images of MNIST whose label five human raters did not uphold, counted from 0: the majority chose another digit
# (wrong), or no digit had one (unclear). Northcutt, Athalye and Mueller 2021, arXiv:2103.14749; the votes
# are mturk/mnist_mturk.json of github.com/cleanlab/label-errors.
WRONG_LABELS = (947, 1621, 1901, 2462, 2597, 3558, 5937, 6651, 6783, 9729)
UNCLEAR_LABELS = (2130, 2654, 3520, 8527, 9679)
DISPUTED = tuple(sorted(WRONG_LABELS + UNCLEAR_LABELS))

NUM_BINS = 15
NUM_RESAMPLES = 10_000
_LOG_TEMPERATURE_BOUNDS = (np.log(0.01), np.log(100.0))


# Scores of one model.


def spread(per_seed):
  """Summarises one number that was measured for every seed.

  Args:
    per_seed: float[S], S >= 1.

  Returns:
    dict of mean; std, the sample standard deviation, None for a single seed; n; and per_seed, a list.
  """
  values = np.asarray(per_seed, np.float64)
  return {
    'mean': float(values.mean()),
    'std': float(values.std(ddof=1)) if len(values) > 1 else None,
    'n': len(values),
    'per_seed': values.tolist(),
  }


def is_correct(logits, labels):
  """Whether the largest logit is that of the label, bool[..., N]; of equal logits the first counts."""
  return np.argmax(logits, axis=-1) == labels


def cross_entropy(logits, labels):
  """The loss of every example.

  Args:
    logits: float[..., N, C].
    labels: int[N].

  Returns:
    float64[..., N], nats.
  """
  log_probs = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  index = np.broadcast_to(labels, log_probs.shape[:-1])[..., None]
  return -np.take_along_axis(log_probs, index, axis=-1)[..., 0]


def probabilities(logits):
  """The softmax of logits float[..., C], in float64."""
  return special.softmax(np.asarray(logits, np.float64), axis=-1)


def confusion_matrix(predictions, labels, num_classes):
  """Counts answers.

  Args:
    predictions: int[N].
    labels: int[N].
    num_classes: C.

  Returns:
    int64[C, C]: row by label, column by answer.
  """
  pairs = np.asarray(labels, np.int64) * num_classes + predictions
  return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_accuracy(correct, labels, num_classes):
  """The accuracy among the examples of each class.

  Args:
    correct: bool[..., N].
    labels: int[N].
    num_classes: C.

  Returns:
    float64[..., C], NaN for a class without examples.
  """
  members = np.equal.outer(labels, np.arange(num_classes))  # [N, C]
  counts = members.sum(0)
  return np.where(counts, correct @ members.astype(np.float64) / np.maximum(counts, 1), np.nan)


def wilson_interval(fraction, count, confidence=0.95):
  """The interval of a proportion by the score test (Wilson 1927).

  Args:
    fraction: float[...], of successes.
    count: float[...], trials, more than 0; need not be whole, for an effective number of trials.
    confidence: of the interval.

  Returns:
    low and high, float64[...].
  """
  z = stats.norm.ppf((1 + confidence) / 2)
  centre = (fraction + z**2 / (2 * count)) / (1 + z**2 / count)
  half = z / (1 + z**2 / count) * np.sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
  return centre - half, centre + half


# Pairs of models.


def bootstrap_difference(correct_a, correct_b, *, seed, confidence=0.95, num_resamples=NUM_RESAMPLES):
  """The difference in accuracy of two models on the same examples, with its paired bootstrap interval.

  The resampled unit is the example: what is asked is what another test set of this kind would have said of these
  trained models. Accuracy is the mean over a model's seeds, so an example counts with its difference between the two
  means over seeds. These take few different values; that a resample draws n examples with replacement means that it
  draws how often each value comes from a multinomial distribution. This is the percentile interval of
  `scipy.stats.bootstrap`, hundreds of times faster.

  Args:
    correct_a: bool[S_a, N].
    correct_b: bool[S_b, N], on the same examples; the seeds need not be the same.
    seed: of the resampling.
    confidence: of the interval.
    num_resamples: how many.

  Returns:
    The accuracy of b less that of a, and the interval's low and high ends.
  """
  seeds_a, seeds_b = len(correct_a), len(correct_b)
  # Whole numbers, so that equal differences are equal.
  scaled = seeds_a * np.sum(correct_b, 0, dtype=np.int64) - seeds_b * np.sum(correct_a, 0, dtype=np.int64)
  values, counts = np.unique(scaled, return_counts=True)
  values, n = values / (seeds_a * seeds_b), len(scaled)
  draws = np.random.default_rng(seed).multinomial(n, counts / n, size=num_resamples)
  low, high = np.quantile(draws @ values / n, [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(counts @ values / n), float(low), float(high)


def mcnemar_test(correct_a, correct_b):
  """Tests exactly whether two classifiers err equally often on the same examples (McNemar 1947).

  Only examples that one of them answers rightly and the other wrongly tell; if the two are equally good, either kind
  is as likely as the other.

  Args:
    correct_a: bool[N].
    correct_b: bool[N].

  Returns:
    The two-sided p-value; 1 where the two are right on the same examples.
  """
  only_a, only_b = int(np.sum(correct_a & ~correct_b)), int(np.sum(correct_b & ~correct_a))
  return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def combine_p_values(p_values):
  """One p-value of several that depend on each other in an unknown way.

  The k-th smallest of n p-values times n / k is a p-value whatever their dependence (Rueger 1978; see Vovk and Wang
  2020, Biometrika 107, arXiv:1212.4966). Here k is half of n, rounded up: the result is small when at least half of
  the tests say so, and one lucky seed does not decide. Of one p-value it is that p-value.

  Args:
    p_values: float[n], n >= 1.

  Returns:
    float, at most 1.
  """
  n = len(p_values)
  k = (n + 1) // 2
  return min(1.0, float(np.sort(p_values)[k - 1]) * n / k)


# Calibration.


class Reliability(NamedTuple):
  """Confidence against accuracy, by bins of equal width over [0, 1].

  Attributes:
    count: int64[bins], answers in the bin.
    confidence: float64[bins], mean in the bin; NaN in an empty one.
    accuracy: float64[bins]; NaN in an empty one.
  """

  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray


def reliability(confidence, correct, num_bins=NUM_BINS):
  """Sorts answers into bins by their confidence.

  Args:
    confidence: float[N] in [0, 1], the probability given to the answer.
    correct: bool[N].
    num_bins: bins; the i-th holds confidences in (i / num_bins, (i + 1) / num_bins], the first also 0.

  Returns:
    A `Reliability`.
  """
  index = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
  count = np.bincount(index, minlength=num_bins)
  sums = [np.bincount(index, weights=values, minlength=num_bins) for values in (confidence, correct)]
  return Reliability(count, *(np.where(count, total / np.maximum(count, 1), np.nan) for total in sums))


def expected_calibration_error(confidence, correct, num_bins=NUM_BINS):
  """The mean distance of accuracy from confidence over bins of equal width, weighted by their answers.

  Guo, Pleiss, Sun and Weinberger 2017, arXiv:1706.04599.

  Args:
    confidence: float[N] in [0, 1].
    correct: bool[N].
    num_bins: bins over [0, 1].

  Returns:
    A fraction in [0, 1].
  """
  bins = reliability(confidence, correct, num_bins)
  return float(np.nansum(bins.count * np.abs(bins.accuracy - bins.confidence)) / bins.count.sum())


def fit_temperature(logits, labels):
  """The temperature T > 0 for which the softmax of logits / T has the least loss on these examples.

  One number, fitted on validation, that changes how sure the model is and never what it answers (Guo et al. 2017).

  Args:
    logits: float[N, C], N >= 1.
    labels: int[N].

  Returns:
    T, kept within 0.01 and 100: where every answer is right or none is, the least loss is at 0 or infinity.
  """
  logits = np.asarray(logits, np.float64)
  fit = optimize.minimize_scalar(
    lambda log_temperature: cross_entropy(logits / np.exp(log_temperature), labels).mean(),
    bounds=_LOG_TEMPERATURE_BOUNDS,
    method='bounded',
    options={'xatol': 1e-6},
  )
  return float(np.exp(fit.x))


# Refusing to answer.


def risk_coverage(confidence, correct):
  """The error rate among the answers that remain when the least certain are refused.

  El-Yaniv and Wiener 2010, JMLR 11. Answers of equal confidence are kept or refused together: between them the risk is
  that of keeping some at random, so the order of the examples does not matter.

  Args:
    confidence: float[N].
    correct: bool[N].

  Returns:
    float64[N]: the i-th is the risk when the i + 1 most certain of N are answered.
  """
  order = np.argsort(-confidence, kind='stable')
  _, group, sizes = np.unique(-confidence[order], return_inverse=True, return_counts=True)
  wrong = np.bincount(group, weights=~correct[order]) / sizes  # The share of errors in each group of equals.
  return np.cumsum(wrong[group]) / np.arange(1, len(order) + 1)


def coverage_at_risk(risk, limit):
  """The largest share of examples that can be answered with an error rate of at most `limit`.

  Args:
    risk: float[N], from `risk_coverage`.
    limit: the greatest error rate allowed.

  Returns:
    A fraction; 0 where even the most certain answer is too risky.
  """
  allowed = np.flatnonzero(risk <= limit)
  return float(allowed[-1] + 1) / len(risk) if len(allowed) else 0.0
