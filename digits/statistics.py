"""The statistics of a comparison, as pure functions of NumPy arrays.

Probabilities and accuracies are fractions, losses are in nats.
"""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, Num
import numpy as np
from scipy import optimize, special, stats

# Test images of MNIST whose label five human raters did not uphold, counted from 0: the majority chose another digit
# (wrong), or no digit had one (unclear). Northcutt, Athalye and Mueller 2021, arXiv:2103.14749; the votes
# are mturk/mnist_mturk.json of github.com/cleanlab/label-errors.
WRONG_LABELS = (947, 1621, 1901, 2462, 2597, 3558, 5937, 6651, 6783, 9729)
UNCLEAR_LABELS = (2130, 2654, 3520, 8527, 9679)
DISPUTED = tuple(sorted(WRONG_LABELS + UNCLEAR_LABELS))

NUM_BINS = 15
NUM_RESAMPLES = 10_000
NUM_SUBSETS = 100
_LOG_TEMPERATURE_BOUNDS = (np.log(0.01), np.log(100.0))


# Scores of one model.


def spread(per_seed: Sequence[float] | Num[np.ndarray, ' seeds']) -> dict[str, Any]:
  """Summarises one number that was measured for every seed.

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


def mean_interval(per_seed: Sequence[float] | Num[np.ndarray, ' seeds']) -> tuple[float, float] | None:
  """The 95 % interval of a mean over seeds, by Student's t distribution; None for a single seed."""
  values = np.asarray(per_seed, np.float64)
  if len(values) < 2:
    return None
  half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
  return float(values.mean()) - half, float(values.mean()) + half


def is_correct(
  logits: Float[np.ndarray, '*seeds examples classes'], labels: Int[np.ndarray, ' examples']
) -> Bool[np.ndarray, '*seeds examples']:
  """Whether the largest logit is that of the label; of equal logits the first counts."""
  return np.argmax(logits, axis=-1) == labels


def cross_entropy(
  logits: Float[np.ndarray, '*seeds examples classes'], labels: Int[np.ndarray, ' examples']
) -> Float[np.ndarray, '*seeds examples']:
  """The loss of every example, in nats and float64."""
  log_probs = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  index = np.broadcast_to(labels, log_probs.shape[:-1])[..., None]
  return -np.take_along_axis(log_probs, index, axis=-1)[..., 0]


def probabilities(logits: Float[np.ndarray, '*examples classes']) -> Float[np.ndarray, '*examples classes']:
  """The softmax of logits, in float64."""
  return special.softmax(np.asarray(logits, np.float64), axis=-1)


def confusion_matrix(
  predictions: Int[np.ndarray, ' examples'], labels: Int[np.ndarray, ' examples'], num_classes: int
) -> Int[np.ndarray, 'classes classes']:
  """Counts answers, with a row for each label and a column for each answer."""
  pairs = np.asarray(labels, np.int64) * num_classes + predictions
  return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_accuracy(
  correct: Bool[np.ndarray, '*seeds examples'], labels: Int[np.ndarray, ' examples'], num_classes: int
) -> Float[np.ndarray, '*seeds classes']:
  """The accuracy among the examples of each class, NaN for a class without examples."""
  members = np.equal.outer(labels, np.arange(num_classes))  # [N, C]
  counts = members.sum(0)
  return np.where(counts, correct @ members.astype(np.float64) / np.maximum(counts, 1), np.nan)


def wilson_interval(
  fraction: float | Float[np.ndarray, '*n'], count: float | Num[np.ndarray, '*n'], confidence: float = 0.95
) -> tuple[Any, Any]:
  """The interval of a proportion by the score test (Wilson 1927).

  Args:
    fraction: share of successes.
    count: number of trials, more than 0; it need not be whole, for an effective number of trials.
    confidence: confidence of the interval.

  Returns:
    The low and the high end, of the shape of `fraction`.
  """
  z = stats.norm.ppf((1 + confidence) / 2)
  centre = (fraction + z**2 / (2 * count)) / (1 + z**2 / count)
  half = z / (1 + z**2 / count) * np.sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
  return centre - half, centre + half


