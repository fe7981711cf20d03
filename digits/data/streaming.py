"""Batches read from the prepared records while training runs, with Grain: for data that does not fit on a device."""

from collections.abc import Callable, Sequence
import functools
import os
import pathlib
from typing import Any

from absl import flags
import grain
from jaxtyping import Int
import numpy as np

from digits.data import dataset, tfds_backend

# Batches read ahead: enough that a slow one does not hold up the device.
_PREFETCHED = 8


def open_records(name: str, data_dir: str | os.PathLike) -> Sequence[Any]:
  """Opens the training records of a dataset, preparing them if need be; see `load_dataset` for arguments and errors."""
  return tfds_backend.open_source(name, pathlib.Path(data_dir or dataset.default_data_dir()).expanduser(), 'train')


@functools.lru_cache(maxsize=2)  # Batches that are read ahead may be of the next epoch.
def _order(make_order, epoch):
  return make_order(epoch)


class _Batches:
  """A random-access source for Grain: item i is the batch of step i."""

  def __init__(self, records, make_order, num_epochs, part):
    self._records, self._make_order, self._part = records, make_order, part
    self._steps_per_epoch = len(_order(make_order, 0))
    self._num_steps = num_epochs * self._steps_per_epoch

  def __len__(self):
    return self._num_steps

  def __getitem__(self, step):
    epoch, index = divmod(int(step), self._steps_per_epoch)
    batch = _order(self._make_order, epoch)[index]
    rows = np.where(batch >= 0, batch, np.arange(len(batch)))[self._part]  # As `take_batch` fills the padding.
    examples = self._records.__getitems__(rows.tolist())
    return {
      'image': np.stack([np.asarray(example['image'], np.uint8) for example in examples]),
      'label': np.asarray([example['label'] for example in examples], np.int32),
      'mask': (batch[self._part] >= 0).astype(np.float32),
    }


class BatchIterator:
  """Iterates over the batches of a run, read ahead in threads or in worker processes.

  Args:
    records: the records from `open_records`.
    make_order: a function of the epoch that gives its batches, as `shuffled_order` does.
    num_epochs: number of epochs of the run.
    part: the rows of each batch that this process reads.
    num_workers: number of processes to read with; 0 for threads of this one.
    state: what `state` of the interrupted iterator returned, to continue after it; or None.
  """

  def __init__(
    self,
    records: Any,
    make_order: Callable[[int], Int[np.ndarray, 'steps batch']],
    *,
    num_epochs: int,
    part: slice,
    num_workers: int = 0,
    state: Any = None,
  ):
    dataset = grain.MapDataset.source(_Batches(records, make_order, num_epochs, part)).to_iter_dataset(
      grain.ReadOptions(num_threads=2, prefetch_buffer_size=_PREFETCHED)
    )
    if num_workers:
      if not flags.FLAGS.is_parsed():  # In a notebook; Grain reads flags of its own when it starts workers.
        flags.FLAGS.mark_as_parsed()
      options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=_PREFETCHED)
      dataset = dataset.mp_prefetch(options)
    self._iterator = iter(dataset)
    if state is not None:
      self._iterator.set_state(state)

  def __iter__(self) -> 'BatchIterator':
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    return next(self._iterator)

  def state(self) -> Any:
    """Where the iterator is, as JSON."""
    return self._iterator.get_state()
