"""Seconds by phase, and progress on the terminal."""

from collections.abc import Iterator, Mapping
import contextlib
import sys
import time
from typing import Any

import tqdm

# Plain lines come no more often than this where a terminal would have a moving bar.
_SECONDS_BETWEEN_LINES = 10.0


class Stopwatch:
  """Seconds of a run by phase, `total` among them, summed over its interruptions."""

  def __init__(self):
    self._sums = {'data': 0.0, 'compile': 0.0, 'train': 0.0, 'total': 0.0}
    self._running = {'total': time.monotonic()}

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time inside as that of a phase."""
    self._running[name] = time.monotonic()
    try:
      yield
    finally:
      self._sums[name] += time.monotonic() - self._running.pop(name)

  def add(self, seconds: Mapping[str, float]) -> None:
    """Adds what `seconds` of an earlier part of the run returned."""
    for name, value in seconds.items():
      self._sums[name] += value

  def seconds(self) -> dict[str, float]:
    """Returns the sums up to now, rounded to milliseconds."""
    now = time.monotonic()
    return {name: round(value + now - self._running.get(name, now), 3) for name, value in self._sums.items()}


class Progress(contextlib.AbstractContextManager):
  """A bar on a terminal, lines elsewhere, on standard error.

  Args:
    title: what is being done.
    total_steps: steps of the whole run.
    first_step: steps that an earlier process did.
    batch_size: images per step, for the rate.
    visible: whether to show anything.
  """

  def __init__(self, title: str, total_steps: int, first_step: int, batch_size: int, visible: bool = True):
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

  def update(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Shows where the run is; `metrics` are the loss and accuracy of the latest training steps."""
    rate = (step - self._first) * self._batch_size / max(time.monotonic() - self._start, 1e-9)
    text = f'loss {metrics["loss"]:.4f}, accuracy {metrics["accuracy"]:.2%}, {rate:,.0f} images/s'
    if self._bar is not None:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
      self._line(f'{self._title}: step {step}/{self._total}, {text}, {self._time_left(step)} left')

  def report(self, step: int, text: str) -> None:
    """Shows a line that stays."""
    if self._bar is not None:
      self._bar.write(text, file=sys.stderr)
    else:
      left = f', {self._time_left(step)} left' if step < self._total else ''
      self._line(f'{self._title}: {text}{left}')

  def __exit__(self, *exc_info: object) -> None:
    if self._bar is not None:
      self._bar.close()

  def _line(self, text: str) -> None:
    if self._visible:
      print(text, file=sys.stderr, flush=True)
    self._last_line = time.monotonic()

  def _time_left(self, step: int) -> str:
    seconds = (time.monotonic() - self._start) / max(step - self._first, 1) * (self._total - step)
    return tqdm.tqdm.format_interval(round(seconds))
