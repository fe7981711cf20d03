"""What an activation study measures of its recipes, and the claims that are tested by it: numbers in, verdicts out."""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import numpy as np

from digits.report import findings

Recipe = Mapping[str, Any]  # What results.json says of a recipe.

# What people call the activations, within a sentence.
TITLES = {
  'elu': 'ELU',
  'gelu': 'GELU',
  'identity': 'the identity',
  'relu': 'ReLU',
  'sigmoid': 'sigmoid',
  'silu': 'SiLU',
  'tanh': 'tanh',
}


class Measure(NamedTuple):
  """A number that every seed of a recipe has.

  Attributes:
    subject: what it is, as the subject of a sentence.
    per_seed: computes it from a recipe, one number per seed; none where it was not measured.
    say: puts it into words, with its unit.
  """

  subject: str
  per_seed: Callable[[Recipe], list[float]]
  say: Callable[[float], str]


def _gradient_flow(recipe: Recipe) -> list[float]:
  names = [f'gradient/{name}' for name in recipe['layers']]
  return [float(np.median([record[names[0]] / record[names[-1]] for record in records])) for records in recipe['probe']]


def studied_layers(recipe: Recipe) -> list[str]:
  """The layers whose activations are studied: those of the same kind as the first whose zeros were measured."""
  kinds = recipe['layers']
  measured = recipe['probe'][0][-1]
  return [name for name, kind in kinds.items() if kind == next(iter(kinds.values())) and f'zeros/{name}' in measured]


def _zero_share(recipe: Recipe) -> list[float]:
  keys = [f'zeros/{name}' for name in studied_layers(recipe)]
  return [float(np.mean([records[-1][key] for key in keys])) for records in recipe['probe']] if keys else []


def _early_loss(recipe: Recipe) -> list[float]:
  return [records[0]['loss'] for records in recipe['valid']]


def _test_errors(recipe: Recipe) -> list[float]:
  return [1 - test['accuracy'] for test in recipe['test']]


FLOW = Measure(
  'The median over training of the ratio of the two gradients, each per weight, is', _gradient_flow, '{:#.3g}'.format
)
ZEROS = Measure('Their share at the end is', _zero_share, functools.partial(findings.percent, decimals=1))
EARLY_LOSS = Measure('The loss is', _early_loss, '{:.4f}'.format)
TEST_ERRORS = Measure('The error rate is', _test_errors, findings.percent)


def find(recipes: Mapping[str, Recipe]) -> list[dict[str, Any]]:
  """Tests common claims about activations, model by model.

  A claim about two activations is `supported` if it holds between every seed of the one and every seed of the other,
  `contradicted` if its opposite does, and `undecided` otherwise.

  Args:
    recipes: as in `experiments.activations.summarize`.

  Returns:
    list of dicts of claim, model, verdict, sentence, which says what was measured, and numbers, which has the mean over
    seeds by activation.
  """
  found = []
  for model in dict.fromkeys(recipe['model'] for recipe in recipes.values()):
    mine = {recipe['activation']: recipe for recipe in recipes.values() if recipe['model'] == model}
    for other in mine if 'relu' in mine else ():
      if other != 'relu':
        found += [one | {'model': model} for one in _compare(other, 'relu', mine)]
  return found


def _compare(other: str, relu: str, recipes: Mapping[str, Recipe]) -> list[dict[str, Any]]:
  a, b = TITLES[other], TITLES[relu]
  claims = [
    (f'With {a}, the gradient of the first layer is smaller against that of the last than with {b}.', FLOW, True),
    (f'With {a}, fewer hidden activations are zero than with {b}.', ZEROS, True),
    (f'After one epoch, {b} has a lower validation loss than {a}.', EARLY_LOSS, False),
    (f'At the end, {b} makes fewer test errors than {a}.', TEST_ERRORS, False),
  ]
  found = []
  for claim, measure, other_is_lower in claims:
    values = {name: measure.per_seed(recipe) for name, recipe in recipes.items()}
    lower, higher = (other, relu) if other_is_lower else (relu, other)
    if values[lower] and values[higher]:
      said = ' and '.join(_say(measure, name, values[name]) for name in (lower, higher))
      found.append(
        {
          'claim': claim,
          'verdict': _verdict(values[lower], values[higher]),
          'sentence': f'{measure.subject} {said}.',
          'numbers': {name: float(np.mean(value)) for name, value in sorted(values.items()) if value},
        }
      )
  return found


def _verdict(lower: list[float], higher: list[float]) -> str:
  if max(lower) < min(higher):
    return 'supported'
  return 'contradicted' if min(lower) > max(higher) else 'undecided'


def _say(measure: Measure, activation: str, values: list[float]) -> str:
  low, high = measure.say(min(values)), measure.say(max(values))
  spread = '' if low == high else f' ({low} to {high})'
  return f'{measure.say(float(np.mean(values)))} with {TITLES[activation]}{spread}'
