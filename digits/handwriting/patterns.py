"""Patterns of what a field holds, such as 99/99/9999: which texts fit one, told character by character.

9 stands for a digit, 9+ for one digit or more, and - / . , : and a space for themselves.
"""

from typing import NamedTuple

from digits import errors

SIGNS = '-/.,:'
_DIGITS = '0123456789'


class Item(NamedTuple):
  """A part of a pattern: a character, 9 for any digit, which may come several times in a row if `repeats`."""

  character: str
  repeats: bool = False


class Pattern(NamedTuple):
  """The form of a line.

  A state is the number of items that the text so far has begun. Its reader starts at 0, and calls `advance` for each
  character.
  """

  items: tuple[Item, ...]

  def advance(self, state: int, character: str) -> tuple[int, ...]:
    """The states after one character more; none if the text cannot fit any more."""
    after = []
    if state and self.items[state - 1].repeats and _fits(character, self.items[state - 1]):
      after.append(state)
    if state < len(self.items) and _fits(character, self.items[state]):
      after.append(state + 1)
    return tuple(after)

  def accepts(self, state: int) -> bool:
    """Whether a text that ends in this state fits."""
    return state == len(self.items)

  def fits(self, text: str) -> bool:
    """Whether a text has the form."""
    states = {0}
    for character in text:
      states = {after for state in states for after in self.advance(state, character)}
    return any(map(self.accepts, states))


def _fits(character: str, item: Item) -> bool:
  return character in _DIGITS if item.character == '9' else character == item.character


def parse(text: str) -> Pattern:
  """Makes the pattern that a text such as 9+.99 describes.

  Raises:
    UsageError: it describes none.
  """
  items: list[Item] = []
  for before, character in zip(' ' + text, text, strict=False):
    if character == '+' and before == '9':
      items[-1] = Item('9', repeats=True)
    elif character == '+':
      raise errors.UsageError(f'The pattern {text!r} is malformed: + stands only after 9.')
    elif character == '9' or character in SIGNS + ' ':
      items.append(Item(character))
    else:
      raise errors.UsageError(
        f'The pattern {text!r} is malformed: {character!r} is none of 9 for a digit, 9+, - / . , : and space.'
      )
  if text != text.strip() or not any(item.character == '9' for item in items):
    raise errors.UsageError(f'The pattern {text!r} is malformed: it has a 9 for each digit, and no space at its ends.')
  return Pattern(tuple(items))
