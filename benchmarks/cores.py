"""How far apart two cores are: prints the nanoseconds that a byte written by one takes to be seen by the other.

A virtual machine's cores may share a cache in one minute and none in the next, as its host moves them. What one core
has computed then reaches the other several times slower, which small models feel.
"""

import mmap
import os
import signal
import time

_MESSAGES = 3000
_SECONDS = 10  # Of which a hundredth is needed. Without its partner, a process would wait for ever, and in a busy loop.


def message_ns(cores, repeats=9):
  """The time of a message from one core to another, in the best of several tries.

  Args:
    cores: two numbers of cores.
    repeats: how many tries.

  Returns:
    Nanoseconds, about 40 of them Python's.
  """
  turn = mmap.mmap(-1, 1)
  child = os.fork() == 0
  mine, other = (1, 0) if child else (0, 1)
  signal.alarm(_SECONDS)
  os.sched_setaffinity(0, {cores[mine]})
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    for _ in range(_MESSAGES):
      while turn[0] != mine:
        pass
      turn[0] = other
    seconds.append(time.perf_counter() - start)
  if child:
    os._exit(0)
  os.wait()
  signal.alarm(0)
  return min(seconds) / _MESSAGES / 2 * 1e9


if __name__ == '__main__':
  allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
  print(round(message_ns(allowed)) if len(allowed) == 2 else 'unknown')  # Of more, those that work may be others.
