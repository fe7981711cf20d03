"""JSON documents that carry the SHA-256 of their own content: with a flipped digit in it a file is still good JSON."""

import hashlib
import json
import pathlib
from typing import Any

from digits import errors
from digits.runtime import files


def seal(content: dict[str, Any]) -> dict[str, Any]:
  """Returns a dict of JSON types with its own SHA-256 as the last field, `sha256`."""
  return content | {'sha256': hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()}


def encode(sealed: dict[str, Any], indent: int | None = None) -> bytes:
  """The bytes of a sealed document: one line, or more with `indent`."""
  return (json.dumps(sealed, indent=indent, allow_nan=False) + '\n').encode()


def decode(encoded: bytes, indent: int | None = None) -> dict[str, Any]:
  """Returns the sealed document of which `encode` made these bytes.

  Raises:
    ValueError: it made no such bytes.
  """
  sealed = json.loads(encoded)
  content = {name: value for name, value in sealed.items() if name != 'sha256'} if isinstance(sealed, dict) else {}
  if encode(seal(content), indent) != encoded:
    raise ValueError('its content does not match its SHA-256')
  return sealed


def write(path: pathlib.Path, content: dict[str, Any]) -> dict[str, Any]:
  """Seals a dict, writes it, whole or not at all, and returns it sealed."""
  sealed = seal(content)
  with files.replace_atomically(path) as file:
    file.write(encode(sealed, indent=2))
  return sealed


def read(path: pathlib.Path) -> dict[str, Any] | None:
  """Returns the sealed document in a file, or None where there is no such file.

  Raises:
    DamagedError: the file is not as it was written.
  """
  try:
    return decode(path.read_bytes(), indent=2)
  except (FileNotFoundError, NotADirectoryError):
    return None
  except json.JSONDecodeError as error:
    raise errors.DamagedError(f'{path} is damaged (it is not JSON).') from error
  except (ValueError, RecursionError) as error:
    raise errors.DamagedError(f'{path} is damaged ({error}).') from error
