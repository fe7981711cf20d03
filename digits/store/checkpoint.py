"""Checkpoints: the only place that knows Orbax.

Orbax writes a step atomically but keeps no checksum of the data: a flipped bit loads as a wrong weight. So every step
carries the SHA-256 of each of its files, checked before Orbax reads them, and of each array, checked after. The former
is in the format of sha256sum, so that `cd runs/cnn/checkpoints/2150 && sha256sum -c SHA256SUMS` does the same.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import hashlib
import logging
import pathlib
import shutil
from typing import Any, NamedTuple

from flax import serialization
import jax
from jaxtyping import PyTree
import numpy as np

from digits import errors
from digits.runtime import distributed, files

_MANIFEST = 'SHA256SUMS'

_logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
  """A verified checkpoint.

  Attributes:
    step: number of finished updates.
    tree: what was saved, as NumPy arrays in the structure of the template.
    record: the JSON that was saved beside it.
  """

  step: int
  tree: Any
  record: dict


def list_steps(directory: str | pathlib.Path) -> list[int]:
  """The steps of a directory that look complete, ascending; `load` checks whether they are whole."""
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    return []
  return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def load(directory: str | pathlib.Path, step: int, template: PyTree, *, partial: bool = False) -> Checkpoint:
  """Loads one step and checks every array that it reads.

  Args:
    directory: the directory of checkpoints.
    step: the step to load.
    template: a pytree of arrays or `jax.ShapeDtypeStruct`; what is saved must match it.
    partial: whether the template may leave parts out, which are then not read.

  Raises:
    DamagedError: it cannot be read, or a file, an array or the record is not what was saved.
    UsageError: it holds arrays of other names, shapes or dtypes than the template.
  """
  from orbax.checkpoint import v1 as ocp

  path = pathlib.Path(directory).absolute() / str(step)
  like = serialization.to_state_dict(template)
  try:
    _check_files(path)
    record = ocp.metadata(path).custom_metadata
    if record['step'] != step:
      raise ValueError(f'it is a copy of step {record["step"]}')
    wanted = {name: [list(leaf.shape), str(np.dtype(leaf.dtype))] for name, leaf in _flatten(like).items()}
    saved = {name: shape for name, shape in record['shapes'].items() if name in wanted or not partial}
    if saved != wanted:
      raise errors.UsageError(f'{path} holds another model than the config describes ({_difference(saved, wanted)}).')
    context = ocp.Context()
    context.pytree.loading.partial_load = partial
    with context:
      state = ocp.load(path, jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like))
    _check_arrays(state, record['sha256'])
  except errors.UsageError:
    raise
  except Exception as error:  # What Orbax raises depends on which byte of which file is damaged.
    raise errors.DamagedError(f'The checkpoint {path} is damaged ({errors.first_line(error)}).') from error
  return Checkpoint(step, serialization.from_state_dict(template, state), record['user'])


class Checkpoints(contextlib.AbstractContextManager):
  """The checkpoints that a run writes: it keeps the newest, the lasting one before it, and the steps that they need.

  Two, because one that is damaged later must have one to fall back on.

  Args:
    directory: directory of the checkpoints.
    needs: a function of a step's record that gives another step that it needs, such as the best so far, or None.
    newest: the `Checkpoint` that the run continues from, if any.
    lasts: whether a step is one that every run saves. The others come from interruptions and are deleted as soon as
      the next one is saved.
  """

  def __init__(
    self,
    directory: str | pathlib.Path,
    needs: Callable[[Any], int | None] = lambda record: None,
    newest: Checkpoint | None = None,
    lasts: Callable[[int], bool] = lambda step: True,
  ):
    from orbax.checkpoint import v1 as ocp

    self.directory = pathlib.Path(directory).absolute()
    self._needs, self._lasts = needs, lasts
    self._needed = {} if newest is None else {newest.step: needs(newest.record)}
    self._checkpointer = ocp.training.Checkpointer(
      self.directory, preservation_policy=self, cleanup_tmp_directories=True
    )

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    """Tells Orbax which steps to keep."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    before = [step for step in steps[:-1] if self._lasts(step)] or steps[:-1]
    keep = {*before[-1:], steps[-1]}
    keep |= {self._needed.get(step) for step in keep}
    return [step in keep for step in steps]

  def save(self, step: int, tree: PyTree, record: Mapping[str, Any]) -> None:
    """Saves a step, waits until it is on disk, and deletes the steps that need not be kept.

    Args:
      step: number of finished updates.
      tree: a pytree of arrays.
      record: JSON to keep beside it.

    Raises:
      DigitsError: it could not be written; the steps before it are untouched.
    """
    state = serialization.to_state_dict(jax.device_get(tree))
    leaves = _flatten(state)
    full_record = {
      'step': step,
      'shapes': {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves.items()},
      'sha256': {name: _hash_array(leaf) for name, leaf in leaves.items()},
      'user': record,
    }
    self._needed[step] = self._needs(record)
    try:
      if distributed.is_main():
        files.check_room(self.directory, sum(leaf.nbytes for leaf in leaves.values()))
      self._checkpointer.save(step, state, force=True, custom_metadata=full_record)
      if distributed.is_main():
        _write_manifest(self.directory / str(step))
      distributed.wait_for_all('save')
    except (OSError, RuntimeError, ValueError) as error:  # A full disk is any of these, by who sees it first.
      raise errors.DigitsError(
        f'The checkpoint of step {step} could not be written to {self.directory} ({errors.first_line(error)}): '
        'make room or choose another --workdir, and run the same command again to continue from the last one.'
      ) from error

  def __exit__(self, *exc_info: object) -> None:
    self._checkpointer.close()


