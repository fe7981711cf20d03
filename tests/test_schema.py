from collections.abc import Mapping, Sequence
import math
from typing import Annotated, Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from digits import errors, registry, schema


@pytest.mark.parametrize(
  ('hint', 'good', 'bad', 'text'),
  [
    (int, [0, -3], [True, 1.0, '1', None], 'an integer'),
    (float, [0, 2.5], [math.nan, math.inf, True, '1'], 'a number'),
    (bool, [True], [1, 0.0], 'True or False'),
    (str, ['', 'a b'], ['a\0', 'a\n', 3], 'a string of printable characters'),
    (Annotated[int, schema.Range(1, 4096)], [1, 4096], [0, 4097, 2.0], 'an integer from 1 to 4,096'),
    (Annotated[float, schema.Range(0, 1)], [0, 1, 0.5], [-0.1, 1.1], 'a number from 0 to 1'),
    (Literal['a', 'b'], ['a'], ['c', 1], 'one of a, b'),
    (Literal[1, 2], [1], [True, 1.0], 'one of 1, 2'),
    (tuple[int, ...], [(), (1, 2)], [(1, 'a'), [1], 1], 'a tuple, each an integer'),
    (Sequence[float], [(), (1, 2.5)], [('a',)], 'a tuple, each a number'),
    (tuple[int, str], [(1, 'a')], [(1,), ('a', 1)], 'a tuple: an integer, a string of printable characters'),
    (
      Annotated[tuple[int, ...], schema.Range(1, 2)],
      [(1,), (1, 2)],
      [(), (1, 2, 3)],
      'a tuple of 1 to 2 items',
    ),
    (tuple, [(1, 'a', True)], [(None,)], 'a tuple'),
    (int | None, [None, 1], ['a'], 'an integer or None'),
    (Annotated[float | None, schema.Range(0, 1)], [None, 0.5], [5.0], 'a number or None'),
    (Annotated[int, 'units', schema.Range(1, 9)], [1], [0], 'an integer from 1 to 9'),
    (Annotated[int, 'units'], [-1], ['a'], 'an integer'),
    (Mapping[str, Any], [{}, {'a': 1}], [3, ()], 'a mapping'),
    (
      Annotated[Mapping[str, int], schema.Keys(('data',))],
      [{'data': 1}],
      [{}, {'data': 'a'}, {'data': 1, 'b': 2}],
      'data',
    ),
    (
      Annotated[Mapping[str, Any], schema.Keys(('name',), others=True)],
      [{'name': 1, 'b': 2}],
      [{'b': 2}],
      'named name',
    ),
  ],
)
def test_values_against_annotations(hint, good, bad, text):
  assert schema.is_checkable(hint)
  for value in good:
    schema.check('config.x', value, hint)
  for value in bad:
    with pytest.raises(errors.UsageError) as caught:
      schema.check('config.x', value, hint)
    assert str(caught.value).startswith(f'config.x={value!r} is not allowed: it must be {text}'[:25])
    assert text in str(caught.value)


@pytest.mark.parametrize('hint', [Any, object, list[int], dict[int, set], type, 'int'])
def test_what_cannot_stand_in_a_config(hint):
  assert not schema.is_checkable(hint) or hint == dict[int, set]


_VALUES = st.recursive(
  st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=2), inner, max_size=2)
  ),
  max_leaves=6,
)
_HINTS = st.sampled_from(
  [int, float, bool, str, tuple[int, ...], Sequence[str], Literal['a'], int | None, Mapping[str, Any]]
)


@given(_VALUES, _HINTS)
@settings(max_examples=300, deadline=None)
def test_any_value_is_taken_or_refused_in_one_sentence(value, hint):
  try:
    schema.check('config.x', value, hint)
  except errors.UsageError as error:
    assert '\n' not in str(error)


def test_arguments_of_a_function():
  def function(key, images, *, strength: float, times: int = 1, mode='fast'):
    del key, images, strength, times, mode

  schema.check_arguments('config.f', function, {'strength': 1, 'mode': 3}, skip=2)
  for given_arguments, message in (
    ({}, 'config.f.strength is missing'),
    ({'strength': 'much'}, "config.f.strength='much' is not allowed: it must be a number"),
    ({'strength': 1.0, 'key': 2}, 'config.f.key is unknown'),
  ):
    with pytest.raises(errors.UsageError, match=message):
      schema.check_arguments('config.f', function, given_arguments, skip=2)


def test_names_are_registered_once_but_for_peoples_own():
  things = registry.Registry('thing')
  mine, again = (lambda: 1), (lambda: 2)
  things.register('mine')(mine)
  things.register('mine')(again)
  assert things['mine'] is again
  assert list(things) == ['mine']
  ours = things.register('ours')(errors.UsageError)
  with pytest.raises(errors.UsageError, match="The thing 'ours' is part of this package"):
    things.register('ours')(mine)
  assert things.find('ours', 'config.thing') is ours
  for name in ('two words', 'Upper', 'a-b', ''):
    with pytest.raises(errors.UsageError, match='is not a name for a thing'):
      things.register(name)(mine)
  with pytest.raises(errors.UsageError, match="config.thing='other' is not a registered thing .known: mine, ours"):
    things.find('other', 'config.thing')
