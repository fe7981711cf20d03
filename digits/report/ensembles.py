"""Ensembles of a comparison's networks: the numbers."""

from typing import Any

from jaxtyping import Float, Int
import numpy as np

from digits import statistics
from digits.report import summary

# Seed of what is drawn here; part of the method, so that the same answers always give the same numbers.
_SEED = 0


def measure(comparison: summary.Comparison) -> dict[str, Any]:
  """Measures the ensembles of a comparison's networks.

  Returns:
    By the name of a recipe with more than one seed, and as `all` for those of all recipes together, where there are
    more than one:
      members: number of networks.
      accuracy, loss: of the mean of their probabilities on the test split, and interval_95, Wilson's, of the accuracy.
      test, valid: these again, and those of the validation split, with the number of examples, as a run has them.
      single: the spread of the members' own accuracies.
      gain: accuracy of the ensemble minus the mean of its members, with gain_interval_95, the paired bootstrap's.
      accuracy_by_size: mean over random subsets of 1, 2, ... members.
      calibration: ece_before and, after the temperature that was fitted on validation, ece_after and loss_after; these
        and the temperature are None without a validation split.
  """
  models = comparison.models
  together = {name: [runs] for name, runs in models.items() if len(runs.seeds) > 1}
  if len(models) > 1:
    together['all'] = list(models.values())
  return {
    name: _measure(
      np.concatenate([runs.test_logits for runs in members]),
      np.concatenate([runs.valid_logits for runs in members]),
      comparison,
    )
    for name, members in together.items()
  }


def _measure(
  test_logits: Float[np.ndarray, 'members test classes'],
  valid_logits: Float[np.ndarray, 'members valid classes'],
  comparison: summary.Comparison,
) -> dict[str, Any]:
  labels = comparison.test.label
  logits = statistics.average_logits(test_logits)
  correct, singles = statistics.is_correct(logits, labels), statistics.is_correct(test_logits, labels)
  valid = statistics.average_logits(valid_logits)
  scores = _score(logits, labels)
  gain, low, high = statistics.bootstrap_difference(singles, correct[None], seed=_SEED)
  return {
    'members': len(test_logits),
    'accuracy': scores['accuracy'],
    'interval_95': [float(end) for end in statistics.wilson_interval(scores['accuracy'], len(labels))],
    'loss': scores['loss'],
    'test': scores,
    'valid': _score(valid, comparison.valid.label) if len(valid) else None,
    'single': statistics.spread(singles.mean(-1)),
    'gain': gain,
    'gain_interval_95': [low, high],
    'accuracy_by_size': statistics.accuracy_by_size(test_logits, labels, seed=_SEED).tolist(),
    'calibration': _calibrate(logits, valid, comparison),
  }


def _score(logits: Float[np.ndarray, 'examples classes'], labels: Int[np.ndarray, ' examples']) -> dict[str, Any]:
  return {
    'accuracy': float(statistics.is_correct(logits, labels).mean()),
    'loss': float(statistics.cross_entropy(logits, labels).mean()),
    'examples': len(labels),
  }


def _calibrate(
  test_logits: Float[np.ndarray, 'test classes'],
  valid_logits: Float[np.ndarray, 'valid classes'],
  comparison: summary.Comparison,
) -> dict[str, Any]:
  labels = comparison.test.label
  correct = statistics.is_correct(test_logits, labels)

  def error(logits):
    return statistics.expected_calibration_error(statistics.probabilities(logits).max(-1), correct)

  before = {'ece_before': error(test_logits)}
  if not len(comparison.valid.label):
    return before | {'ece_after': None, 'temperature': None, 'loss_after': None}
  temperature = statistics.fit_temperature(valid_logits, comparison.valid.label)
  scaled = test_logits / temperature
  return before | {
    'ece_after': error(scaled),
    'temperature': temperature,
    'loss_after': float(statistics.cross_entropy(scaled, labels).mean()),
  }