# Ensembles.


def average_logits(logits: Float[np.ndarray, 'members examples classes']) -> Float[np.ndarray, 'examples classes']:
  """The logarithms of the mean of the members' probabilities, in float64."""
  log_probs = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  return special.logsumexp(log_probs, axis=0) - np.log(len(logits))


def accuracy_by_size(
  logits: Float[np.ndarray, 'members examples classes'],
  labels: Int[np.ndarray, ' examples'],
  *,
  seed: int,
  num_subsets: int = NUM_SUBSETS,
) -> Float[np.ndarray, ' members']:
  """The accuracy of ensembles of 1, 2, ... members, each the mean over random subsets of that size.

  A random order of the members gives one subset of each size, so that the curve is as smooth as `num_subsets` orders
  make it. No subset is chosen: the last value is the ensemble of all, the first the mean of the single members.

  Args:
    logits: the members' logits.
    labels: the labels.
    seed: seed of the orders.
    num_subsets: number of orders; of one and of all members every subset is measured.
  """
  probs = probabilities(logits)
  singles = is_correct(logits, labels).mean()
  everyone = np.mean(probs.mean(0).argmax(-1) == labels)
  if len(logits) < 3:
    return np.array([singles, everyone][: len(logits)])
  rng, sums = np.random.default_rng(seed), np.zeros(len(logits))
  for _ in range(num_subsets):
    total = np.zeros(probs.shape[1:])
    for size, member in enumerate(rng.permutation(len(logits))):
      total += probs[member]
      sums[size] += np.mean(total.argmax(-1) == labels)
  return np.array([singles, *sums[1:-1] / num_subsets, everyone])


# Pairs of models.


