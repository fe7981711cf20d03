"""The only place that knows TFDS: prepares a dataset in array_record format and decodes all of it."""

import contextlib
import logging
import pathlib
import re
import shutil
import sys
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from digits import errors
from digits.data import arrays
from digits.data.mnist import builder as mnist

_logger = logging.getLogger(__name__)


def check_name(name: str, data_dir: pathlib.Path) -> None:
  """Raises UsageError, before anything is written, unless TFDS has 28x28x1 images in ten classes of that name."""
  if name == 'mnist':
    return
  features = dict(_make_builder(name, data_dir).info.features.items())
  image, label = features.get('image'), features.get('label')
  if getattr(image, 'shape', None) != arrays.IMAGE_SHAPE or getattr(label, 'num_classes', None) != arrays.NUM_CLASSES:
    raise errors.UsageError(
      f'config.dataset={name!r} does not fit: its examples are not 28x28x1 images with labels of ten classes.'
    )


def prepare_and_decode(name: str, data_dir: pathlib.Path) -> dict[str, arrays.Split]:
  """Prepares a dataset if it is not yet, and returns its splits; a damaged MNIST is prepared again.

  Args:
    name: `mnist` or the name of another TFDS dataset.
    data_dir: TFDS's data directory.

  Returns:
    The splits `train` and `test`.

  Raises:
    DigitsError: it needs TensorFlow or a network that are not there, or an archive is not the registered one.
    OSError: the data directory cannot be written.
  """
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  directory = data_dir / (mnist.Builder.name if name == 'mnist' else name)
  if name == 'mnist':  # Elsewhere another program may be preparing.
    for half in directory.glob('incomplete.*'):  # What TFDS leaves when it is killed.
      shutil.rmtree(half)
  prepared = [path for path in directory.iterdir() if path.is_dir()]
  _logger.info('%s %s in %s.', 'Decoding' if prepared else 'Preparing', name, directory)
  try:
    return _prepare_and_decode(name, data_dir)
  except (errors.DigitsError, OSError):
    raise
  except Exception as error:  # What damage raises depends on where in the files it is.
    if not prepared or name != 'mnist':
      raise errors.DigitsError(
        f'{name} cannot be prepared in {directory} ({errors.first_line(error)}): delete that directory and try again.'
      ) from error
    _logger.warning(
      'The prepared dataset in %s is damaged (%s); it is prepared again.', directory, errors.first_line(error)
    )
  for path in prepared:
    shutil.rmtree(path)
  return _prepare_and_decode(name, data_dir)


def open_source(name: str, data_dir: pathlib.Path, split: str) -> Any:
  """Opens a split's prepared records for reading by index; see `prepare_and_decode` for the errors."""
  builder = _make_builder(name, data_dir)
  _download_and_prepare(name, builder)
  return builder.as_data_source(split)


def _prepare_and_decode(name: str, data_dir: pathlib.Path) -> dict[str, arrays.Split]:
  builder = _make_builder(name, data_dir)
  _download_and_prepare(name, builder)
  splits = {split: _decode(builder, split) for split in ('train', 'test')}
  arrays.check_splits(splits, name)
  if name == 'mnist':
    _check_against_archives(splits)
  return splits


def _check_against_archives(splits):
  """Raises ValueError unless the splits are what the archives hold: a count in TFDS's own files has no checksum."""
  for split, (image, label) in splits.items():
    images, labels = (mnist.read_idx(mnist.ARCHIVES / name) for name in mnist.FILES[split])
    if not (np.array_equal(image[..., 0], images) and np.array_equal(label, labels)):
      raise ValueError(f'its {split} split is not that of the archives')


def _make_builder(name: str, data_dir: pathlib.Path) -> Any:
  if name == 'mnist':
    return mnist.Builder(data_dir=data_dir, file_format='array_record')
  try:
    return tfds.builder(name, data_dir=data_dir, file_format='array_record')
  except ValueError as error:  # No such dataset, no such config of it, or not the form of a name.
    raise errors.UsageError(f'config.dataset={name!r} is not a dataset that TFDS knows, such as mnist.') from error


def _download_and_prepare(name: str, builder: Any) -> None:
  """Calls TFDS with the checksums enforced; archives that lie in `manual_dir` are not downloaded."""
  config = tfds.download.DownloadConfig(
    manual_dir=mnist.ARCHIVES if name == 'mnist' else None, force_checksums_validation=True, try_download_gcs=False
  )
  try:
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints its progress; standard output is for results.
      builder.download_and_prepare(download_config=config)
  except ImportError as error:
    raise errors.DigitsError(
      f'TFDS needs TensorFlow to prepare {name}: prepare it in an environment that has TensorFlow, with '
      f'file_format="array_record" and data_dir="{builder.data_dir}", or pip install tensorflow here.'
    ) from error
  except Exception as error:
    # TFDS does not export the class of a wrong checksum, and the errors of a network are of many libraries.
    if type(error).__name__ == 'NonMatchingChecksumError':
      archive = re.search(r'downloaded to (.*), has wrong checksum', str(error))
      raise errors.DigitsError(
        f'{archive[1] if archive else name} is not the registered archive (its SHA-256 or size differs): '
        'put the original file in its place, or install this package again.'
      ) from error
    if type(error).__module__.startswith(('requests', 'urllib3')) or type(error).__name__ == 'DownloadError':
      raise errors.DigitsError(
        f'The archives of {name} could not be downloaded ({type(error).__name__}): it needs a network to be prepared.'
      ) from error
    raise


def _decode(builder: Any, split: str) -> arrays.Split:
  source = builder.as_data_source(split)
  examples = source.__getitems__(range(len(source)))
  return arrays.Split(
    image=np.stack([np.asarray(example['image'], np.uint8) for example in examples]),
    label=np.asarray([example['label'] for example in examples], np.int32),
  )
