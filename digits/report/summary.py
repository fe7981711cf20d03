"""A comparison of trained models: what goes into it, and the numbers that come out."""

import itertools
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import numpy as np

from digits import data
from digits import statistics

# Of the resampling in the bootstrap; part of the method, so that the same answers always give the same interval.
_BOOTSTRAP_SEED = 0


class ModelRuns(NamedTuple):
  """One model, trained with S seeds.

  Attributes:
    config: the `TrainConfig` of the first seed.
    num_parameters: of one network.
    published: dict of accuracy, a fraction, and loss, nats, on the test split; None where there is none.
    histories: S lists of the records of metrics.jsonl.
    seconds: S dicts of seconds by phase, as in a run's results.json.
    seeds: S ints.
    valid_logits: float32[S, Nv, C], Nv may be 0.
    test_logits: float32[S, Nt, C].
    variables: of the first seed.
    model: the unbound `nn.Module`.
  """

  config: Any
  num_parameters: int
  published: dict | None
  histories: list
  seconds: list
  seeds: list
  valid_logits: np.ndarray
  test_logits: np.ndarray
  variables: Any
  model: nn.Module


class Comparison(NamedTuple):
  """Models measured on the same images; `models` keeps its order, which is that of every table."""

  models: dict[str, ModelRuns]
  test: data.Split
  valid: data.Split


def summarize(comparison):
  """The numbers of a comparison.

  Args:
    comparison: a `Comparison`.

  Returns:
    The content of its results.json: a dict that JSON can hold. `spread` below is the dict of `statistics.spread`.
      experiment: `compare`.
      num_seeds: of the model that has most.
      models: by name: num_parameters; published; test, a dict with the spreads of accuracy and loss; valid, the same,
        None where there is no validation split; seconds, a spread for each phase; calibration, a dict with the spreads
        of ece_before and ece_after, of temperature, and of test_loss_after, None where there is no validation split to
        fit it on; without_disputed, a dict with examples and the spread of accuracy, None where the test split is not
        MNIST's; area_under_risk_coverage, a spread; and per_class_accuracy, C spreads.
      pairs: for each pair of models a and b: difference, the accuracy of b less that of a, with its interval_95;
        mcnemar_p_per_seed; and mcnemar_p, which `statistics.combine_p_values` makes of them.
  """
  return {
    'experiment': 'compare',
    'num_seeds': max(len(runs.seeds) for runs in comparison.models.values()),
    'models': {name: _summarize_model(runs, comparison) for name, runs in comparison.models.items()},
    'pairs': [_compare_pair(a, b, comparison) for a, b in itertools.combinations(comparison.models, 2)],
  }


def disputed_images(comparison):
  """Indices, int[K], of the test images whose label people dispute; None where the test split is not MNIST's."""
  datasets = {runs.config.dataset for runs in comparison.models.values()}
  if datasets != {'mnist'} or len(comparison.test.label) != 10_000:
    return None
  return np.array(statistics.DISPUTED)


def _summarize_model(runs, comparison):
  test, valid = comparison.test.label, comparison.valid.label
  num_classes = runs.test_logits.shape[-1]
  correct = statistics.is_correct(runs.test_logits, test)
  by_class = statistics.per_class_accuracy(correct, test, num_classes)
  confidence = statistics.probabilities(runs.test_logits).max(-1)
  areas = [statistics.risk_coverage(c, r).mean() for c, r in zip(confidence, correct, strict=True)]
  disputed = disputed_images(comparison)
  return {
    'num_parameters': runs.num_parameters,
    'published': runs.published,
    'test': _scores(runs.test_logits, test),
    'valid': _scores(runs.valid_logits, valid) if len(valid) else None,
    'seconds': {phase: statistics.spread([s[phase] for s in runs.seconds]) for phase in runs.seconds[0]},
    'calibration': _calibration(runs, comparison),
    'without_disputed': None
    if disputed is None
    else {
      'examples': len(test) - len(disputed),
      'accuracy': statistics.spread(np.delete(correct, disputed, axis=1).mean(1)),
    },
    'area_under_risk_coverage': statistics.spread(areas),
    'per_class_accuracy': [
      statistics.spread(by_class[:, c]) if np.any(test == c) else None for c in range(num_classes)
    ],
  }


def _scores(logits, labels):
  return {
    'accuracy': statistics.spread(statistics.is_correct(logits, labels).mean(-1)),
    'loss': statistics.spread(statistics.cross_entropy(logits, labels).mean(-1)),
  }


def _calibration(runs, comparison):
  test, valid = comparison.test.label, comparison.valid.label
  correct = statistics.is_correct(runs.test_logits, test)

  def errors(logits):
    confidence = statistics.probabilities(logits).max(-1)
    return statistics.spread(
      [statistics.expected_calibration_error(*answers) for answers in zip(confidence, correct, strict=True)]
    )

  before = {'ece_before': errors(runs.test_logits)}
  temperatures = _fit_temperatures(runs, valid)
  if temperatures is None:
    return before | {'ece_after': None, 'temperature': None, 'test_loss_after': None}
  scaled = runs.test_logits / temperatures[:, None, None]
  return before | {
    'ece_after': errors(scaled),
    'temperature': statistics.spread(temperatures),
    'test_loss_after': statistics.spread(statistics.cross_entropy(scaled, test).mean(-1)),
  }


def _fit_temperatures(runs, valid_labels):
  """The temperature of each seed, float64[S], fitted on validation; None where there is no validation split."""
  if not len(valid_labels):
    return None
  return np.array([statistics.fit_temperature(logits, valid_labels) for logits in runs.valid_logits])


def _compare_pair(a, b, comparison):
  labels = comparison.test.label
  correct_a, correct_b = (statistics.is_correct(comparison.models[name].test_logits, labels) for name in (a, b))
  difference, low, high = statistics.bootstrap_difference(correct_a, correct_b, seed=_BOOTSTRAP_SEED)
  # The i-th seed of one against the i-th of the other: a comparison trains its models with the same seeds.
  p_values = [statistics.mcnemar_test(*answers) for answers in zip(correct_a, correct_b, strict=False)]
  return {
    'a': a,
    'b': b,
    'difference': difference,
    'interval_95': [low, high],
    'mcnemar_p': statistics.combine_p_values(p_values),
    'mcnemar_p_per_seed': p_values,
  }
