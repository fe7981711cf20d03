"""The dataset `reading`: MNIST, digits in styles that it lacks, and pictures that are no digit."""

from collections.abc import Mapping
import logging

import numpy as np

from digits.data import arrays, drawn, outliers

NUM_DRAWN = 6000
NUM_OUTLIERS = 8000
_SEED = 20261127  # Of all that is drawn: everybody who prepares the dataset gets the same one.

_logger = logging.getLogger(__name__)


def make_splits(mnist: Mapping[str, arrays.Split]) -> dict[str, arrays.Split]:
  """Adds drawn pictures to MNIST's training split, before its own images; the test split stays as it is.

  Args:
    mnist: the splits `train` and `test`.

  Returns:
    The splits `train`, whose first labels are digits and then `NO_DIGIT`, and `test`.
  """
  _logger.info('Drawing %d digits and %d pictures of no digit.', NUM_DRAWN, NUM_OUTLIERS)
  train = mnist['train']
  parts = (
    drawn.draw_digits(_SEED, NUM_DRAWN),
    outliers.draw_outliers(_SEED + 1, NUM_OUTLIERS, train),
    train,
  )
  return {**mnist, 'train': arrays.Split(*map(np.concatenate, zip(*parts, strict=True)))}
