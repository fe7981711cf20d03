"""Every sentence turns with its numbers."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from digits import statistics
from digits.report import figures, findings


def _plain(text):
  return text.replace('\u00a0', ' ')


def _pair(difference, interval, p):
  return {'a': 'mlp', 'b': 'cnn', 'difference': difference, 'interval_95': interval, 'mcnemar_p': p}


def _model(per_seed, num_parameters=100, train_seconds=1.0):
  return {
    'num_parameters': num_parameters,
    'test': {'accuracy': statistics.spread(per_seed), 'loss': statistics.spread([0.1] * len(per_seed))},
    'seconds': {'train': {'mean': train_seconds}},
  }


@pytest.mark.parametrize(
  ('p', 'text'),
  [
    (1.0, 'p = 1'),
    (0.0123, 'p = 0.012'),
    (0.00096, 'p = 1 \u00d7 10⁻³'),
    (2.3e-12, 'p = 2 \u00d7 10⁻¹²'),
    (0.0, 'p < 10⁻¹⁵'),
  ],
)
def test_p_values(p, text):
  assert _plain(findings.p_value(p)) == text


def test_a_real_difference_names_the_better_model_first():
  sentence = _plain(findings.pair_difference(_pair(0.014, [0.012, 0.016], 1e-20)))
  assert sentence.startswith('cnn is more accurate than mlp by 1.40 points; this is significant')
  assert '+1.20 to +1.60' in sentence
  turned = _plain(findings.pair_difference(_pair(-0.014, [-0.016, -0.012], 1e-20)))
  assert turned == sentence.replace('cnn', 'X').replace('mlp', 'cnn').replace('X', 'mlp')


@pytest.mark.parametrize(
  ('interval', 'p', 'why'),
  [
    ([-0.001, 0.003], 0.2, 'contains 0'),
    ([-0.001, 0.003], 0.01, 'contains 0'),
    ([0.001, 0.003], 0.06, 'does not reject'),
  ],
)
def test_no_difference_is_claimed_where_the_data_do_not_tell(interval, p, why):
  sentence = findings.pair_difference(_pair(0.001, interval, p))
  assert 'not established' in sentence
  assert why in sentence
  assert 'significant' not in sentence


@given(st.floats(-0.5, 0.5), st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_significant_is_never_said_of_an_interval_that_contains_zero(difference, below, above, p):
  low, high = difference - below, difference + above
  pair = _pair(difference, [low, high], p)
  models = {'mlp': _model([0.5 - difference / 2]), 'cnn': _model([0.5 + difference / 2])}
  if low <= 0 <= high or p >= 0.05:
    assert 'significant' not in findings.pair_difference(pair)
    assert 'significant' not in findings.best_model(models, [pair])
  else:
    assert 'significant' in findings.pair_difference(pair)


def test_the_best_model_is_the_one_with_the_highest_mean():
  models = {'mlp': _model([0.97, 0.98]), 'cnn': _model([0.98, 0.99])}
  sentence = _plain(findings.best_model(models, [_pair(0.01, [0.005, 0.015], 1e-9)]))
  assert sentence == (
    'Of 2 models, cnn has the highest test accuracy, 98.50 % (mean of 2 seeds); its lead over the other is significant.'
  )
  models = {'mlp': _model([0.99]), 'cnn': _model([0.98])}
  sentence = _plain(findings.best_model(models, [_pair(-0.01, [-0.02, 0.001], 0.07)]))
  assert 'mlp has the highest test accuracy, 99.00 % (one seed)' in sentence
  assert 'do not establish a difference from cnn' in sentence


def test_equal_models_share_the_first_place():
  sentence = findings.best_model({'mlp': _model([0.5]), 'cnn': _model([0.5])}, [_pair(0.0, [0.0, 0.0], 1.0)])
  assert 'mlp and cnn share' in sentence


@pytest.mark.parametrize(
  ('per_seed', 'said'),
  [
    ([0.991, 0.992], '0.25 points above the published 98.90 % in accuracy, where 2 of 2 seeds lie above it'),
    ([0.988, 0.9885], '0.07 points below the published 98.90 % in accuracy, where 0 of 2 seeds lie above it'),
    ([0.988, 0.990], 'equal to the published 98.90 % in accuracy, where 1 of 2 seeds lies above it'),
  ],
)
def test_against_the_published_accuracy(per_seed, said):
  published = {'accuracy': 0.989, 'loss': 0.03}
  assert said in _plain(findings.against_published('cnn', _model(per_seed)['test'], published))


@pytest.mark.parametrize(
  ('loss', 'said'), [(0.02, '0.0100 below the'), (0.0401, '0.0101 above the'), (0.03, 'equal to the')]
)
def test_against_the_published_loss(loss, said):
  test = {'accuracy': statistics.spread([0.99]), 'loss': statistics.spread([loss])}
  assert f'{said} published loss of 0.0300.' in findings.against_published('cnn', test, {'accuracy': 0.5, 'loss': 0.03})


def test_no_published_result_is_made_up():
  assert 'no published result' in findings.against_published('mine', _model([0.9])['test'], None)


@given(st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_the_difference_to_the_published_is_that_of_the_numbers_shown(accuracy, published):
  sentence = _plain(
    findings.against_published('cnn', _model([accuracy])['test'], {'accuracy': published / 100, 'loss': 1})
  )
  shown = float(f'{100 * accuracy:.2f}') - published
  assert f'{abs(shown):.2f} points' in sentence or 'equal to' in sentence


def test_cost():
  models = {'softmax': _model([0.9], 100, 2.0), 'cnn': _model([0.95], 250, 5.0)}
  assert _plain(findings.cost(models)) == (
    'cnn has 2.5 times the parameters of softmax and is 5.00 points more accurate; training took 2.5 times as long.'
  )
  assert 'also has the fewest parameters' in findings.cost({'a': _model([0.9], 1), 'b': _model([0.8], 2)})


def _curve(*values):
  values = np.array(values)
  return figures.Curve(np.arange(1.0, values.shape[1] + 1), values)


def test_learning_tells_falling_from_risen_loss():
  falling = findings.learning('mlp', _curve([0.5, 0.1]), _curve([0.5, 0.3], [0.5, 0.4]))
  assert 'lowest, 0.3500, at epoch 2 of 2; in 2 of 2 seeds the last epoch was the best' in falling
  assert 'lies 0.2500 above the training loss' in falling
  risen = findings.learning('mlp', _curve([0.5, 0.9]), _curve([0.3, 0.5]))
  assert 'lowest, 0.3000, at epoch 1 of 2; in 0 of 1 seed the last epoch was the best' in risen
  assert 'lies 0.4000 below the training loss' in risen


def test_a_training_loss_of_another_kind_is_named_and_not_compared():
  sentence = findings.learning('own', _curve([0.5, 0.9]), _curve([0.3, 0.5]), 'cross-entropy with label smoothing 0.1')
  assert sentence.endswith(
    'Its training loss is cross-entropy with label smoothing 0.1 and cannot be compared with it.'
  )


def test_confusions():
  assert 'every test image correctly' in findings.confusions('cnn', np.diag([5.0, 5.0]))
  sentence = findings.confusions('cnn', np.array([[4, 0.5], [2, 3]]))
  assert sentence == 'cnn makes 2.5 errors per seed; the most frequent is to answer 0 for a 1, 2.0 of 5 times.'


def test_digits():
  per_class = [statistics.spread([0.9]), None, statistics.spread([0.8])]
  assert _plain(findings.digits('cnn', per_class)) == 'cnn is least accurate on 2 (80.00 %) and most on 0 (90.00 %).'
  assert 'equally accurate' in findings.digits('cnn', per_class[:1] * 3)


@pytest.mark.parametrize(
  ('numbers', 'said'),
  [
    ((0, 0, None), 'No test image is answered wrongly'),
    ((1, 1, None), '1 test image wrongly; it is shown.'),
    ((18, 800, 1), '800 test images wrongly; the hardest 18 are shown. Of these, 1 has a label'),
    ((18, 800, 5), 'Of these, 5 have labels'),
  ],
)
def test_hardest(numbers, said):
  assert said in findings.hardest(*numbers)


@pytest.mark.parametrize(
  ('confidence', 'after', 'said'),
  [
    (0.95, 0.01, ['over-confident by 5.00 points', 'lowers its calibration error from 5.00 % to 1.00 %']),
    (0.88, 0.06, ['under-confident by 2.00 points', 'raises its calibration error from 5.00 % to 6.00 %']),
    (0.90, 0.05, ['equals its accuracy', 'leaves its calibration error at 5.00 %']),
  ],
)
def test_calibration(confidence, after, said):
  scores = {'ece_before': {'mean': 0.05}, 'ece_after': {'mean': after}, 'temperature': {'mean': 1.1}}
  sentence = _plain(findings.calibration('mlp', scores, confidence, 0.9))
  assert all(part in sentence for part in said), sentence


def test_calibration_without_a_validation_split_mentions_no_temperature():
  scores = {'ece_before': {'mean': 0.05}, 'ece_after': None, 'temperature': None}
  assert 'emperature' not in findings.calibration('mlp', scores, 0.95, 0.9)


@pytest.mark.parametrize(
  ('risk', 'coverage', 'said'),
  [
    (0.0005, 1.0, 'without refusing any'),
    (0.02, 0.9, 'must refuse 10.00 % of all images'),
    (0.5, 0.0, 'does not reach'),
  ],
)
def test_refusing(risk, coverage, said):
  assert said in _plain(findings.refusing('cnn', risk, coverage, 0.999))


@pytest.mark.parametrize(('without', 'said'), [(0.991, 'raises'), (0.989, 'lowers'), (0.99001, 'by less than 0.01')])
def test_disputed(without, said):
  assert said in _plain(findings.disputed('cnn', 0.99, without, 15))


def test_central_weights():
  kernels = np.zeros((1, 4, 4))
  kernels[0, 1, 1], kernels[0, 0, 0] = 1, -1
  assert 'The middle 25 % of the pixels hold 50 % of' in _plain(findings.central_weights('mlp', kernels))


def test_silent_maps():
  maps = np.zeros((2, 2, 2))
  maps[0, 0, 0] = 1
  assert _plain(findings.silent_maps('conv1', maps)).startswith('1 of the 2 maps of conv1 is zero all over; 88 % of')
