"""Which examples make which batch: the order of an epoch, batches gathered on the device, padding masked."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int
import numpy as np

from digits.data.arrays import Split


def shuffled_order(seed: int, epoch: int, num_examples: int, batch_size: int) -> Int[np.ndarray, 'steps batch']:
  """Draws the order of one epoch, a function of the seed and the epoch alone; every example is in it once.

  Drawn on the host: on a CPU `jax.random.permutation` sorts twice, and takes a third of an epoch of softmax regression.

  Args:
    seed: seed of the run.
    epoch: the epoch, from 0.
    num_examples: number of examples.
    batch_size: examples per batch.

  Returns:
    Indices of examples, int32; -1 pads the last batch.
  """
  order = np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)
  return np.pad(order, (0, -len(order) % batch_size), constant_values=-1).reshape(-1, batch_size)


def take_batch(split: Split, indices: Int[Array | np.ndarray, ' batch']) -> dict[str, Any]:
  """Gathers a batch from arrays that lie on the device.

  Args:
    split: the split, on the device.
    indices: indices of the examples; -1 for padding.

  Returns:
    dict of image uint8[B, 28, 28, 1], label int32[B] and mask float32[B], 1 for a real row, 0 for padding.
  """
  # Padding is filled with different images: statistics of a whole batch count it too.
  rows = jnp.where(indices >= 0, indices, jnp.arange(len(indices)))
  return {'image': split.image[rows], 'label': split.label[rows], 'mask': (indices >= 0).astype(jnp.float32)}


def host_batches(split: Split, batch_size: int) -> Iterator[dict[str, Any]]:
  """Cuts a split into batches of one shape, on the host, and copies no more than it must.

  Args:
    split: the split, on the host.
    batch_size: examples per batch, B.

  Yields:
    dicts as from `take_batch`, of NumPy arrays; every example has the mask 1 in exactly one of them. The last one
    reaches back over examples of the one before it, masked; it is padded where there are fewer than B examples in all.
  """
  num_examples = len(split.label)
  padding = max(0, batch_size - num_examples)
  for start in range(0, num_examples, batch_size):
    begin = max(0, min(start, num_examples - batch_size))
    rows = np.arange(begin, begin + batch_size)
    image, label = split.image[begin : begin + batch_size], split.label[begin : begin + batch_size]
    if padding:
      image, label = np.pad(image, ((0, padding), (0, 0), (0, 0), (0, 0))), np.pad(label, (0, padding))
    yield {'image': image, 'label': label, 'mask': ((start <= rows) & (rows < num_examples)).astype(np.float32)}
