"""What configs name and people write: models, optimizers and augmentations, registered by a decorator from any file."""

from collections.abc import Callable
from typing import Any, TypeVar

from digits import errors

T = TypeVar('T', bound=Callable[..., Any])


class Registry(dict[str, Any]):
  """Objects by the name that a config gives them.

  Args:
    kind: what is registered, such as `model`, for errors.
  """

  def __init__(self, kind: str):
    super().__init__()
    self._kind = kind

  def register(self, name: str) -> Callable[[T], T]:
    """Returns a decorator that makes a class or a function known by a name.

    A name may be registered again, as when a notebook's cell is run twice, but not if it is one of this package's own.

    Raises:
      UsageError: the name is taken, or is not an identifier in lower case.
    """

    def decorate(entry: T) -> T:
      if not name.isidentifier() or name != name.lower():
        raise errors.UsageError(f'{name!r} is not a name for a {self._kind}: use lower-case letters, digits and _.')
      taken = self.get(name)
      if taken is not None and _is_ours(taken) and not _is_ours(entry):
        raise errors.UsageError(f'The {self._kind} {name!r} is part of this package: register yours by another name.')
      self[name] = entry
      return entry

    return decorate

  def find(self, name: str, where: str) -> Any:
    """Returns what is registered by a name.

    Args:
      name: the name.
      where: the config field that gives it, for the error.

    Raises:
      UsageError: nothing is.
    """
    if name not in self:
      raise errors.UsageError(
        f'{where}={name!r} is not a registered {self._kind} (known: {", ".join(self)}): correct the name, or '
        'import the module that registers it, as with --import=MODULE or in the config file.'
      )
    return self[name]


def _is_ours(entry: Any) -> bool:
  return entry.__module__.partition('.')[0] == 'digits'
