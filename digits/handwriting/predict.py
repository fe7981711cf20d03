"""From images to digits: prepares them as MNIST's were, applies a trained model, and says how sure it is."""

from collections.abc import Sequence
import contextlib
import functools
import logging
import pathlib
from typing import Any, NamedTuple, TypeAlias

from flax import linen as nn
import jax
from jaxtyping import Array, Bool, Float32, Int, UInt8
import numpy as np

from digits import data, errors
from digits.data import center
from digits.runtime import sealed_json
from digits.train import runs
from digits.train import step as step_lib

# Paths of image files and arrays, or one array of many images of one size.
Images: TypeAlias = Sequence[str | pathlib.Path | np.ndarray] | np.ndarray
Pictures: TypeAlias = UInt8[np.ndarray, 'n 28 28 1']

# Sizes of compiled calls: one image must not wait for the arithmetic of many, nor each number of images for a compiler.
_BATCH_SIZES = (1, 32, 500)
_NUM_CLASSES = 10
_MAX_FITTED = 16  # Temperatures in memory, each with the variables of its run.

_logger = logging.getLogger(__name__)
# Temperatures by the `id` of the variables, which stay here so that no other object can have it.
_fitted: dict[int, tuple[Any, float]] = {}


class Predictions(NamedTuple):
  """What a model says about images.

  Attributes:
    image: what it saw: ink 255 on 0, all zeros where there was no ink.
    probability: one row per image; a row without ink is NaN.
    several: whether the image seems to show more than one digit, which `digits read` reads.
    left_out: whether ink at the image's edge was left out, such as a part of a neighbour.
  """

  image: Pictures
  probability: Float32[np.ndarray, 'n classes']
  several: Bool[np.ndarray, ' n']
  left_out: Bool[np.ndarray, ' n']

  @property
  def found(self) -> Bool[np.ndarray, ' n']:
    """Whether there was ink."""
    return np.any(self.image, (1, 2, 3))

  @property
  def ranking(self) -> Int[np.ndarray, 'n classes']:
    """The digits from the likeliest to the least likely."""
    return np.argsort(-self.probability, axis=1, kind='stable')

  @property
  def digit(self) -> Int[np.ndarray, ' n']:
    """The likeliest digit; -1 where there was no ink."""
    return np.where(self.found, self.ranking[:, 0], -1)


def predict(images: Images, run: runs.Run, temperature: float | None = None) -> Predictions:
  """Says which digit each image shows, with the same probabilities as the command `digits predict`.

  Args:
    images: paths of image files and arrays, uint8[H, W], [H, W, 1] or RGB [H, W, 3], in any mixture; or one array,
      uint8[N, H, W] or [N, H, W, 1].
    run: a run from `load_run`.
    temperature: what the logits are divided by; None for the one that calibrates the run on its validation split, 1 for
      the model's own probabilities.

  Raises:
    DigitsError: a file is not an image that can be read.
    UsageError: an array has another type or shape.
  """
  prepared = prepare_images(images)
  if temperature is None:
    temperature = load_temperature(run)
  probability = compute_probabilities(prepared.image, run, temperature)
  return Predictions(prepared.image, probability, prepared.several, prepared.left_out)


class Prepared(NamedTuple):
  """Images as MNIST's are; the attributes are those of `Predictions`."""

  image: Pictures
  several: Bool[np.ndarray, ' n']
  left_out: Bool[np.ndarray, ' n']


def prepare_images(images: Images) -> Prepared:
  """Prepares images of one digit each; `images` as in `predict`."""
  from digits.handwriting import (
    pieces,  # These import scipy.ndimage.
    prepare,
  )

  pictures = [np.zeros((0, center.SIDE, center.SIDE), np.uint8)]
  several, left_out = [np.zeros(0, bool)], [np.zeros(0, bool)]
  for singles in prepare.extract_inks(_to_arrays(images)):
    pictures.append(center.center(singles.ink))
    several.append(pieces.find_several(singles.ink))
    left_out.append(singles.left_out)
  return Prepared(np.concatenate(pictures)[..., None], np.concatenate(several), np.concatenate(left_out))


