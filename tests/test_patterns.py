"""Patterns against regular expressions, and the best reading against all readings."""

import itertools
import re

import hypothesis
from hypothesis import strategies as st
import pytest

from digits import errors
from digits.handwriting import lattice, patterns

PATTERNS = st.sampled_from(['9', '99', '9+', '9+.99', '9/9', '9+9', '9+-9+', '9 9', '-9:9,9'])


@hypothesis.given(PATTERNS, st.text('1290./:-, ', max_size=6))
def test_a_pattern_fits_what_its_regular_expression_does(pattern, text):
  expression = ''.join({'9': '[0-9]', '+': '+', '.': r'\.'}.get(character, character) for character in pattern)
  assert patterns.parse(pattern).fits(text) == bool(re.fullmatch(expression, text))


@pytest.mark.parametrize(
  ('pattern', 'text', 'expected'),
  [
    ('99999', '12345', True),
    ('99999', '1234', False),
    ('99999', '12/45', False),
    ('99/99/9999', '12/05/2026', True),
    ('99/99/9999', '1210512026', False),
    ('9+', '1', True),
    ('9+', '', False),
    ('9+.99', '1234.50', True),
    ('9+.99', '.50', False),
    ('99999', '1?345', False),
    ('999 999', '548 625', True),
  ],
)
def test_forms_of_fields(pattern, text, expected):
  assert patterns.parse(pattern).fits(text) is expected


@pytest.mark.parametrize('text', ['', '+9', '99++', '9a', '-/-', ' 99', '99 ', '12', '9*', '.+'])
def test_malformed_patterns_are_refused_in_one_sentence(text):
  with pytest.raises(errors.UsageError) as caught:
    patterns.parse(text)
  assert '\n' not in str(caught.value)
  assert repr(text) in str(caught.value)


TEXTS = st.sampled_from(['1', '2', '.', '/', ',', '?', ''])
SCORES = st.integers(-1000, 0).map(lambda score: score / 100)


@st.composite
def lattices(draw):
  """Edges of a chain of up to four nodes, and spaces."""
  last = draw(st.integers(1, 3))
  edges = []
  for start, stop in itertools.combinations(range(last + 1), 2):
    choices = draw(st.dictionaries(TEXTS, SCORES, min_size=1, max_size=3))
    if stop == start + 1 or draw(st.booleans()):
      made = tuple(lattice.Choice(text, 0.5, score) for text, score in choices.items())
      edges.append(lattice.Edge(start, stop, made, (start, stop)))
  return edges, draw(st.dictionaries(st.integers(1, last), st.tuples(SCORES, SCORES), max_size=2))


def _all_readings(edges, spaces, node=0, text='', score=0.0, last=None):
  """The text and the score of all paths."""
  last = max(edge.stop for edge in edges)
  if node == last:
    yield text, score
    return
  without, space = spaces.get(node, (0.0, None))
  begins = [(text, score + without)]
  if space is not None and text and text[-1] != ' ':
    begins.append((text + ' ', score + space))
  for begin, so_far in begins:
    for edge in edges:
      if edge.start == node:
        for choice in edge.choices:
          yield from _all_readings(edges, spaces, edge.stop, begin + choice.text, so_far + choice.score)


@hypothesis.given(lattices(), st.one_of(st.none(), PATTERNS))
def test_the_best_reading_is_the_best_of_all(drawn, pattern):
  edges, spaces = drawn
  parsed = None if pattern is None else patterns.parse(pattern)
  readings = [(score, text) for text, score in _all_readings(edges, spaces) if parsed is None or parsed.fits(text)]
  found = lattice.find_best(edges, spaces, parsed)
  if not readings:
    assert found is None
    return
  score, steps = found
  text = ''.join(choice.text for choice, _ in steps)
  assert score == pytest.approx(max(readings)[0])
  assert any(other == text and value == pytest.approx(score) for value, other in readings)
  places = [source for _, source in steps if source is not None]
  assert [place[0] for place in places] == [0, *(place[1] for place in places[:-1])]
