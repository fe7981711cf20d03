"""Checkpoints: the only place that knows Orbax.

Orbax writes a step atomically but keeps no checksum of the data: a flipped bit loads as a wrong weight. So every step
carries a SHA-256 of each array and of its own metadata, and a step is used only if all of them agree.
"""

import contextlib
import hashlib
import json
import logging
import pathlib
import shutil
from typing import Any
from typing import NamedTuple

from flax import serialization
import jax
import numpy as np

from digits import errors

_logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
  """A verified checkpoint.

  Attributes:
    step: updates done.
    tree: what was saved, as NumPy arrays in the structure of the template.
    record: the JSON that was saved beside it.
  """

  step: int
  tree: Any
  record: dict


class Damaged(errors.DigitsError):
  """A checkpoint does not hold what was saved in it."""


def list_steps(directory):
  """The steps of a directory that look complete, ascending; that they are whole is for `load` to say."""
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    return []
  return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def load(directory, step, template):
  """Loads one step and checks every array of it.

  Args:
    directory: the directory of checkpoints.
    step: which one.
    template: a pytree of arrays or `jax.ShapeDtypeStruct`; what is saved must match it.

  Returns:
    A `Checkpoint`.

  Raises:
    Damaged: it cannot be read, or an array or the record is not what was saved.
    UsageError: it holds arrays of other names, shapes or dtypes than the template.
  """
  from orbax.checkpoint import v1 as ocp

  path = pathlib.Path(directory).absolute() / str(step)
  like = serialization.to_state_dict(template)
  try:
    metadata = ocp.metadata(path)
    saved, record = metadata.custom_metadata, metadata.custom_metadata['record']
    if saved['record_sha256'] != _hash_json(record) or record['step'] != step:
      raise ValueError('its metadata is not what was saved')
    shapes = {name: [list(leaf.shape), str(np.dtype(leaf.dtype))] for name, leaf in _flatten(like).items()}
    if record['shapes'] != shapes:
      raise errors.UsageError(
        f'{path} holds another model than the config describes ({_difference(record["shapes"], shapes)}).'
      )
    state = ocp.load(path, jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like))
    for name, leaf in _flatten(state).items():
      if record['sha256'][name] != _hash_array(leaf):
        raise ValueError(f'{name} does not match its SHA-256')
  except errors.UsageError:
    raise
  except Exception as error:  # What Orbax raises depends on which byte of which file is damaged.
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')
    raise Damaged(f'The checkpoint {path} is damaged ({reason[:200]}).') from error
  return Checkpoint(step, serialization.from_state_dict(template, state), record['user'])


class Checkpoints(contextlib.AbstractContextManager):
  """The checkpoints that a run writes: the newest two and the best one are kept.

  Two, because one that is damaged later must have one to fall back on.
  """

  def __init__(self, directory):
    from orbax.checkpoint import v1 as ocp

    self.directory = pathlib.Path(directory).absolute()
    self._best_step = None
    self._checkpointer = ocp.training.Checkpointer(
      self.directory, preservation_policy=self, cleanup_tmp_directories=True
    )

  def should_preserve(self, checkpoints, *, context):
    """Orbax asks here which steps to keep."""
    del context
    return [checkpoint.step == self._best_step or i >= len(checkpoints) - 2 for i, checkpoint in enumerate(checkpoints)]

  def save(self, step, tree, record, best_step=None):
    """Saves a step, waits until it is on disk, and deletes the steps that need not be kept.

    Args:
      step: updates done.
      tree: a pytree of arrays.
      record: JSON to keep beside it.
      best_step: the step that is the best so far and is kept however old it gets.

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
    self._best_step = best_step
    try:
      self._checkpointer.save(
        step, state, force=True, custom_metadata={'record': full_record, 'record_sha256': _hash_json(full_record)}
      )
    except Exception as error:  # A full disk arrives as an error of Orbax, TensorStore or the system.
      reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')
      raise errors.DigitsError(
        f'The checkpoint of step {step} could not be written to {self.directory} ({reason[:200]}): '
        'make room or choose another --workdir, and run the same command to go on from the last one.'
      ) from error

  def __exit__(self, *exc_info):
    self._checkpointer.close()


def load_newest(directory, template, needs=lambda record: None):
  """Loads the newest step that is whole, with a warning for each newer one that is not.

  Args:
    directory: the directory of checkpoints.
    template: as in `load`.
    needs: a function of a step's record that gives another step which has to be whole for it to be of use, or None.

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
    except Damaged as error:
      _logger.warning('%s Going back to the one before it.', error)
  return None


def delete_after(directory, step):
  """Deletes the steps after `step`: a run that goes back writes them again."""
  for later in list_steps(directory):
    if later > step:
      shutil.rmtree(pathlib.Path(directory) / str(later))


def _flatten(tree):
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _hash_array(array):
  array = np.ascontiguousarray(array)
  return hashlib.sha256(f'{array.dtype}{array.shape}'.encode() + array.tobytes()).hexdigest()


def _hash_json(value):
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _difference(saved, wanted):
  for name in sorted(saved.keys() | wanted.keys()):
    if saved.get(name) != wanted.get(name):
      return f'{name}: {saved.get(name, "absent")} saved, {wanted.get(name, "absent")} expected'
