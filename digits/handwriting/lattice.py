"""The likeliest reading of a line, among all ways to part its ink into digits and signs.

A line is a chain of nodes, between its pieces and at each cut through one. An edge is the ink between two nodes; what it
may be has scores. A reading is a path from the first node to the last (over-segmentation and dynamic programming, LeCun
et al. 1998, section V); with a pattern, a path whose text fits.
"""

from typing import Generic, NamedTuple, TypeVar

from digits.handwriting import patterns

T = TypeVar('T')


class Choice(NamedTuple):
  """What an edge may be: its text, how probable that is, and the score in nats. No text leaves the ink out."""

  text: str
  probability: float
  score: float


class Edge(NamedTuple, Generic[T]):
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
  source: T


class _Reading(NamedTuple):
  score: float
  before: '_Reading | None'
  step: tuple[Choice, object] | None
  has_text: bool = False


def find_best(
  edges: list[Edge[T]], spaces: dict[int, tuple[float, float]], pattern: patterns.Pattern | None = None
) -> tuple[float, list[tuple[Choice, T | None]]] | None:
  """The best reading: its score, and its choices in order, each with the source of its edge, None for a space.

  Args:
    edges: all edges, of which some lead from node 0 to the last.
    spaces: for each node where a space may be, the scores of no space and of one.
    pattern: what the text must fit; None for any text.

  Returns:
    None where no reading fits.
  """
  last = max(edge.stop for edge in edges)
  leaving: dict[int, list[Edge[T]]] = {}
  for edge in edges:
    leaving.setdefault(edge.start, []).append(edge)
  best: list[dict[int, _Reading]] = [{} for _ in range(last + 1)]
  best[0][0] = _Reading(0.0, None, None)
  for node in range(last):
    for state, reading in _with_spaces(best[node], spaces.get(node), pattern):
      for edge in leaving.get(node, ()):
        for choice in edge.choices:
          score = reading.score + choice.score
          after = _Reading(score, reading, (choice, edge.source), reading.has_text or bool(choice.text))
          for target in _advance(pattern, state, choice.text):
            if target not in best[edge.stop] or score > best[edge.stop][target].score:
              best[edge.stop][target] = after
  ends = [reading for state, reading in best[last].items() if pattern is None or pattern.accepts(state)]
  if not ends:
    return None
  reading = max(ends, key=lambda reading: reading.score)
  return reading.score, _trace(reading)


def _advance(pattern: patterns.Pattern | None, state: int, text: str) -> tuple[int, ...]:
  return pattern.advance(state, text) if pattern is not None and text else (state,)


def _with_spaces(
  readings: dict[int, _Reading], scores: tuple[float, float] | None, pattern: patterns.Pattern | None
) -> list[tuple[int, _Reading]]:
  """The readings up to a node, without and with a space after them; states may come twice."""
  if scores is None:
    return list(readings.items())
  without, space = scores
  choice = Choice(' ', 1.0, space)
  found = []
  for state, reading in readings.items():
    found.append((state, reading._replace(score=reading.score + without)))
    if reading.has_text and not (reading.step and reading.step[0].text == ' '):
      after = _Reading(reading.score + space, reading, (choice, None), True)
      found += [(target, after) for target in _advance(pattern, state, ' ')]
  return found


def _trace(reading: _Reading) -> list:
  steps = []
  current: _Reading | None = reading
  while current is not None:
    if current.step:
      steps.append(current.step)
    current = current.before
  return steps[::-1]
