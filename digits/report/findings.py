"""Sentences about the numbers of a comparison, each a pure function of the numbers that it states.

What a sentence says depends on the numbers: a difference is called one only if the test and the interval agree.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
import numpy as np

from digits.report.figures import Curve

# A `statistics.spread`, and what `summary.summarize` says of one model or of one pair.
Spread = Mapping[str, Any]
Scores = Mapping[str, Any]

# What can become of a claim that is tested.
VERDICTS = ('supported', 'contradicted', 'undecided')

_SIGNIFICANCE = 0.05


def percent(fraction: float, decimals: int = 2) -> str:
  """0.9229 is `92.29 %`; the space does not break."""
  return f'{100 * fraction:.{decimals}f}\u00a0%'


def points(fraction: float, decimals: int = 2) -> str:
  """A difference of fractions, without its sign: 0.0026 is `0.26 points`."""
  return f'{100 * abs(fraction):.{decimals}f}\u00a0points'


def percent_spread(scores: Spread) -> str:
  """Fractions as mean and standard deviation; only the mean for one seed."""
  return _spread(scores, 100, '.2f', '\u00a0%')


def number_spread(scores: Spread, form: str = '.4f', unit: str = '') -> str:
  """Numbers as mean and standard deviation; only the mean for one seed."""
  return _spread(scores, 1, form, unit)


def _spread(scores: Spread, factor: float, form: str, unit: str) -> str:
  text = f'{factor * scores["mean"]:{form}}'
  if scores['std'] is not None:
    text += f'\u00a0±\u00a0{factor * scores["std"]:{form}}'
  return text + unit


def p_value(p: float) -> str:
  """0.0123 is `p = 0.012`, and a very small one `p < 10⁻¹⁵`."""
  if p < 1e-15:
    return 'p\u00a0<\u00a010⁻¹⁵'
  if p < 0.001:
    digit, exponent = f'{p:.0e}'.split('e-')
    superscript = str(int(exponent)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))
    return f'p\u00a0=\u00a0{digit}\u00a0\u00d7\u00a010⁻{superscript}'
  return f'p\u00a0=\u00a0{p:.2g}'


def count(number: int, noun: str) -> str:
  """`1 seed`, `3 seeds`."""
  return f'{number:,} {noun}{"" if number == 1 else "s"}'


def number_word(number: int) -> str:
  """`Three` for 3; digits for numbers above ten."""
  words = ('No', 'One', 'Two', 'Three', 'Four', 'Five', 'Six', 'Seven', 'Eight', 'Nine', 'Ten')
  return words[number] if number < len(words) else str(number)


def join(words: Sequence[str]) -> str:
  """`a`, `a and b`, `a, b and c`."""
  return words[0] if len(words) == 1 else ', '.join(words[:-1]) + ' and ' + words[-1]


def verdicts(given: Sequence[str]) -> str:
  """Counts the verdicts on claims: `Of 3 claims, 2 are supported and 1 is undecided.`; empty without any."""
  counts = [(given.count(verdict), verdict) for verdict in VERDICTS if verdict in given]
  if not counts:
    return ''
  if len(given) == 1:
    return f'The one claim is {given[0]}.'
  parts = [f'{number} {"is" if number == 1 else "are"} {verdict}' for number, verdict in counts]
  return f'Of {len(given)} claims, {join(parts)}.'


def is_significant(pair: Scores) -> bool:
  """Whether a pair's interval excludes 0 and its p-value is below 0.05."""
  low, high = pair['interval_95']
  return (low > 0 or high < 0) and pair['mcnemar_p'] < _SIGNIFICANCE