def compute_probabilities(
  pictures: Pictures, run: runs.Run, temperature: float = 1.0
) -> Float32[np.ndarray, 'n classes']:
  """Probabilities for images that are as MNIST's already; NaN where there is no ink."""
  # In NumPy, because JAX would compile again for each number of images.
  logits = apply_batched(run, pictures) / np.float32(temperature)
  powers = np.exp(logits - logits.max(1, keepdims=True))
  probability = powers / powers.sum(1, keepdims=True)
  probability[~pictures.any((1, 2, 3))] = np.nan
  return probability


def apply_batched(run: runs.Run, images: Pictures) -> Float32[np.ndarray, 'n classes']:
  """Logits of images, in a few compiled batch sizes."""
  variables = jax.device_put(run.variables)
  logits = [np.zeros((0, _NUM_CLASSES), np.float32)]
  start = 0
  while start < len(images):
    size = next((size for size in _BATCH_SIZES if size >= len(images) - start), _BATCH_SIZES[-1])
    batch = images[start : start + size]
    padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
    logits.append(np.asarray(_apply(run.model, variables, padded))[: len(batch)])
    start += size
  return np.concatenate(logits)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: Any, images: UInt8[Array, 'n h w 1']) -> Float32[Array, 'n classes']:
  return step_lib.apply_model(model, variables, images)


def load_temperature(run: runs.Run) -> float:
  """The temperature that calibrates a run on its validation split, kept as temperature.json in its workdir.

  It is 1 if the run has no validation split.

  Raises:
    DigitsError: the dataset cannot be prepared or read.
  """
  path = run.workdir and run.workdir / 'temperature.json'
  try:
    kept = path and sealed_json.read(path)
  except errors.DamagedError as error:
    _logger.warning('%s Fitting the temperature again.', error)
    kept = None
  if kept and kept['step'] == run.step:
    return kept['temperature']
  temperature = _fit_temperature(run)
  if path:
    with contextlib.suppress(OSError):  # Another person's workdir may not be writable.
      sealed_json.write(path, {'step': run.step, 'temperature': temperature})
  return temperature


def _fit_temperature(run: runs.Run) -> float:
  key = id(run.variables)
  if key not in _fitted:
    from digits import statistics  # SciPy takes a second to import.

    valid = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation).valid
    if len(_fitted) == _MAX_FITTED:
      _fitted.clear()
    logits = apply_batched(run, valid.image)
    _fitted[key] = run.variables, statistics.fit_temperature(logits, valid.label) if len(valid.label) else 1.0
  return _fitted[key][1]


def load_calibrated(workdir: str | pathlib.Path) -> dict[str, tuple[runs.Run, float]]:
  """Loads the models of a workdir, each with its temperature, by the names that `find_runs` gives them.

  Raises:
    UsageError: there is no run in it.
    DigitsError: a file of a run is damaged, or the dataset cannot be read.
  """
  loaded = {name: runs.load_run(path) for name, path in runs.find_runs(workdir).items()}
  return {name: (run, load_temperature(run)) for name, run in loaded.items()}


def _to_arrays(images: Images) -> np.ndarray | list[np.ndarray]:
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


def _to_array(image: str | pathlib.Path | np.ndarray) -> UInt8[np.ndarray, 'h w']:
  if isinstance(image, str | pathlib.Path):
    from digits.handwriting import image_files  # Imports Pillow.

    return image_files.read(image).image
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)) or not image.size:
    raise errors.UsageError(f'An image is {image.dtype}{list(image.shape)}: give uint8[H, W], or [H, W, 3] in colour.')
  if image.shape[2:] == (3,):
    return (image @ np.array([0.299, 0.587, 0.114]) + 0.5).astype(np.uint8)  # Luma, ITU-R BT.601, as Pillow's.
  return image.reshape(image.shape[:2])
