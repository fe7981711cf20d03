"""Ctrl-C and SIGTERM as a request to stop, so that a run can save first."""

from collections.abc import Iterator
import contextlib
import signal
import threading
from typing import Any

# The signals that came while none was caught here. A library may swallow the exception that a handler raises.
came: list[int] = []


@contextlib.contextmanager
def catch_signals() -> Iterator[threading.Event]:
  """Yields an event that Ctrl-C and SIGTERM set; a second signal ends the process at once.

  Only the main thread can catch signals; elsewhere the event is never set.
  """
  event = threading.Event()
  if came:
    event.set()
  if threading.current_thread() is not threading.main_thread():
    yield event
    return
  previous: dict[int, Any] = {}

  def handle(number, frame):
    del frame
    event.set()
    signal.signal(number, previous[number])

  for number in (signal.SIGINT, signal.SIGTERM):
    previous[number] = signal.signal(number, handle)
  try:
    yield event
  finally:
    for caught, handler in previous.items():
      signal.signal(caught, handler)