def best_model(models: Mapping[str, Scores], pairs: Sequence[Scores]) -> str:
  """Says which model has the highest mean accuracy, and which of the others it is distinguishable from."""
  ranked = sorted(models, key=lambda name: -models[name]['test']['accuracy']['mean'])
  best = ranked[0]
  accuracy = models[best]['test']['accuracy']
  over = f'mean of {count(accuracy["n"], "seed")}' if accuracy['n'] > 1 else 'one seed'
  if len(ranked) == 1:
    return f'{best} answers {percent(accuracy["mean"])} of the test images correctly ({over}).'
  equal = [name for name in ranked if models[name]['test']['accuracy']['mean'] == accuracy['mean']]
  if len(equal) > 1:
    return f'Of {len(ranked)} models, {join(equal)} share the highest test accuracy, {percent(accuracy["mean"])}.'
  sentence = f'Of {len(ranked)} models, {best} has the highest test accuracy, {percent(accuracy["mean"])} ({over})'
  compared = [pair for pair in pairs if best in (pair['a'], pair['b'])]
  if len(compared) < len(ranked) - 1:
    return f'{sentence}.'
  tied = [pair['a'] if pair['b'] == best else pair['b'] for pair in compared if not is_significant(pair)]
  if not tied:
    return f'{sentence}; its lead over {"the other" if len(ranked) == 2 else "each other model"} is significant.'
  return f'{sentence}; these data do not establish a difference from {join(tied)}.'


def against_published(name: str, test: Mapping[str, Spread], published: Mapping[str, float] | None) -> str:
  """Compares a model with its published result; both have accuracy and loss."""
  accuracy, loss = test['accuracy'], test['loss']
  measured = f'{name} reaches {percent(accuracy["mean"])} at a loss of {loss["mean"]:.4f}'
  if published is None:
    return f'{measured}; there is no published result to set beside it.'
  gap = _as_shown(accuracy['mean']) - published['accuracy']
  if round(abs(gap), 4) == 0:
    verdict = f'equal to the published {percent(published["accuracy"])}'
  else:
    verdict = f'{points(gap)} {"above" if gap > 0 else "below"} the published {percent(published["accuracy"])}'
  exceed = sum(value > published['accuracy'] for value in accuracy['per_seed'])
  return (
    f'{measured}: {verdict} in accuracy, where {exceed} of {count(accuracy["n"], "seed")} '
    f'{"lies" if exceed == 1 else "lie"} above it, and {_against_loss(loss["mean"], published["loss"])}.'
  )


def _as_shown(fraction: float) -> float:
  """The fraction that `percent` prints, so that a reader who subtracts finds the same."""
  return float(f'{100 * fraction:.2f}') / 100


def _against_loss(loss: float, published: float) -> str:
  loss = float(f'{loss:.4f}')
  if round(abs(loss - published), 4) == 0:
    return f'equal to the published loss of {published:.4f}'
  return f'{abs(loss - published):.4f} {"below" if loss < published else "above"} the published loss of {published:.4f}'


def pair_difference(pair: Scores) -> str:
  """Says whether, and by how much, two models differ in test accuracy."""
  first, second, difference, (low, high) = pair['a'], pair['b'], pair['difference'], pair['interval_95']
  if difference < 0:
    first, second, difference, low, high = second, first, -difference, -high, -low
  numbers = f'95\u00a0% interval {signed(low)} to {signed(high)} points, McNemar {p_value(pair["mcnemar_p"])}'
  if is_significant(pair):
    return f'{second} is more accurate than {first} by {points(difference)}; this is significant ({numbers}).'
  why = 'the interval contains 0' if low <= 0 <= high else 'the exact test does not reject equality'
  return (
    f'Whether {first} and {second} differ is not established: {why} '
    f'({second} minus {first} {signed(difference)} points, {numbers}).'
  )


def signed(fraction: float) -> str:
  """A difference of fractions in points: 0.0026 is `+0.26`."""
  text = f'{100 * fraction:+.2f}'
  return '0.00' if float(text) == 0 else text.replace('-', '\u2212')


def ensemble(name: str, scores: Scores) -> str:
  """What averaging the probabilities of a recipe's networks gains over one of them."""
  low, high = scores['gain_interval_95']
  subject = f'{number_word(scores["members"]).capitalize()} networks of {name}' if name != 'all' else 'All networks'
  mean = f'{percent(scores["single"]["mean"])} on average'
  numbers = f'{signed(scores["gain"])} points, 95\u00a0% interval {signed(low)} to {signed(high)}'
  gain = f'a significant gain ({numbers})' if low > 0 else f'whether that is a gain is not established ({numbers})'
  return f'{subject} that answer together reach {percent(scores["accuracy"])} where one reaches {mean}: {gain}.'


