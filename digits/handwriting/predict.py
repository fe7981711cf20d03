"""Digits of images: prepares them as MNIST's were, runs a trained model, and states how sure it is."""

import contextlib
import functools
import logging
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from digits import data
from digits import errors
from digits.data import arrays
from digits.runtime import sealed_json
from digits.train import runs
from digits.train import step as step_lib

# Sizes of compiled calls: one image must not wait for the arithmetic of many, nor each number of images for a compiler.
_BATCH_SIZES = (1, 32, 500)

_logger = logging.getLogger(__name__)


class Predictions(NamedTuple):
  """What a model says of N images.

  Attributes:
    image: uint8[N, 28, 28, 1], what it saw: ink 255 on 0, all zeros where there was none.
    probability: float32[N, 10], one row an image; a row without ink is NaN.
  """

  image: np.ndarray
  probability: np.ndarray

  @property
  def found(self):
    """bool[N], whether there was ink."""
    return self.image.any((1, 2, 3))

  @property
  def ranking(self):
    """int[N, 10], the digits from the likeliest to the least likely."""
    return np.argsort(-self.probability, axis=1, kind='stable')

  @property
  def digit(self):
    """int[N], the likeliest digit; -1 where there was no ink."""
    return np.where(self.found, self.ranking[:, 0], -1)


def predict(images, run, *, temperature=1.0):
  """Says which digits images show.

  Args:
    images: a sequence, mixed as you like, of paths of image files and of arrays, uint8[H, W], [H, W, 1] or RGB
      [H, W, 3]; or one array uint8[N, H, W] or [N, H, W, 1].
    run: a `Run` from `load_run`.
    temperature: what the logits are divided by, from `statistics.fit_temperature`; 1 for the model's own probabilities.

  Returns:
    `Predictions`.

  Raises:
    DigitsError: a file is no image that can be read.
    UsageError: an array is of another type or shape.
  """
  from digits.handwriting import prepare as images_lib  # Imports scipy.ndimage.

  return predict_prepared(images_lib.prepare(_to_arrays(images)), run, temperature=temperature)


def predict_prepared(images, run, *, temperature=1.0):
  """`predict` for images uint8[N, 28, 28, 1] that are as MNIST's already."""
  # In NumPy, because JAX compiles anew for each number of images.
  logits = apply_batched(run, images) / np.float32(temperature)
  powers = np.exp(logits - logits.max(1, keepdims=True))
  probability = powers / powers.sum(1, keepdims=True)
  probability[~images.any((1, 2, 3))] = np.nan
  return Predictions(images, probability)


def apply_batched(run, images):
  """Logits float32[N, 10] of images uint8[N, 28, 28, 1], in a few compiled batch sizes."""
  params = jax.device_put(run.params)
  logits = []
  start = 0
  while start < len(images):
    size = next((size for size in _BATCH_SIZES if size >= len(images) - start), _BATCH_SIZES[-1])
    batch = images[start : start + size]
    padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
    logits.append(np.asarray(_apply(run.model, params, padded))[: len(batch)])
    start += size
  return np.concatenate(logits) if logits else np.zeros((0, arrays.NUM_CLASSES), np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, params, images):
  return step_lib.apply_model(model, params, images)


def load_temperature(workdir, run):
  """The temperature of a run, fitted on its validation split, and kept in its workdir as temperature.json.

  Args:
    workdir: where `run` was loaded from.
    run: a `Run`.

  Returns:
    float; 1 where the run has no validation split.

  Raises:
    DigitsError: the dataset cannot be prepared or read.
  """
  path = pathlib.Path(workdir) / 'temperature.json'
  try:
    kept = sealed_json.read(path)
  except errors.DamagedError as error:
    _logger.warning('%s Fitting the temperature again.', error)
    kept = None
  if kept is not None and kept['step'] == run.step:
    return kept['temperature']
  valid = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation).valid
  from digits import statistics  # SciPy takes a second to import.

  temperature = statistics.fit_temperature(apply_batched(run, valid.image), valid.label) if len(valid.label) else 1.0
  # Another person's workdir may not be writable; then it is fitted each time.
  with contextlib.suppress(OSError):
    sealed_json.write(path, {'step': run.step, 'temperature': temperature})
  return temperature


def load_calibrated(workdir):
  """Loads the models of a workdir, each with its temperature.

  Args:
    workdir: see `find_runs`.

  Returns:
    dict of (`Run`, float) by model name.

  Raises:
    UsageError: there is no run in it.
    DigitsError: a file of a run is damaged, or the dataset cannot be read.
  """
  loaded = {}
  for path in runs.find_runs(workdir):
    run = runs.load_run(path)
    loaded[run.config.model] = run, load_temperature(path, run)
  return loaded


def _to_arrays(images):
  """A uint8 array [N, H, W], or a list of arrays [H, W]."""
  if isinstance(images, np.ndarray):
    if (
      images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,)) or not images[:1].size
    ):
      raise errors.UsageError(
        f'The images are {images.dtype}{list(images.shape)}: give uint8[N, H, W], grey, or a list of images.'
      )
    return images.reshape(images.shape[:3])
  if isinstance(images, str | pathlib.Path):
    raise errors.UsageError(f'{str(images)!r} is one image: give a list of images.')
  return [_to_array(image) for image in images]


def _to_array(image):
  if isinstance(image, str | pathlib.Path):
    from digits.handwriting import image_files  # Imports Pillow.

    return image_files.read(image)
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)) or not image.size:
    raise errors.UsageError(f'An image is {image.dtype}{list(image.shape)}: give uint8[H, W], or [H, W, 3] in colour.')
  if image.shape[2:] == (3,):
    return (image @ np.array([0.299, 0.587, 0.114]) + 0.5).astype(np.uint8)  # Luma, ITU-R BT.601, as Pillow's.
  return image.reshape(image.shape[:2])
