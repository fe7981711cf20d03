"""What a config may hold: values checked against type annotations, each refusal one sentence."""

from collections.abc import Callable, Collection, Mapping, Sequence
import dataclasses
import inspect
import math
import types
import typing
from typing import Annotated, Any

from digits import errors


@dataclasses.dataclass(frozen=True)
class Range:
  """In `Annotated`: bounds of a number, or of the length of a tuple; both are allowed values."""

  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Keys:
  """In `Annotated`: the keys that a mapping must have; with `others`, it may have more."""

  names: tuple[str, ...]
  others: bool = False


_SCALARS = {int: 'an integer', float: 'a number', bool: 'True or False', str: 'a string of printable characters'}


def is_checkable(hint: Any) -> bool:
  """Whether values of this annotation can stand in a config: scalars, literals, tuples, mappings and unions of them."""
  hint, _ = _unwrap(hint)
  origin = typing.get_origin(hint) or hint
  if origin in (tuple, Sequence, typing.Union, types.UnionType):
    return all(item in (..., type(None)) or is_checkable(item) for item in typing.get_args(hint))
  return origin in (*_SCALARS, typing.Literal, Mapping, dict)


def check(where: str, value: Any, hint: Any) -> None:
  """Checks a value against a type annotation.

  Args:
    where: the place of the value in the config, such as `config.epochs`, for the error.
    value: what stands there.
    hint: an annotation for which `is_checkable` holds.

  Raises:
    UsageError: the value does not fit.
  """
  if not _fits(value, hint):
    raise errors.UsageError(f'{where}={value!r} is not allowed: it must be {_describe(hint)}.')


def check_names(where: str, given: Collection[str], known: Collection[str]) -> None:
  """Raises UsageError unless the given names are exactly the known ones."""
  for name in given:
    if name not in known:
      raise errors.UsageError(f'{where}.{name} is unknown: the fields are {", ".join(known) or "none"}.')
  for name in known:
    if name not in given:
      raise errors.UsageError(f'{where}.{name} is missing: add it to the config file.')


def check_arguments(where: str, function: Callable[..., Any], given: Mapping[str, Any], skip: int) -> None:
  """Checks arguments that a config gives to a function.

  Args:
    where: the place of the arguments in the config, for the error.
    function: the function. A value is checked where its annotation says what may stand in a config.
    given: the arguments by name.
    skip: how many of its first parameters the caller gives.

  Raises:
    UsageError: an argument is unknown, missing, or does not fit its annotation.
  """
  parameters = list(inspect.signature(function).parameters.values())[skip:]
  try:
    hints = typing.get_type_hints(function, include_extras=True)
  except NameError:  # Of a module that imports its types for checkers only, as some of optax do.
    hints = {}
  required = [one.name for one in parameters if one.default is one.empty and one.name not in given]
  check_names(where, given, [one.name for one in parameters if one.name in given] + required)
  for name, value in given.items():
    if name in hints and is_checkable(hints[name]):
      check(f'{where}.{name}', value, hints[name])


def _unwrap(hint: Any) -> tuple[Any, Any]:
  """An annotation without its `Annotated`, and the bound in that."""
  if typing.get_origin(hint) is typing.Annotated:
    return hint.__origin__, next((one for one in hint.__metadata__ if isinstance(one, Range | Keys)), None)
  return hint, None


def _fits(value: Any, hint: Any) -> bool:
  hint, bound = _unwrap(hint)
  origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
  if origin is typing.Literal:
    return any(type(value) is type(choice) and value == choice for choice in arguments)
  if origin in (typing.Union, types.UnionType):
    choices = [item if bound is None else Annotated[item, bound] for item in arguments if item is not type(None)]
    return (value is None and type(None) in arguments) or any(_fits(value, item) for item in choices)
  if origin in (tuple, Sequence):
    items = _item_hints(origin, arguments, value) if isinstance(value, tuple) else None
    return items is not None and _is_within(len(value), bound) and all(map(_fits, value, items))
  if origin in (Mapping, dict):
    if not isinstance(value, Mapping) or not isinstance(bound, Keys | None):
      return isinstance(value, Mapping) and _is_within(len(value), bound)
    fits = bound is None or (set(bound.names) <= set(value) if bound.others else set(bound.names) == set(value))
    return fits and (len(arguments) < 2 or arguments[1] is Any or all(_fits(v, arguments[1]) for v in value.values()))
  if origin is str:
    return isinstance(value, str) and value.isprintable()  # A path or a terminal must be able to hold it.
  if origin is float:
    return type(value) in (int, float) and math.isfinite(value) and _is_within(value, bound)
  return type(value) is origin and _is_within(value, bound)


def _item_hints(origin: Any, arguments: tuple, value: tuple) -> Sequence[Any] | None:
  """The annotation of each item of a tuple; None if it has the wrong length."""
  if not arguments:
    return [str | float | bool] * len(value)
  if origin is Sequence or arguments[-1] is ...:
    return arguments[:1] * len(value)
  return arguments if len(arguments) == len(value) else None


def _is_within(number: float, bound: Range | None) -> bool:
  return bound is None or bound.low <= number <= bound.high


def _describe(hint: Any) -> str:
  hint, bound = _unwrap(hint)
  origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
  if origin is typing.Literal:
    return 'one of ' + ', '.join(map(str, arguments))
  if origin in (typing.Union, types.UnionType):
    return ' or '.join('None' if item is type(None) else _describe(item) for item in arguments)
  if origin in (tuple, Sequence):
    items = f', each {_describe(arguments[0])}' if arguments[-1:] == (...,) or origin is Sequence else ''
    if not items and arguments:
      items = ': ' + ', '.join(map(_describe, arguments))
    return f'a tuple{"" if bound is None else f" of {bound.low:g} to {bound.high:g} items"}{items}'
  if origin in (Mapping, dict):
    return (
      f'fields named {", ".join(bound.names)}'
      if isinstance(bound, Keys)
      else 'a mapping' + ' that is not empty' * bool(bound)
    )
  text = _SCALARS[origin]
  if bound is None:
    return text
  form = ',' if origin is int else 'g'
  return f'{text} from {bound.low:{form}} to {bound.high:{form}}'
