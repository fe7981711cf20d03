"""The likeliest reading of a line, among all ways to part its ink into digits and signs.

A line is a chain of nodes, between its pieces and at each cut through one. An edge is the ink between two nodes, and
what it may be has scores. A reading is a path from the first node to the last (over-segmentation and dynamic
programming, LeCun et al. 1998, section V); with a pattern, a path whose text fits.
"""

from typing import Any, NamedTuple, TypeAlias

from digits.handwriting import patterns


class Choice(NamedTuple):
  """What an edge may be: its text, how probable that is, and the score in nats. No text leaves the ink out."""

  text: str
  probability: float
  score: float


class Edge(NamedTuple):
  """Ink between two nodes.

  Attributes:
    start: node.
    stop: node, later than `start`.
    choices: what the ink may be.
    source: whatever the caller wants back.
  """

  start: int
  stop: int
  choices: tuple[Choice, ...]
  source: Any


# A choice, and the source of its edge; None for a space.
Step: TypeAlias = tuple[Choice, Any]


class _Reading(NamedTuple):
  """A path up to a node."""

  score: float
  before: '_Reading | None' = None
  step: Step | None = None


# The state of the pattern, and whether a space may come next: after text that is not a space.
_Key: TypeAlias = tuple[int, bool]


def find_best(
  edges: list[Edge], spaces: dict[int, tuple[float, float]], pattern: patterns.Pattern | None = None
) -> tuple[float, list[Step]] | None:
  """The best reading: its score and its steps, in order.

  Args:
    edges: all edges, of which some lead from node 0 to the last.
    spaces: for each node where a space may be, the scores of no space and of one.
    pattern: what the text must fit; None for any text.

  Returns:
    None where no reading fits.
  """
  last = max(edge.stop for edge in edges)
  starting: list[list[Edge]] = [[] for _ in range(last)]
  for edge in edges:
    starting[edge.start].append(edge)
  best: list[dict[_Key, _Reading]] = [{} for _ in range(last + 1)]
  best[0][0, False] = _Reading(0.0)
  for node in range(last):
    begun = _add_spaces(best[node], spaces[node], pattern) if node in spaces else best[node]
    for edge in starting[node]:
      for choice in edge.choices:
        for (state, may_space), reading in begun.items():
          after = _Reading(reading.score + choice.score, reading, (choice, edge.source))
          for target in _advance(pattern, state, choice.text):
            _keep(best[edge.stop], (target, may_space or bool(choice.text)), after)
  ends = [reading for (state, _), reading in best[last].items() if pattern is None or pattern.accepts(state)]
  if not ends:
    return None
  reading = max(ends, key=lambda reading: reading.score)
  return reading.score, _trace(reading)


def _keep(readings: dict[_Key, _Reading], key: _Key, reading: _Reading) -> None:
  if key not in readings or reading.score > readings[key].score:
    readings[key] = reading


def _advance(pattern: patterns.Pattern | None, state: int, text: str) -> tuple[int, ...]:
  return pattern.advance(state, text) if pattern is not None and text else (state,)


def _add_spaces(
  readings: dict[_Key, _Reading], scores: tuple[float, float], pattern: patterns.Pattern | None
) -> dict[_Key, _Reading]:
  """The readings up to a node, without and with a space after them."""
  without, space = scores
  begun: dict[_Key, _Reading] = {}
  for (state, may_space), reading in readings.items():
    _keep(begun, (state, may_space), reading._replace(score=reading.score + without))
    if may_space:
      after = _Reading(reading.score + space, reading, (Choice(' ', 1.0, space), None))
      for target in _advance(pattern, state, ' '):
        _keep(begun, (target, False), after)
  return begun


def _trace(reading: _Reading | None) -> list[Step]:
  steps = []
  while reading is not None:
    if reading.step:
      steps.append(reading.step)
    reading = reading.before
  return steps[::-1]
