"""What the commands that are given images share."""

from collections.abc import Callable, Iterator, Sequence
import sys
from typing import TypeVar

from digits import errors
from digits.handwriting import image_files

T = TypeVar('T')


def answer_each(sources: Sequence[str], answer: Callable[[image_files.Picture], T | None]) -> Iterator[tuple[str, T]]:
  """Yields each source with what `answer` gives for its image; says on standard error what is wrong with the others.

  Args:
    sources: paths of image files; `-` for standard input.
    answer: a function of a picture; it returns None if there is no digit.
  """
  for source in sources:
    try:
      found = answer(image_files.read(source))
      if found is None:
        name = 'standard input' if source == '-' else source
        raise errors.DigitsError(f'{name} shows no digit: nothing in it stands out from the paper.')
    except errors.DigitsError as error:
      print(f'error: {error}', file=sys.stderr)
    else:
      yield source, found
