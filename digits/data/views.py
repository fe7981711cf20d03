"""Datasets that are another one seen differently: its pixels permuted, its training images fewer, or repeated."""

import re

from jaxtyping import Int
import numpy as np

from digits import errors
from digits.data import arrays


def apply(view: str, dataset: arrays.Dataset) -> arrays.Dataset:
  """Applies a view.

  Args:
    view: what stands before the colon in the name of a dataset: `permuted`; `subset/COUNT/DRAW`; or `repeated/TIMES`,
      whose training images are those of the other so many times, which makes epochs longer.
    dataset: the data.

  Raises:
    UsageError: there is no such view, or the data has fewer training images than it takes.
  """
  if view == 'permuted':
    return permute_pixels(dataset)
  repeated = re.fullmatch(r'repeated/([1-9]\d{0,5})', view)
  if repeated:
    times = int(repeated[1])
    image, label = dataset.train
    return dataset._replace(train=arrays.Split(np.tile(image, (times, 1, 1, 1)), np.tile(label, times)))
  subset = re.fullmatch(r'subset/([1-9]\d{0,8})/(\d{1,9})', view)
  if not subset:
    raise errors.UsageError(
      f'{view!r} in config.dataset is no view of a dataset: write permuted:NAME, subset/COUNT/DRAW:NAME or '
      'repeated/TIMES:NAME.'
    )
  count, draw = map(int, subset.groups())
  if count > len(dataset.train.label):
    raise errors.UsageError(
      f'config.dataset asks for a subset of {count} training images, and there are {len(dataset.train.label)}.'
    )
  rows = draw_subset(dataset.train.label, count, draw)
  return dataset._replace(train=arrays.Split(dataset.train.image[rows], dataset.train.label[rows]))


def permute_pixels(dataset: arrays.Dataset) -> arrays.Dataset:
  """Puts the pixels of all images of all splits into one other order, drawn once and for all."""
  order = np.random.default_rng(0).permutation(dataset.train.image[0].size)

  def permute(split):
    image = split.image
    return arrays.Split(image.reshape(len(image), -1)[:, order].reshape(image.shape), split.label)

  return arrays.Dataset(*map(permute, dataset))


def draw_subset(label: Int[np.ndarray, ' n'], count: int, draw: int) -> Int[np.ndarray, ' count']:
  """The examples of a subset in which the classes are as equal as they can be, in their original order.

  The subsets of one draw are nested: a smaller one is part of a larger one.

  Args:
    label: the classes of all examples.
    count: number of examples of the subset.
    draw: seed of the draw.
  """
  rng = np.random.default_rng(draw)
  shuffled = rng.permutation(len(label))
  # The place of each example among those of its class; the first of every class come first.
  rank = np.empty(len(label), int)
  for value in np.unique(label):
    mine = shuffled[label[shuffled] == value]
    rank[mine] = np.arange(len(mine))
  return np.sort(shuffled[np.argsort(rank[shuffled], kind='stable')[:count]])