def cost(models: Mapping[str, Scores]) -> str:
  """Sets the parameters and training times of the cheapest and the most accurate model beside their accuracy."""
  cheap = min(models, key=lambda name: models[name]['num_parameters'])
  best = max(models, key=lambda name: models[name]['test']['accuracy']['mean'])
  if cheap == best:
    return f'The most accurate model, {best}, also has the fewest parameters, {models[best]["num_parameters"]:,}.'
  a, b = models[cheap], models[best]
  gain = b['test']['accuracy']['mean'] - a['test']['accuracy']['mean']
  sentence = (
    f'{best} has {b["num_parameters"] / a["num_parameters"]:.1f} times the parameters of {cheap} '
    f'and is {points(gain)} more accurate'
  )
  times = [model['seconds'].get('train', {'mean': 0})['mean'] for model in (a, b)]
  return f'{sentence}; training took {times[1] / times[0]:.1f} times as long.' if min(times) > 0 else f'{sentence}.'


def learning(name: str, train: Curve | None, valid: Curve | None, objective: str = 'cross-entropy') -> str:
  """Says where validation loss was lowest and, if both are the same loss, how far it is from training loss.

  Args:
    name: name of the model.
    train: the training loss.
    valid: the validation loss.
    objective: what the training loss is; the validation loss is cross-entropy.
  """
  if valid is None:
    return f'{name} was trained without a validation split.'
  best = valid.values.argmin(1)
  last = valid.values.shape[1] - 1
  at_end = int(np.sum(best == last))
  n = len(best)
  mean = valid.values.mean(0)
  lowest = int(mean.argmin())
  sentence = f'The validation loss of {name} is lowest, {mean[lowest]:.4f}, at epoch {valid.epochs[lowest]:.4g}'
  sentence += f' of {valid.epochs[-1]:.4g}'
  if last:
    sentence += f'; in {at_end} of {count(n, "seed")} the last epoch was the best'
  if objective != 'cross-entropy':
    sentence += f'. Its training loss is {objective} and cannot be compared with it'
  elif train is not None:
    gap = mean[-1] - train.values[:, -1].mean()
    relation = 'above' if gap > 0 else 'below'
    sentence += f'. At the end it lies {abs(gap):.4f} {relation} the training loss'
  return sentence + '.'


def confusions(name: str, matrix: Float[np.ndarray, 'classes classes']) -> str:
  """Names the confusion that a model makes most; `matrix` counts images per seed, one row per label."""
  errors = matrix * (1 - np.eye(len(matrix)))
  if not errors.any():
    return f'{name} answers every test image correctly.'
  label, answer = np.unravel_index(errors.argmax(), errors.shape)
  return (
    f'{name} makes {errors.sum():.1f} errors per seed; the most frequent is to answer {answer} for a {label}, '
    f'{errors[label, answer]:.1f} of {matrix[label].sum():.0f} times.'
  )


def digits(name: str, per_class: Sequence[Spread | None]) -> str:
  """Names the digits on which a model is best and worst; `per_class` lists spreads, None for an absent digit."""
  means = {digit: scores['mean'] for digit, scores in enumerate(per_class) if scores is not None}
  worst, best = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
  if means[worst] == means[best]:
    return f'{name} is equally accurate on every digit, {percent(means[best])}.'
  return f'{name} is least accurate on {worst} ({percent(means[worst])}) and most on {best} ({percent(means[best])}).'


def hardest(num_shown: int, num_wrong: int, num_disputed: int | None) -> str:
  """Says how many images are answered wrongly, and how many of the hardest have disputed labels.

  Args:
    num_shown: number of images on the page.
    num_wrong: number of test images that at least one model answers wrongly.
    num_disputed: number of those shown that have a label that people dispute; None if that is not known.
  """
  if not num_wrong:
    return 'No test image is answered wrongly by any model.'
  sentence = f'At least one model answers {count(num_wrong, "test image")} wrongly; '
  sentence += 'it is shown' if num_wrong == 1 else f'the hardest {num_shown} are shown'
  if num_disputed is None:
    return sentence + '.'
  verb = 'has a label' if num_disputed == 1 else 'have labels'
  return f'{sentence}. Of these, {num_disputed} {verb} that human raters did not uphold.'


