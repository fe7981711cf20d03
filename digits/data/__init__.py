"""Handwritten digits as arrays: loading, splits, and batches."""

from digits.data.arrays import Dataset, Split
from digits.data.batches import host_batches, shuffled_order, take_batch
from digits.data.dataset import default_data_dir, load_dataset

__all__ = [
  'Dataset',
  'Split',
  'default_data_dir',
  'host_batches',
  'load_dataset',
  'shuffled_order',
  'take_batch',
]
