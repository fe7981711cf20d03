"""The records of a run: what is in them, when they are made, and the files that keep them."""

from collections.abc import Sequence
import contextlib
import hashlib
import json
import pathlib
from typing import Any, BinaryIO

from digits.runtime import files

Record = dict[str, Any]


def record_steps(epoch_start: int, epoch_end: int, log_every_steps: int) -> list[int]:
  """The steps of an epoch at which training is recorded, its last among them."""
  return [*range(epoch_start, epoch_end, log_every_steps)[1:], epoch_end]


def train_record(
  step: int, epoch: int, scores: Record, *, objective: str, grad_norm: float, learning_rate: float, seconds: float
) -> Record:
  """A line of metrics.jsonl: the training steps since the line before.

  Args:
    step: number of finished updates.
    epoch: the epoch, from 0.
    scores: accuracy, loss and examples of those steps.
    objective: what the loss is, such as `cross-entropy`.
    grad_norm: the largest norm of a gradient among those steps.
    learning_rate: learning rate of the last of them.
    seconds: seconds of training so far.
  """
  rates = {'grad_norm': grad_norm, 'learning_rate': learning_rate, 'seconds': seconds}
  return {'step': step, 'epoch': epoch, 'split': 'train', 'objective': objective} | scores | rates


def valid_record(step: int, epoch: int, scores: Record, seconds: float) -> Record:
  """A line of metrics.jsonl: accuracy, loss and examples of the validation split."""
  return {'step': step, 'epoch': epoch, 'split': 'valid'} | scores | {'seconds': seconds}


def selected_step(history: Sequence[Record], select: str) -> int | None:
  """The step whose weights are tested, by `config.select`: None for the last one, also where nothing was validated.

  Of steps with equal validation losses the earliest is the best.
  """
  if select == 'last':
    return None
  valid = [record for record in history if record['split'] == 'valid']
  return min(valid, key=lambda record: record['loss'])['step'] if valid else None


def valid_scores(history: Sequence[Record], step: int) -> Record | None:
  """The validation scores recorded at a step, or None."""
  for record in history:
    if record['split'] == 'valid' and record['step'] == step:
      return {key: record[key] for key in ('accuracy', 'loss', 'examples')}
  return None


class MetricsWriter(contextlib.AbstractContextManager):
  """Appends records to metrics.jsonl and to TensorBoard event files.

  Args:
    workdir: the run's directory.
    history: the records of the run so far; metrics.jsonl is made to hold exactly these, so that a resumed run neither
      repeats nor misses a line, and a damaged file is repaired.
    to_disk: whether to write files; of several processes only one does.
  """

  def __init__(self, workdir: pathlib.Path, history: Sequence[Record], to_disk: bool = True):
    self.history = list(history)
    self._file: BinaryIO | None = None
    if to_disk:
      from tensorboardX import SummaryWriter  # 0.2 s to import, and only a run needs it.

      write_metrics(workdir, self.history)
      self._file = open(workdir / 'metrics.jsonl', 'ab')
      last_step = max((record['step'] for record in self.history), default=-1)
      self._events = SummaryWriter(str(workdir), purge_step=last_step + 1)

  def write(self, record: Record) -> None:
    """Writes one record: a dict of `step`, `epoch`, `split` and numbers."""
    self.history.append(record)
    if self._file is None:
      return
    self._file.write(_to_line(record))
    self._file.flush()
    for name, value in record.items():
      if name not in ('step', 'epoch', 'split', 'objective'):
        self._events.add_scalar(f'{record["split"]}/{name}', value, global_step=record['step'])

  def __exit__(self, *exc_info: object) -> None:
    if self._file is not None:
      self._file.close()
      self._events.close()


def write_metrics(workdir: pathlib.Path, history: Sequence[Record]) -> None:
  """Writes metrics.jsonl, whole or not at all, with these records."""
  with files.replace_atomically(workdir / 'metrics.jsonl') as file:
    file.writelines(_to_line(record) for record in history)


def hash_metrics(workdir: pathlib.Path) -> str | None:
  """The SHA-256 of metrics.jsonl in hexadecimal, or None where there is no such file."""
  try:
    return hashlib.sha256((workdir / 'metrics.jsonl').read_bytes()).hexdigest()
  except FileNotFoundError:
    return None


def _to_line(record: Record) -> bytes:
  return (json.dumps(record, allow_nan=False) + '\n').encode()