def load_newest(
  directory: str | pathlib.Path, template: PyTree, needs: Callable[[Any], int | None] = lambda record: None
) -> Checkpoint | None:
  """Loads the newest step that is whole, with a warning for each newer one that is not.

  Args:
    directory: the directory of checkpoints.
    template: as in `load`.
    needs: a function of a step's record that gives another step without which it cannot be used, or None.

  Returns:
    A `Checkpoint`, or None where there is none.
  """
  for step in reversed(list_steps(directory)):
    try:
      checkpoint = load(directory, step, template)
      needed = needs(checkpoint.record)
      if needed not in (None, step):
        load(directory, needed, template)
      return checkpoint
    except errors.DamagedError as error:
      _logger.warning('%s Going back to the one before it.', error)
  return None


def delete_after(directory: str | pathlib.Path, step: int) -> None:
  """Deletes the steps after `step`, once every process has seen them: a run that goes back writes them again."""
  distributed.wait_for_all('load')
  if distributed.is_main():
    for later in list_steps(directory):
      if later > step:
        shutil.rmtree(pathlib.Path(directory) / str(later))
  distributed.wait_for_all('delete')


def _flatten(tree: PyTree) -> dict[str, Any]:
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _hash_array(array: np.ndarray) -> str:
  array = np.ascontiguousarray(array)
  return hashlib.sha256(f'{array.dtype}{array.shape}'.encode() + array.tobytes()).hexdigest()


def _hash_files(path: pathlib.Path) -> dict[str, str]:
  return {
    str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(path.rglob('*'))
    if file.is_file() and file.name != _MANIFEST
  }


def _check_arrays(state: PyTree, digests: Mapping[str, str]) -> None:
  for name, leaf in _flatten(state).items():
    if digests[name] != _hash_array(leaf):
      raise ValueError(f'{name} does not match its SHA-256')


def _write_manifest(path: pathlib.Path) -> None:
  digests = _hash_files(path)
  with files.replace_atomically(path / _MANIFEST) as manifest:
    manifest.writelines(f'{digest}  {name}\n'.encode() for name, digest in digests.items())


def _check_files(path: pathlib.Path) -> None:
  lines = (path / _MANIFEST).read_text().splitlines()
  written, found = {line[66:]: line[:64] for line in lines}, _hash_files(path)
  for name in sorted(written.keys() | found.keys()):
    if name not in written or name not in found or written[name] != found[name]:
      raise ValueError(f'{name} is not what was written')


def _difference(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
  for name in sorted(saved.keys() | wanted.keys()):
    if saved.get(name) != wanted.get(name):
      return f'{name}: {saved.get(name, "absent")} saved, {wanted.get(name, "absent")} expected'
  return None
