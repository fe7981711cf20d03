"""Which examples make which batch: the order of an epoch, batches gathered on the device, padding masked."""

import jax
import jax.numpy as jnp
import numpy as np


def shuffled_order(rng, num_examples, batch_size):
  """Draws the order of one epoch; every example is in it once.

  Args:
    rng: PRNG key, spent here.
    num_examples: how many examples there are.
    batch_size: B.

  Returns:
    int32[ceil(num_examples / B), B], indices of examples; -1 pads the last batch.
  """
  order = jax.random.permutation(rng, num_examples).astype(jnp.int32)
  return jnp.pad(order, (0, -len(order) % batch_size), constant_values=-1).reshape(-1, batch_size)


def take_batch(split, indices):
  """Gathers a batch from arrays that lie on the device.

  Args:
    split: `Split` of image uint8[N, 28, 28, 1] and label int32[N].
    indices: int32[B], -1 for padding.

  Returns:
    dict of image uint8[B, 28, 28, 1], label int32[B] and mask float32[B], 1 for a real row, 0 for padding.
  """
  rows = jnp.maximum(indices, 0)
  return {'image': split.image[rows], 'label': split.label[rows], 'mask': (indices >= 0).astype(jnp.float32)}


def host_batches(split, batch_size):
  """Cuts a split into batches in order, on the host; the last one is padded, so that all have one shape.

  Args:
    split: `Split` of NumPy arrays.
    batch_size: B.

  Yields:
    dicts as from `take_batch`, of NumPy arrays.
  """
  for start in range(0, len(split.label), batch_size):
    image, label = split.image[start : start + batch_size], split.label[start : start + batch_size]
    mask = np.ones(len(label), np.float32)
    if len(label) < batch_size:
      padding = batch_size - len(label)
      image = np.pad(image, ((0, padding), (0, 0), (0, 0), (0, 0)))
      label, mask = np.pad(label, (0, padding)), np.pad(mask, (0, padding))
    yield {'image': image, 'label': label, 'mask': mask}
