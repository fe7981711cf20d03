"""Datasets as arrays: prepared once by TFDS, then read from a checked NumPy cache in a fraction of a second."""

from collections.abc import Callable
import functools
import logging
import os
import pathlib
import re

import numpy as np

from digits import errors
from digits.data import arrays, views
from digits.runtime import files

# Bytes. From such an address JAX's CPU backend takes an array over as it is; from any other it copies.
_ALIGNMENT = 64

_logger = logging.getLogger(__name__)


def default_data_dir() -> str:
  """Where prepared data lives when no config says so: `TFDS_DATA_DIR`, or TFDS's own default."""
  return os.environ.get('TFDS_DATA_DIR') or os.path.join('~', 'tensorflow_datasets')


def load_dataset(
  name: str = 'mnist', data_dir: str | os.PathLike | None = None, num_validation: int = 5000
) -> arrays.Dataset:
  """Loads a dataset of 28x28 grey images in ten classes, preparing it on first use.

  Args:
    name: `mnist`, whose archives come with this package; `reading`, which adds to its training images drawn digits and
      pictures of no digit, labelled `NO_DIGIT`; another TFDS dataset of that form; or a view of one of these, such as
      `permuted:mnist` or `subset/1000/0:mnist`, see `digits.data.views`.
    data_dir: the directory for prepared data; None or '' for `default_data_dir()`.
    num_validation: how many of the last training images become the validation split.

  Returns:
    The splits in the original order, what is added first; read-only, as JAX may compute on their own memory.

  Raises:
    UsageError: the dataset is unknown, not of that form, or not larger than `num_validation`.
    DigitsError: it cannot be prepared, read or written.
  """
  view, separator, viewed = name.partition(':')
  if separator:
    dataset = views.apply(view, load_dataset(viewed, data_dir, num_validation))
    return arrays.Dataset(*(arrays.Split(*map(_align, split)) for split in dataset))
  if not re.fullmatch(r'[a-z0-9_]+(/[a-z0-9_]+)?', name):
    raise errors.UsageError(f'config.dataset={name!r} is not the name of a TFDS dataset, such as mnist.')
  try:
    data_dir = pathlib.Path(data_dir or default_data_dir()).expanduser()
  except RuntimeError as error:
    raise errors.UsageError(
      f'config.data_dir={data_dir!r} is in the home directory of a user who does not exist: correct it.'
    ) from error
  # The cache of mnist is beside what our own builder prepares, away from what TFDS's builder of that name may have.
  directory = data_dir / (f'digits_{name}' if name in arrays.OF_MNIST else name)
  cache = directory / 'arrays.npz'
  with files.describe_os_errors(directory):
    splits = _read_cache(cache, name)
    if splits is None:
      splits = _prepare(name, data_dir, directory, cache)
  train, test = splits['train'], splits['test']
  if num_validation >= len(train.label):
    raise errors.UsageError(
      f'config.num_validation={num_validation} leaves nothing to train on: '
      f'{name} has {len(train.label)} training images.'
    )
  cut = len(train.label) - num_validation
  if num_validation and train.label[cut:].min() == arrays.NO_DIGIT:
    raise errors.UsageError(
      f'config.num_validation={num_validation} is more than the images of MNIST, by which {name} is validated.'
    )
  valid, train = arrays.Split(train.image[cut:], train.label[cut:]), arrays.Split(train.image[:cut], train.label[:cut])
  return arrays.Dataset(*(arrays.Split(*map(_align, split)) for split in (train, valid, test)))


def _prepare(
  name: str, data_dir: pathlib.Path, directory: pathlib.Path, cache: pathlib.Path
) -> dict[str, arrays.Split]:
  """Makes the splits of a dataset and writes them to the cache, unless another process does."""
  prepare: Callable[[], dict[str, arrays.Split]]
  if name == arrays.READING:
    from digits.data import reading  # Imports Matplotlib, for its fonts.

    mnist = load_dataset('mnist', data_dir, num_validation=0)
    prepare = functools.partial(reading.make_splits, {'train': mnist.train, 'test': mnist.test})
  else:
    from digits.data import tfds_backend  # Imports TFDS, which takes a second, and only the first run needs it.

    tfds_backend.check_name(name, data_dir)
    prepare = functools.partial(tfds_backend.prepare_and_decode, name, data_dir)
  directory.mkdir(parents=True, exist_ok=True)
  with files.lock(directory / '.lock', waiting=f'Waiting for another process that prepares {name} in {directory}.'):
    splits = _read_cache(cache, name)  # The process that held the lock may have written it.
    if splits is None:
      splits = prepare()
      _write_cache(cache, splits)
  return splits


def _align(array: np.ndarray) -> np.ndarray:
  """A read-only copy of an array that begins at a multiple of `_ALIGNMENT`."""
  memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % _ALIGNMENT
  aligned = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
  aligned[...] = array
  aligned.flags.writeable = False
  return aligned


def _read_cache(path: pathlib.Path, name: str) -> dict[str, arrays.Split] | None:
  """Returns the cached splits, or None where there are none, with a warning where they are damaged.

  A member of the zip file carries a CRC-32, checked when it is read: it sees any flipped bit and any cut.
  """
  try:
    file = path.open('rb')
  except (FileNotFoundError, NotADirectoryError):
    return None
  with file:
    try:
      with np.load(file, allow_pickle=False) as cached:
        splits = {
          split: arrays.Split(*(cached[f'{split}_{key}'] for key in arrays.Split._fields))
          for split in ('train', 'test')
        }
      arrays.check_splits(splits, name)
      return splits
    except Exception as error:  # What NumPy and zipfile raise depends on which byte is damaged.
      _logger.warning('The data cache %s is damaged (%s); writing it again.', path, str(error) or type(error).__name__)
      return None


def _write_cache(path: pathlib.Path, splits: dict[str, arrays.Split]) -> None:
  with files.replace_atomically(path) as file:
    np.savez(
      file, **{f'{name}_{key}': array for name, split in splits.items() for key, array in split._asdict().items()}
    )
