"""A comparison of trained models: what goes into it, and the numbers that come out."""

from collections.abc import Sequence
import itertools
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Float, Int
import numpy as np

from digits import data, statistics
from digits.config import TrainConfig
from digits.data import arrays
from digits.store.records import Record
from digits.train.step import Variables

# Seed of the resampling in the bootstrap; part of the method, so that the same answers always give the same interval.
_BOOTSTRAP_SEED = 0


class ModelRuns(NamedTuple):
  """One model, trained with several seeds.

  Attributes:
    config: the config of the first seed.
    num_parameters: number of parameters of one network.
    published: accuracy, a fraction, and loss, nats, on the test split; None if nothing is published.
    histories: the records of metrics.jsonl for each seed.
    seconds: the seconds by phase for each seed, as in a run's results.json.
    devices: what trained each seed, likewise.
    seeds: the seeds.
    valid_logits: the logits of the validation split, which may be empty.
    test_logits: the logits of the test split.
    variables: the variables of the first seed.
    model: the unbound module.
  """

  config: TrainConfig
  num_parameters: int
  published: dict[str, float] | None
  histories: list[list[Record]]
  seconds: list[dict[str, float]]
  devices: list[str]
  seeds: list[int]
  valid_logits: Float[np.ndarray, 'seeds valid classes']
  test_logits: Float[np.ndarray, 'seeds test classes']
  variables: Variables
  model: nn.Module


class Comparison(NamedTuple):
  """Models measured on the same images.

  Attributes:
    models: by name; their order is that of every table.
    test: the test split.
    valid: the validation split, which may be empty.
    pairs: the names of the models whose difference is tested; None for every pair.
  """

  models: dict[str, ModelRuns]
  test: data.Split
  valid: data.Split
  pairs: Sequence[tuple[str, str]] | None = None


def summarize(comparison: Comparison) -> dict[str, Any]:
  """The numbers of a comparison.

  Returns:
    The content of its results.json: a dict that JSON can hold. `spread` below is the dict of `statistics.spread`.
      experiment: `compare`.
      num_seeds: the number of seeds of the model that has most.
      models: by name: num_parameters; published; devices, what trained it; test, the spreads of accuracy and loss;
        valid, the same, None without a validation split; seconds, a spread for each phase; calibration, the spreads of
        ece_before and ece_after, of temperature, and of test_loss_after, None without a validation split to fit it on;
        without_disputed, examples and the spread of accuracy, None if the test split is not MNIST's;
        area_under_risk_coverage, a spread; and per_class_accuracy, one spread per class.
      pairs: for each pair of models a and b that is compared: difference, the accuracy of b minus that of a, with its
        interval_95; mcnemar_p_per_seed; and mcnemar_p, which `statistics.combine_p_values` makes of them.
  """
  return {
    'experiment': 'compare',
    'num_seeds': max(len(runs.seeds) for runs in comparison.models.values()),
    'models': {name: _summarize_model(runs, comparison) for name, runs in comparison.models.items()},
    'pairs': [
      _compare_pair(a, b, comparison) for a, b in comparison.pairs or itertools.combinations(comparison.models, 2)
    ],
  }


def disputed_images(comparison: Comparison) -> Int[np.ndarray, ' disputed'] | None:
  """Indices of the test images whose label people dispute; None if the test split is not MNIST's."""
  datasets = {runs.config.dataset for runs in comparison.models.values()}
  if not datasets <= arrays.OF_MNIST or len(comparison.test.label) != 10_000:
    return None
  return np.array(statistics.DISPUTED)


def _summarize_model(runs: ModelRuns, comparison: Comparison) -> dict[str, Any]:
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
    'devices': sorted(set(runs.devices)),
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


def _scores(logits: Float[np.ndarray, 'seeds n classes'], labels: Int[np.ndarray, ' n']) -> dict[str, Any]:
  return {
    'accuracy': statistics.spread(statistics.is_correct(logits, labels).mean(-1)),
    'loss': statistics.spread(statistics.cross_entropy(logits, labels).mean(-1)),
  }


def _calibration(runs: ModelRuns, comparison: Comparison) -> dict[str, Any]:
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


def _fit_temperatures(runs: ModelRuns, valid_labels: Int[np.ndarray, ' valid']) -> Float[np.ndarray, ' seeds'] | None:
  """The temperature of each seed, fitted on validation; None without a validation split."""
  if not len(valid_labels):
    return None
  return np.array([statistics.fit_temperature(logits, valid_labels) for logits in runs.valid_logits])


def _compare_pair(a: str, b: str, comparison: Comparison) -> dict[str, Any]:
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
