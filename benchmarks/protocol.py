"""How the benchmark talks to the processes it measures: requests and replies, one JSON document a line.

A request names a measurement and its arguments. The replies to it are any number of documents, then `{"done": true}` or
`{"error": "..."}`. Only the standard library is imported here, so that no peer pays for another's imports.
"""

import contextlib
import json
import os
import subprocess
import sys
import time


class WorkerError(Exception):
  """A worker could not do what it was asked."""


def serve(peer):
  """Answers requests from standard input until it ends.

  Args:
    peer: an object whose public methods are the measurements: generators of replies, dicts of JSON types.
  """
  # What libraries print must not get between the replies.
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)

  def send(reply):
    replies.write(json.dumps(reply) + '\n')
    replies.flush()

  for line in sys.stdin:
    request = json.loads(line)
    try:
      for reply in getattr(peer, request.pop('measure'))(**request):
        send(reply)
    except Exception as error:  # The session goes on with the other measurements.
      send({'error': f'{type(error).__name__}: {error}'})
    else:
      send({'done': True})


class Worker:
  """A process that measures.

  Args:
    command: its command line, a list of strings.
    env: its environment; None for this process's.
    log: the path of a file for what it writes to standard error.
  """

  def __init__(self, command, *, log, env=None):
    self._started = time.perf_counter()
    with open(log, 'ab') as file:
      self._process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, env=env, text=True
      )
    self._log = log

  def ask(self, measure, **arguments):
    """Lets the worker do one measurement, and waits for it.

    Args:
      measure: its name.
      **arguments: of JSON types.

    Returns:
      The replies, each with `arrived`: seconds since the process was started.

    Raises:
      WorkerError: the worker raised an error or ended.
    """
    try:
      self._process.stdin.write(json.dumps({'measure': measure, **arguments}) + '\n')
      self._process.stdin.flush()
    except OSError as error:
      raise self._ended() from error
    replies = []
    for line in self._process.stdout:
      arrived = time.perf_counter() - self._started
      reply = json.loads(line)
      if 'error' in reply:
        raise WorkerError(reply['error'])
      if 'done' in reply:
        return replies
      replies.append(reply | {'arrived': arrived})
    raise self._ended()

  def _ended(self):
    with open(self._log, errors='replace') as file:
      lines = file.read().splitlines() or ['']
    return WorkerError(f'the process has ended: {lines[-1]}')

  def close(self):
    """Ends the process and waits for it."""
    with contextlib.suppress(BrokenPipeError):  # Of a request that a process which has ended did not read.
      self._process.stdin.close()
    self._process.stdout.close()
    try:
      self._process.wait(timeout=30)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()


def max_rss():
  """Bytes: the most memory that this process has had in use."""
  import resource

  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else 1024 * peak


def best_gflops(multiply, size, repeats=7):
  """The best rate of a matrix product in several tries.

  Args:
    multiply: does one product of two square matrices and waits for it.
    size: their side.
    repeats: how many tries.

  Returns:
    10^9 floating-point operations a second, a multiplication and an addition counted as two.
  """
  multiply()
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    multiply()
    seconds.append(time.perf_counter() - start)
  return 2 * size**3 / min(seconds) / 1e9
