"""Writing files so that nobody ever reads half a file."""

from collections.abc import Iterator
import contextlib
import fnmatch
import logging
import os
import pathlib
import tempfile
from typing import BinaryIO

import filelock

from digits import errors

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def replace_atomically(path: str | pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a binary file whose content takes the place of `path` at the end, whole, or not at all.

  Args:
    path: the file to write; its directory exists.

  Yields:
    A binary file object.
  """
  path = pathlib.Path(path)
  descriptor, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent)
  try:
    with os.fdopen(descriptor, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private to the user.
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask


def check_room(directory: pathlib.Path, num_bytes: int) -> None:
  """Raises OSError unless a file of 1.5 times that size can be written to the directory.

  For writers such as Orbax, whose threads answer a full disk with pages of tracebacks.
  """
  with tempfile.TemporaryFile(dir=directory) as file:
    file.write(bytes(num_bytes * 3 // 2))
    file.flush()


@contextlib.contextmanager
def lock(path: pathlib.Path, *, waiting: str | None = None) -> Iterator[None]:
  """Holds the lock file `path`; the operating system frees it when the process dies, however it dies.

  Args:
    path: the lock file; its directory exists, and what `replace_atomically` did not finish in it is deleted.
    waiting: what to log before waiting for another process; None to refuse instead of waiting.

  Raises:
    DigitsError: another process holds the lock, and `waiting` is None.
  """
  held = filelock.FileLock(path)
  try:
    held.acquire(timeout=0)
  except filelock.Timeout as error:
    if waiting is None:
      raise errors.DigitsError(
        f'{path.parent} is in use by another run: wait for it, or choose another --workdir.'
      ) from error
    _logger.warning(waiting)
    held.acquire()
  try:
    _delete_unfinished(path)
    yield
  finally:
    held.release()


def _delete_unfinished(lock_file: pathlib.Path) -> None:
  """Deletes what processes that were killed were writing; nothing below a folder that has a lock of its own."""
  for folder, below, names in os.walk(lock_file.parent):
    below[:] = [name for name in below if not os.path.exists(os.path.join(folder, name, lock_file.name))]
    for name in fnmatch.filter(names, '.*.????????.tmp'):
      pathlib.Path(folder, name).unlink(missing_ok=True)


@contextlib.contextmanager
def describe_os_errors(path: pathlib.Path) -> Iterator[None]:
  """Turns an `OSError` into a sentence that names the file and what was wrong with it.

  Args:
    path: what was being written or read, named where the error itself names nothing.

  Raises:
    DigitsError: in place of an `OSError`.
  """
  try:
    yield
  except OSError as error:
    raise errors.DigitsError(f'{error.filename or path}: {error.strerror or error}.') from error
