"""What a run shows and records: metrics.jsonl, TensorBoard events, and progress on the terminal."""

import contextlib
import hashlib
import json
import sys
import time

import tqdm

from digits.runtime import files

# Plain lines come no more often than this where a terminal would have a moving bar.
_SECONDS_BETWEEN_LINES = 10.0


class Stopwatch:
  """Seconds of a run by phase, `total` among them, summed over its interruptions."""

  def __init__(self):
    self._sums = {'data': 0.0, 'compile': 0.0, 'train': 0.0, 'total': 0.0}
    self._running = {'total': time.monotonic()}

  @contextlib.contextmanager
  def phase(self, name):
    """Counts the time inside as that of a phase."""
    self._running[name] = time.monotonic()
    try:
      yield
    finally:
      self._sums[name] += time.monotonic() - self._running.pop(name)

  def add(self, seconds):
    """Adds what `seconds` of an earlier part of the run returned."""
    for name, value in seconds.items():
      self._sums[name] += value

  def seconds(self):
    """Returns the sums up to now, rounded to milliseconds."""
    now = time.monotonic()
    return {name: round(value + now - self._running.get(name, now), 3) for name, value in self._sums.items()}


class MetricsWriter(contextlib.AbstractContextManager):
  """Appends records to metrics.jsonl and to TensorBoard event files.

  Args:
    workdir: `pathlib.Path` of the run.
    history: the records of the run so far; metrics.jsonl is made to hold exactly these, so that a resumed run neither
      repeats nor misses a line, and a damaged file is mended.
    to_disk: whether to write files; of several processes only one does.
  """

  def __init__(self, workdir, history, to_disk=True):
    self.history = list(history)
    self._file = None
    if to_disk:
      self._open(workdir)

  def _open(self, workdir):
    from tensorboardX import SummaryWriter  # 0.2 s to import, and only a run needs it.

    write_metrics(workdir, self.history)
    self._file = open(workdir / 'metrics.jsonl', 'ab')
    last_step = max((record['step'] for record in self.history), default=-1)
    self._events = SummaryWriter(str(workdir), purge_step=last_step + 1)

  def write(self, record):
    """Writes one record: a dict of `step`, `epoch`, `split` and numbers."""
    self.history.append(record)
    if self._file is None:
      return
    self._file.write(_to_line(record))
    self._file.flush()
    for name, value in record.items():
      if name not in ('step', 'epoch', 'split'):
        self._events.add_scalar(f'{record["split"]}/{name}', value, global_step=record['step'])

  def __exit__(self, *exc_info):
    if self._file is not None:
      self._file.close()
      self._events.close()


def write_metrics(workdir, history):
  """Writes metrics.jsonl, whole or not at all, with these records."""
  with files.replace_atomically(workdir / 'metrics.jsonl') as file:
    file.writelines(_to_line(record) for record in history)


def hash_metrics(workdir):
  """The SHA-256 of metrics.jsonl in hexadecimal, or None where there is no such file."""
  try:
    return hashlib.sha256((workdir / 'metrics.jsonl').read_bytes()).hexdigest()
  except FileNotFoundError:
    return None


def _to_line(record):
  return (json.dumps(record, allow_nan=False) + '\n').encode()


class Progress(contextlib.AbstractContextManager):
  """A bar on a terminal, lines elsewhere, on standard error.

  Args:
    title: what is being done.
    total_steps: steps of the whole run.
    first_step: steps that an earlier run did.
    batch_size: images a step, for the rate.
    visible: whether to show anything.
  """

  def __init__(self, title, total_steps, first_step, batch_size, visible=True):
    self._visible = visible
    self._title, self._total, self._batch_size = title, total_steps, batch_size
    self._first, self._start = first_step, time.monotonic()
    self._last_line = self._start
    self._bar = None
    if visible and sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        desc=title,
        total=total_steps,
        initial=first_step,
        unit='step',
        dynamic_ncols=True,
        bar_format='{desc} {percentage:3.0f}% |{bar}| {n}/{total} {postfix} [{elapsed} < {remaining}]',
      )

  def update(self, step, metrics):
    """Shows where the run is; `metrics` are the loss and accuracy of the latest training steps."""
    rate = (step - self._first) * self._batch_size / max(time.monotonic() - self._start, 1e-9)
    text = f'loss {metrics["loss"]:.4f}, accuracy {metrics["accuracy"]:.2%}, {rate:,.0f} images/s'
    if self._bar is not None:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
      self._line(f'{self._title}: step {step}/{self._total}, {text}, {self._time_left(step)} left')

  def report(self, step, text):
    """Shows a line that stays."""
    if self._bar is not None:
      self._bar.write(text, file=sys.stderr)
    else:
      left = f', {self._time_left(step)} left' if step < self._total else ''
      self._line(f'{self._title}: {text}{left}')

  def __exit__(self, *exc_info):
    if self._bar is not None:
      self._bar.close()

  def _line(self, text):
    if self._visible:
      print(text, file=sys.stderr, flush=True)
    self._last_line = time.monotonic()

  def _time_left(self, step):
    seconds = (time.monotonic() - self._start) / max(step - self._first, 1) * (self._total - step)
    return tqdm.tqdm.format_interval(round(seconds))
