"""Claims as tests of numbers that were measured for every seed, and what became of them.

A test is written as people would: `cnn.accuracy > mlp.accuracy`, or `mlp_linear.accuracy ~ softmax.accuracy within
0.005`. A value is a number, or RECIPE.MEASURE, or the difference of two such. A claim holds if all of its tests do.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np

from digits import errors, statistics

# The measures of the networks of each recipe by name, each with one number per seed.
Measured = Mapping[str, Mapping[str, Sequence[float]]]


class Test(NamedTuple):
  """A comparison of two values.

  Attributes:
    left: a value.
    right: a value.
    margin: None if the left value has to be higher; else how far apart they may be.
  """

  left: str
  right: str
  margin: float | None


def parse(text: str) -> Test:
  """Reads a test.

  Raises:
    UsageError: it is not written as a test is.
  """
  left, is_higher, right = text.partition(' > ')
  if is_higher:
    return Test(left.strip(), right.strip(), None)
  left, is_alike, rest = text.partition(' ~ ')
  right, has_margin, margin = rest.partition(' within ')
  if is_alike and has_margin and _is_number(margin):
    return Test(left.strip(), right.strip(), float(margin))
  raise errors.UsageError(f'{text!r} is not a test: write "A > B", or "A ~ B within 0.01".')


def _is_number(text: str) -> bool:
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def measures_in(value: str) -> list[tuple[str, str]]:
  """The recipes and the measures that a value is made of.

  Raises:
    UsageError: it is not written as a value is.
  """
  found = []
  for term in value.split(' - '):
    recipe, dot, measure = term.strip().partition('.')
    if _is_number(term):
      continue
    if not (dot and recipe and measure):
      raise errors.UsageError(f'{term!r} is no value: write a number, or RECIPE.MEASURE such as cnn.accuracy.')
    found.append((recipe, measure))
  return found


def evaluate(value: str, measured: Measured) -> Float[np.ndarray, ' seeds']:
  """A value for each seed; a number alone is one value for all."""

  def of_term(term):
    if _is_number(term):
      return np.array([float(term)])
    recipe, _, measure = term.strip().partition('.')
    return np.asarray(measured[recipe][measure], np.float64)

  first, *others = map(of_term, value.split(' - '))
  return first - sum(others)


def decide(test: Test, measured: Measured) -> str:
  """What becomes of a test: `supported` or `contradicted` if every seed of the one value against every seed of the
  other says so, and `undecided` otherwise.
  """
  differences = np.subtract.outer(evaluate(test.left, measured), evaluate(test.right, measured))
  holds = differences > 0 if test.margin is None else np.abs(differences) <= test.margin
  fails = differences < 0 if test.margin is None else ~holds
  return 'supported' if holds.all() else 'contradicted' if fails.all() else 'undecided'


def find(sections: Mapping[str, Mapping[str, Any]], measured: Measured) -> list[dict[str, Any]]:
  """Tests the claims of all sections.

  Args:
    sections: by name, each with `claims`, tuples of a sentence and its tests.
    measured: what was measured.

  Returns:
    list of dicts of claim; experiment, the name of its section; verdict; tests, each with its own verdict; and numbers,
    a `statistics.spread` with `interval_95` for each value in the tests.
  """
  findings = []
  for name, section in sections.items():
    for claim, *texts in section['claims']:
      tests = [parse(text) for text in texts]
      verdicts = [decide(test, measured) for test in tests]
      values = dict.fromkeys(value for test in tests for value in (test.left, test.right) if measures_in(value))
      findings.append(
        {
          'claim': claim,
          'experiment': name,
          'verdict': combine(verdicts),
          'tests': [{'test': text, 'verdict': verdict} for text, verdict in zip(texts, verdicts, strict=True)],
          'numbers': {value: _summarize(evaluate(value, measured)) for value in values},
        }
      )
  return findings


def combine(verdicts: Sequence[str]) -> str:
  """The verdict on a claim that all of some tests belong to."""
  if 'contradicted' in verdicts:
    return 'contradicted'
  return 'supported' if all(verdict == 'supported' for verdict in verdicts) else 'undecided'


def _summarize(per_seed: Float[np.ndarray, ' seeds']) -> dict[str, Any]:
  interval = statistics.mean_interval(per_seed)
  return statistics.spread(per_seed) | {'interval_95': interval and list(interval)}