def bootstrap_difference(
  correct_a: Bool[np.ndarray, 'seeds_a examples'],
  correct_b: Bool[np.ndarray, 'seeds_b examples'],
  *,
  seed: int,
  confidence: float = 0.95,
  num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float, float]:
  """The difference in accuracy of two models on the same examples, with its paired bootstrap interval.

  The resampled unit is the example: what is asked is what another test set of this kind would have said of these
  trained models. Accuracy is the mean over a model's seeds, so an example counts with its difference between the two
  means over seeds. These take few different values; that a resample draws n examples with replacement means that it
  draws how often each value comes from a multinomial distribution. This is the percentile interval of
  `scipy.stats.bootstrap`, hundreds of times faster.

  Args:
    correct_a: which answers of one model are correct.
    correct_b: which answers of the other model are correct, on the same examples; its seeds may differ.
    seed: seed of the resampling.
    confidence: confidence of the interval.
    num_resamples: number of resamples.

  Returns:
    The accuracy of b minus that of a, and the interval's low and high ends.
  """
  seeds_a, seeds_b = len(correct_a), len(correct_b)
  # Whole numbers, so that equal differences are equal.
  scaled = seeds_a * np.sum(correct_b, 0, dtype=np.int64) - seeds_b * np.sum(correct_a, 0, dtype=np.int64)
  values, counts = np.unique(scaled, return_counts=True)
  values, n = values / (seeds_a * seeds_b), scaled.size
  draws = np.random.default_rng(seed).multinomial(n, counts / n, size=num_resamples)
  low, high = np.quantile(draws @ values / n, [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(counts @ values / n), float(low), float(high)


def mcnemar_test(correct_a: Bool[np.ndarray, ' examples'], correct_b: Bool[np.ndarray, ' examples']) -> float:
  """Tests exactly whether two classifiers err equally often on the same examples (McNemar 1947).

  Only examples that exactly one of them answers correctly count; if the two are equally good, either kind
  is as likely as the other.

  Returns:
    The two-sided p-value; 1 where the two are right on the same examples.
  """
  only_a, only_b = int(np.sum(correct_a & ~correct_b)), int(np.sum(correct_b & ~correct_a))
  return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def combine_p_values(p_values: Sequence[float]) -> float:
  """One p-value of several that depend on each other in an unknown way.

  The k-th smallest of n p-values times n / k is a p-value whatever their dependence (Rueger 1978; see Vovk and Wang
  2020, Biometrika 107, arXiv:1212.4966). Here k is half of n, rounded up: the result is small when at least half of
  the tests say so, and one lucky seed does not decide. Of one p-value it is that p-value.
  """
  n = len(p_values)
  k = (n + 1) // 2
  return min(1.0, float(np.sort(p_values)[k - 1]) * n / k)


# Calibration.


class Reliability(NamedTuple):
  """Confidence against accuracy, by bins of equal width over [0, 1].

  Attributes:
    num_answers: number of answers in the bin.
    confidence: mean confidence in the bin; NaN in an empty one.
    accuracy: accuracy in the bin; NaN in an empty one.
  """

  num_answers: Int[np.ndarray, ' bins']
  confidence: Float[np.ndarray, ' bins']
  accuracy: Float[np.ndarray, ' bins']


def reliability(
  confidence: Float[np.ndarray, ' examples'], correct: Bool[np.ndarray, ' examples'], num_bins: int = NUM_BINS
) -> Reliability:
  """Sorts answers into bins by their confidence.

  Args:
    confidence: the probability given to the answer, in [0, 1].
    correct: whether the answer is correct.
    num_bins: number of bins; the i-th holds confidences in (i / num_bins, (i + 1) / num_bins], the first also 0.
  """
  index = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
  count = np.bincount(index, minlength=num_bins)
  sums = [np.bincount(index, weights=values, minlength=num_bins) for values in (confidence, correct)]
  return Reliability(count, *(np.where(count, total / np.maximum(count, 1), np.nan) for total in sums))


def expected_calibration_error(
  confidence: Float[np.ndarray, ' examples'], correct: Bool[np.ndarray, ' examples'], num_bins: int = NUM_BINS
) -> float:
  """The mean distance of accuracy from confidence over bins of equal width, weighted by their answers.

  Guo, Pleiss, Sun and Weinberger 2017, arXiv:1706.04599; see `reliability` for the arguments.
  """
  bins = reliability(confidence, correct, num_bins)
  return float(np.nansum(bins.num_answers * np.abs(bins.accuracy - bins.confidence)) / bins.num_answers.sum())


def fit_temperature(logits: Float[np.ndarray, 'examples classes'], labels: Int[np.ndarray, ' examples']) -> float:
  """The temperature T > 0 for which the softmax of logits / T has the lowest loss on these examples.

  One number, fitted on validation, that changes how sure the model is and never what it answers (Guo et al. 2017).

  Returns:
    T, kept within 0.01 and 100: where every answer is right or none is, the lowest loss is at 0 or infinity.
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


def risk_coverage(
  confidence: Float[np.ndarray, ' examples'], correct: Bool[np.ndarray, ' examples']
) -> Float[np.ndarray, ' examples']:
  """The error rate among the answers that remain when the least certain are refused.

  El-Yaniv and Wiener 2010, JMLR 11. Answers of equal confidence are kept or refused together: between them the risk is
  that of keeping some at random, so the order of the examples does not matter.

  Returns:
    The i-th is the risk when the i + 1 most certain examples are answered.
  """
  order = np.argsort(-confidence, kind='stable')
  _, group, sizes = np.unique(-confidence[order], return_inverse=True, return_counts=True)
  wrong = np.bincount(group, weights=~correct[order]) / sizes  # The share of errors in each group of equals.
  return np.cumsum(wrong[group]) / np.arange(1, len(order) + 1)


def coverage_at_risk(risk: Float[np.ndarray, ' examples'], limit: float) -> float:
  """The largest share of examples that can be answered with an error rate of at most `limit`.

  Args:
    risk: the result of `risk_coverage`.
    limit: the highest error rate allowed.

  Returns:
    A fraction; 0 where even the most certain answer is too risky.
  """
  allowed = np.flatnonzero(risk <= limit)
  return float(allowed[-1] + 1) / len(risk) if len(allowed) else 0.0


# Telling what is known from what is not.


def auroc(known: Num[np.ndarray, ' known'], unknown: Num[np.ndarray, ' unknown']) -> float:
  """The probability that a known example has a higher score than an unknown one; equal scores count half.

  This is the area under the receiver operating characteristic, and the statistic of Mann and Whitney 1947 over the
  number of pairs (Hanley and McNeil 1982): it is counted by ranks, without a threshold.

  Args:
    known: scores of examples that should have high ones, at least one, none of them NaN.
    unknown: scores of examples that should have low ones, likewise.

  Returns:
    A fraction: 1 where every known score is higher, 0.5 where the scores say nothing.
  """
  ranks = stats.rankdata(np.concatenate([known, unknown]))[: len(known)]
  return float((ranks.mean() - (len(known) + 1) / 2) / len(unknown))


# How errors fall with more data.


class PowerLaw(NamedTuple):
  """errors = coefficient * sizes ** -exponent.

  Attributes:
    exponent: how fast errors fall; twice the data leave 2 ** -exponent of them.
    coefficient: the error at size 1, to which the line is extended.
    interval_95: the bootstrap interval of the exponent; None for a single seed.
  """

  exponent: float
  coefficient: float
  interval_95: tuple[float, float] | None


def fit_power_law(
  sizes: Num[np.ndarray, ' sizes'],
  errors: Float[np.ndarray, 'seeds sizes'],
  *,
  seed: int = 0,
  num_resamples: int = NUM_RESAMPLES,
) -> PowerLaw | None:
  """Fits the power law that errors follow as a training set grows (Hestness et al. 2017, arXiv:1712.00409).

  The fit is a line through the logarithms of the sizes and of the mean errors over seeds, by least squares. For the
  interval whole seeds are resampled, with replacement (Efron 1979). So it holds what differs between the seeds, but
  neither the choice of the test images, which they share, nor whether errors follow a power law at all. Of few seeds it
  is too narrow: it covers the true exponent in about 83 % of cases with five, in 93 % with thirty, not in 95 %.

  Args:
    sizes: numbers of training examples, two of them different.
    errors: error rates by seed and by size.
    seed: seed of the resampling.
    num_resamples: number of resamples.

  Returns:
    The fit; None where fewer than two sizes are left, as those at which a seed has no error at all are left out. 0 has
    no logarithm, and says only that the test set is too small to measure that error.
  """
  measured = (errors > 0).all(0)
  sizes, errors = np.asarray(sizes, np.float64)[measured], errors[:, measured].astype(np.float64)
  if len(np.unique(sizes)) < 2:
    return None
  log_sizes = np.log(sizes) - np.log(sizes).mean()

  def slopes(means: Float[np.ndarray, '*resamples sizes']) -> Any:
    return np.log(means) @ log_sizes / (log_sizes @ log_sizes)

  num_seeds, mean = len(errors), errors.mean(0)
  exponent = -float(slopes(mean))
  coefficient = float(np.exp(np.log(mean).mean() + exponent * np.log(sizes).mean()))
  if num_seeds == 1:
    return PowerLaw(exponent, coefficient, None)
  # How often each seed is drawn.
  counts = np.random.default_rng(seed).multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_resamples)
  low, high = np.quantile(-slopes(counts @ errors / num_seeds), [0.025, 0.975])
  return PowerLaw(exponent, coefficient, (float(low), float(high)))
