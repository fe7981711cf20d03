"""Several processes, on one host or on many, as one program: joining, agreeing, and ending together."""

from collections.abc import Iterator
import contextlib
import os
import socket
import sys
import threading
import time

import jax
from jax.experimental import multihost_utils
import numpy as np

from digits import errors
from digits.runtime import devices

# How long the processes wait for each other to start, and to answer. JAX's own defaults are minutes.
_SECONDS_TO_JOIN = 60
_SECONDS_TO_ANSWER = 30
_SECONDS_OF_GRACE = 2
# What a process says to its peers before it leaves: that it is done, or that it ends with an error of its own.
_DONE, _FAILED = b'.', b'!'


@contextlib.contextmanager
def session(
  coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Iterator[bool]:
  """Joins the other processes while the context lasts; does nothing if there are none.

  It must be entered before JAX starts. A process that loses another one ends at once, with exit code 1.

  Yields:
    Whether it joined any.

  Args:
    coordinator: HOST:PORT of process 0; None to look for SLURM, Open MPI or a TPU pod in the environment.
    num_processes: number of processes.
    process_id: number of this process, from 0.

  Raises:
    UsageError: some of the three are given and some are not, or they do not make sense.
    DigitsError: the others did not join in time.
  """
  if not _join(coordinator, num_processes, process_id):
    yield False
    return
  devices.check_devices()
  with _results_only_on_standard_output(), _watch_peers(coordinator):
    yield True


def _join(coordinator, num_processes, process_id):
  """Joins the other processes; returns whether there are any."""
  arguments = {'coordinator': coordinator, 'num_processes': num_processes, 'process_id': process_id}
  if any(value is not None for value in arguments.values()):
    _check(**arguments)
    if process_id:
      _wait_for(coordinator)
    arguments = {'coordinator_address': coordinator, 'num_processes': num_processes, 'process_id': process_id}
  elif _in_cluster():
    arguments = {}
  else:
    return False
  # JAX would end the process with a C++ trace when its own time is over.
  timer = threading.Timer(
    _SECONDS_TO_JOIN,
    _end,
    [
      f'The processes did not find each other within {_SECONDS_TO_JOIN} s: start all of them, with the same '
      '--coordinator and --num_processes and each with its own --process_id.'
    ],
  )
  timer.start()
  try:
    jax.distributed.initialize(
      **arguments, initialization_timeout=2 * _SECONDS_TO_JOIN, heartbeat_timeout_seconds=_SECONDS_TO_ANSWER
    )
  except (RuntimeError, ValueError) as error:
    raise errors.DigitsError(f'JAX could not join the other processes ({errors.first_line(error)}).') from error
  finally:
    timer.cancel()
  return True


def is_main() -> bool:
  """Whether this is the process that writes: the only one, or process 0."""
  return jax.process_index() == 0


def wait_for_all(name: str) -> None:
  """Waits until every process has reached the point called `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def agree(steps_per_look: int, stop: bool) -> tuple[int, bool]:
  """Agrees on what all processes do next: the fewest steps that one proposes, and a stop if one asks for it."""
  if jax.process_count() == 1:
    return steps_per_look, stop
  wishes = multihost_utils.process_allgather(np.array([steps_per_look, stop], np.int32))
  return int(wishes[:, 0].min()), bool(wishes[:, 1].any())


def _check(coordinator, num_processes, process_id):
  for name, value in (('coordinator', coordinator), ('num_processes', num_processes), ('process_id', process_id)):
    if value is None:
      raise errors.UsageError(f'--{name} is missing: --coordinator, --num_processes and --process_id go together.')
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal():
    raise errors.UsageError(f'--coordinator={coordinator} is not an address: give it as HOST:PORT.')
  if not 0 <= process_id < num_processes:
    raise errors.UsageError(
      f'--process_id={process_id} is not one of --num_processes={num_processes}: they are counted from 0.'
    )


def _wait_for(coordinator):
  """Waits until the coordinator listens: JAX would end the process with a trace of its own if it never does."""
  host, _, port = coordinator.rpartition(':')
  give_up = time.monotonic() + _SECONDS_TO_JOIN
  while True:
    try:
      socket.create_connection((host, int(port)), timeout=1).close()
      return
    except (OSError, OverflowError) as error:
      if time.monotonic() > give_up or isinstance(error, OverflowError):
        raise errors.DigitsError(
          f'--coordinator={coordinator} does not answer ({error}): start process 0 there, or correct the address.'
        ) from error
      time.sleep(0.2)


@contextlib.contextmanager
def _results_only_on_standard_output():
  """Sends what libraries print, such as Gloo, to standard error."""
  sys.stdout.flush()
  results = os.dup(1)
  os.dup2(2, 1)
  try:
    with open(results, 'w', closefd=False) as sys.stdout:
      yield
  finally:
    sys.stdout = sys.__stdout__
    os.dup2(results, 1)
    os.close(results)


@contextlib.contextmanager
def _watch_peers(coordinator):
  """Ends this process with a sentence as soon as another one is gone.

  JAX alone would abort with a C++ trace, or wait in a collective until a heartbeat is missed. Every process holds a
  connection to process 0, which the operating system closes when either of them dies, however it dies.
  """
  failing = threading.Event()
  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      server = stack.enter_context(socket.create_server(('', 0)))
      host = coordinator.rpartition(':')[0] if coordinator else socket.gethostname()
      _broadcast(f'{host}:{server.getsockname()[1]}')
      peers = [stack.enter_context(server.accept()[0]) for _ in range(jax.process_count() - 1)]
    else:
      host, _, port = _broadcast('').rpartition(':')
      peers = [stack.enter_context(socket.create_connection((host, int(port)), timeout=_SECONDS_TO_JOIN))]
      peers[0].settimeout(None)
    threads = [threading.Thread(target=_watch, args=(peer, peers, failing), daemon=True) for peer in peers]
    for thread in threads:
      thread.start()
    try:
      yield
    except BaseException:
      # An error of a collective only says that a peer is gone: then a watching thread ends this process, and says so.
      failing.set()
      _say(_FAILED, peers)
      _join_all(threads, 2 * _SECONDS_OF_GRACE)
      raise
    _say(_DONE, peers)
    _join_all(threads, _SECONDS_TO_ANSWER)


def _watch(peer, peers, failing):
  """Waits for the last word of a peer, and ends this process unless that says that it is done."""
  try:
    word = peer.recv(1)
  except OSError:
    word = b''
  if word == _DONE:
    return
  if word == _FAILED:
    # Where all processes fail for the same reason, each is left time to say so itself. Process 0 tells the others, and
    # leaves last: without it, JAX aborts them.
    grace = float(_SECONDS_OF_GRACE)
    if jax.process_index() == 0:
      _say(_FAILED, [other for other in peers if other is not peer])
      grace *= 1.5
    if failing.wait(grace):
      return
    _say(_FAILED, [peer])
  _end('Another process has ended: find the reason in its output, then start all of them again to continue.')


def _say(word, peers):
  for peer in peers:
    with contextlib.suppress(OSError):  # It is gone.
      peer.sendall(word)


def _join_all(threads, seconds):
  give_up = time.monotonic() + seconds
  for thread in threads:
    thread.join(max(0.0, give_up - time.monotonic()))


def _end(message):
  """Ends the process from any thread, whatever the main thread waits for."""
  sys.stderr.write(f'error: {message}\n')  # In one piece, as XLA's threads may be writing too.
  sys.stderr.flush()
  os._exit(1)


def _broadcast(text):
  """Returns the text of process 0."""
  padded = np.frombuffer(text.encode().ljust(256), np.uint8)
  return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode().strip()


def _in_cluster():
  """Whether a cluster has started this process as one of several."""
  environment = os.environ
  return (
    ('SLURM_PROCID' in environment and int(environment.get('SLURM_STEP_NUM_TASKS', 1)) > 1)
    or int(environment.get('OMPI_COMM_WORLD_SIZE', 1)) > 1
    or ',' in environment.get('TPU_WORKER_HOSTNAMES', '')
  )
