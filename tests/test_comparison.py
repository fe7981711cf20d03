import json

import numpy as np
import pytest
from support.comparisons import make_comparison, make_runs

from digits import statistics
from digits.report import summary as comparison_lib


def test_results_are_what_the_readme_and_others_read():
  results = comparison_lib.summarize(make_comparison({'mlp': 2, 'cnn': 4}))
  assert results == json.loads(json.dumps(results, allow_nan=False))
  assert results['experiment'] == 'compare'
  assert results['num_seeds'] == 2
  cnn = results['models']['cnn']
  assert cnn['published'] == {'accuracy': 0.9899, 'loss': 0.0296}
  for split in ('test', 'valid'):
    for score in ('accuracy', 'loss'):
      assert cnn[split][score].keys() == {'mean', 'std', 'n', 'per_seed'}
  assert cnn['seconds']['train']['per_seed'] == [2.0, 3.0]
  (pair,) = results['pairs']
  assert (pair['a'], pair['b']) == ('mlp', 'cnn')
  gap = cnn['test']['accuracy']['mean'] - results['models']['mlp']['test']['accuracy']['mean']
  assert pair['difference'] == pytest.approx(gap)
  assert pair['interval_95'][0] < pair['difference'] < pair['interval_95'][1]
  assert pair['mcnemar_p'] == statistics.combine_p_values(pair['mcnemar_p_per_seed'])


def test_accuracy_and_loss_are_those_of_each_seed():
  comparison = make_comparison({'softmax': 2})
  runs = comparison.models['softmax']
  measured = comparison_lib.summarize(comparison)['models']['softmax']['test']
  for seed, logits in enumerate(runs.test_logits.astype(np.float64)):
    labels = comparison.test.label
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert measured['accuracy']['per_seed'][seed] == np.mean(logits.argmax(-1) == labels)
    assert measured['loss']['per_seed'][seed] == pytest.approx(-log_probs[np.arange(len(labels)), labels].mean())


def test_temperature_is_fitted_on_validation_and_not_on_test():
  comparison = make_comparison({'softmax': 2})
  runs = comparison.models['softmax']
  scaled = runs._replace(valid_logits=2 * runs.valid_logits)
  before = comparison_lib.summarize(comparison)['models']['softmax']['calibration']
  after = comparison_lib.summarize(comparison._replace(models={'softmax': scaled}))['models']['softmax']['calibration']
  assert after['temperature']['mean'] == pytest.approx(2 * before['temperature']['mean'], rel=1e-3)
  assert after['ece_before'] == before['ece_before']
  assert after['ece_after'] != before['ece_after']


def test_one_model_with_one_seed_and_no_published_result():
  comparison = make_comparison({'softmax': 2}, num_seeds=1)
  runs = make_runs('mine', 2, comparison.test, comparison.valid, model='mlp', num_seeds=1)
  results = comparison_lib.summarize(comparison._replace(models={'mine': runs}))
  assert results['models']['mine']['published'] is None
  assert results['models']['mine']['test']['accuracy']['std'] is None
  assert results['pairs'] == []


def test_without_a_validation_split_nothing_is_fitted():
  results = comparison_lib.summarize(make_comparison({'softmax': 2}, num_valid=0))
  assert results['models']['softmax']['valid'] is None
  assert results['models']['softmax']['calibration']['temperature'] is None
  assert results['models']['softmax']['calibration']['ece_before']['mean'] > 0


def test_an_absent_digit_has_no_accuracy():
  comparison = make_comparison({'softmax': 2}, num_test=9)
  assert comparison_lib.summarize(comparison)['models']['softmax']['per_class_accuracy'][9] is None


def test_disputed_images_are_left_out_of_mnist_only():
  comparison = make_comparison({'softmax': 10}, num_test=10_000)
  runs = comparison.models['softmax']
  # Every disputed image is wrong; and so is one other.
  wrong = runs.test_logits.copy()
  wrong[:, [*statistics.DISPUTED, 0]] = np.roll(wrong[:, [*statistics.DISPUTED, 0]], 1, axis=-1)
  others = np.delete(statistics.is_correct(wrong, comparison.test.label), statistics.DISPUTED, axis=1)
  comparison = comparison._replace(models={'softmax': runs._replace(test_logits=wrong)})
  without = comparison_lib.summarize(comparison)['models']['softmax']['without_disputed']
  assert without['examples'] == 9985
  assert without['accuracy']['per_seed'] == pytest.approx(others.mean(1))
  assert (
    without['accuracy']['mean'] > comparison_lib.summarize(comparison)['models']['softmax']['test']['accuracy']['mean']
  )
  fashion = make_comparison({'softmax': 10}, num_test=10_000, dataset='fashion_mnist')
  assert comparison_lib.summarize(fashion)['models']['softmax']['without_disputed'] is None
