"""The form of the data: splits of uint8 images and labels, and what every split must satisfy."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

NUM_CLASSES = 10
# The dataset that is MNIST and drawn pictures, and the label of those among its training images that are no digit.
READING = 'reading'
NO_DIGIT = -1
# The datasets whose validation and test images are MNIST's.
OF_MNIST = frozenset({'mnist', READING})
IMAGE_SHAPE = (28, 28, 1)
# What a batch holds for each example: shape and dtype. The mask is 1 for a real row, 0 for padding.
BATCH = {'image': (IMAGE_SHAPE, np.uint8), 'label': ((), np.int32), 'mask': ((), np.float32)}


class Split(NamedTuple):
  """One split: image uint8[N, 28, 28, 1] and label int32[N]; arrays of NumPy, or of JAX on a device.

  Labels are digits 0 to 9, and in the training split of `READING` also `NO_DIGIT`.
  """

  image: Any
  label: Any


class Dataset(NamedTuple):
  """The three splits; `valid` is cut from the end of the original training images."""

  train: Split
  valid: Split
  test: Split


def check_splits(splits: Mapping[str, Split], dataset: str) -> None:
  """Raises ValueError unless the splits are what `load_dataset` promises for the dataset of that name."""
  for name, (image, label) in splits.items():
    if image.shape != (len(label), *IMAGE_SHAPE) or image.dtype != np.uint8:
      raise ValueError(f'the {name} images are {image.dtype}{list(image.shape)}')
    least = NO_DIGIT if dataset == READING and name == 'train' else 0
    if label.dtype != np.int32 or not len(label) or label.min() < least or label.max() >= NUM_CLASSES:
      raise ValueError(f'the {name} labels are not int32 digits')
