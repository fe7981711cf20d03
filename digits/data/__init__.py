"""Handwritten digits as arrays: loading, splits, and batches."""

from digits.data.arrays import Dataset
from digits.data.arrays import Split
from digits.data.batches import host_batches
from digits.data.batches import shuffled_order
from digits.data.batches import take_batch
from digits.data.dataset import default_data_dir
from digits.data.dataset import load_dataset

__all__ = [
  'Dataset',
  'Split',
  'default_data_dir',
  'host_batches',
  'load_dataset',
  'shuffled_order',
  'take_batch',
]