def calibration(name: str, scores: Scores, confidence: float, accuracy: float) -> str:
  """Says whether a model is over- or under-confident, and what temperature scaling does about it.

  Args:
    name: name of the model.
    scores: the spreads of ece_before, ece_after and temperature; the latter two may be None.
    confidence: mean probability of the answers on the test split.
    accuracy: accuracy on the test split.
  """
  gap = confidence - accuracy
  if round(abs(gap), 4) == 0:
    sentence = f'The mean confidence of {name} equals its accuracy, {percent(accuracy)}'
  else:
    kind = 'over' if gap > 0 else 'under'
    sentence = f'{name} is {kind}-confident by {points(gap)} on average ({percent(confidence)} sure)'
  before, after = scores['ece_before']['mean'], scores['ece_after'] and scores['ece_after']['mean']
  if after is None:
    return f'{sentence}; its expected calibration error is {percent(before)}.'
  temperature = scores['temperature']['mean']
  if round(before, 4) == round(after, 4):
    return f'{sentence}. A temperature of {temperature:.2f} leaves its calibration error at {percent(before)}.'
  verb = 'lowers' if after < before else 'raises'
  return (
    f'{sentence}. A temperature of {temperature:.2f} {verb} its calibration error '
    f'from {percent(before)} to {percent(after)}.'
  )


def refusing(name: str, risk: float, coverage: float, target: float) -> str:
  """Says how many images a model must refuse to be right on a target share of the rest.

  Args:
    name: name of the model.
    risk: error rate if all images are answered.
    coverage: share of images that can be answered with an error rate of 1 - target.
    target: accuracy wanted among the answered.
  """
  wanted = percent(target, 1)
  if risk <= 1 - target:
    return f'{name} is right on {wanted} or more of all images without refusing any.'
  if coverage == 0:
    return f'{name} does not reach {wanted} however many images it refuses.'
  return f'To be right on {wanted} of the images it answers, {name} must refuse {percent(1 - coverage)} of all images.'


def disputed(name: str, accuracy: float, without: float, num_disputed: int) -> str:
  """Says what the disputed labels cost a model: accuracy with and without the images that have one."""
  change = without - accuracy
  if round(abs(change), 4) == 0:
    return f'Leaving out the {num_disputed} images changes the accuracy of {name} by less than 0.01\u00a0points.'
  verb = 'raises' if change > 0 else 'lowers'
  return f'Leaving out the {num_disputed} images {verb} the accuracy of {name} by {points(change)}.'


def left_out(num_models: int, limit: int) -> str:
  """What a page about many models does without."""
  return (
    f'With {num_models} models this page does without the curves, errors, filters and calibration of each: compare '
    f'{number_word(limit).lower()} or fewer to see these.'
  )


def undescribed(name: str) -> str:
  """Says why a part of the page has nothing about a model."""
  return f'{name} does not describe its layers, so it is left out here.'


def central_weights(name: str, kernels: Float[np.ndarray, 'n height width']) -> str:
  """Says how much of the first layer, given as its weights from the pixels, looks at the middle of the image."""
  h, w = kernels.shape[1:]
  rows, columns = slice(h // 4, h - h // 4), slice(w // 4, w - w // 4)
  share = float(np.sum(kernels[:, rows, columns] ** 2.0) / np.sum(kernels**2.0))
  area = (rows.stop - rows.start) * (columns.stop - columns.start) / (h * w)
  return (
    f'The middle {percent(area, 0)} of the pixels hold {percent(share, 0)} of the squared weights '
    f'of the first layer of {name}.'
  )


def silent_maps(layer: str, maps: Float[np.ndarray, 'n h w']) -> str:
  """Says how many feature maps are zero all over, and how many of all values are."""
  silent = int(np.sum(~np.any(maps != 0, axis=(1, 2))))
  zeros = float(np.mean(maps == 0))
  verb = 'is' if silent == 1 else 'are'
  return (
    f'{silent} of the {len(maps)} maps of {layer} {verb} zero all over; {percent(zeros, 0)} of all values are zero.'
  )
