"""Where the trials of faults.py happen: runs in forks that can be struck at any moment or file operation."""

import hashlib
import json
import mmap
import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp  # noqa: F401, imported once for all forks, as are some below.
import scipy.stats  # noqa: F401
import tensorboardX  # noqa: F401

from digits import config as config_lib
from digits import data
from digits.commands import cli
from digits.data import (
  dataset,
  tfds_backend,  # noqa: F401
)
from digits.data.mnist import builder
from digits.experiments import runner
from digits.experiments import train as train_experiment
from digits.handwriting import predict  # noqa: F401
from digits.store import checkpoint
from digits.store import results as results_lib
from digits.store import workdir as workdir_lib
from digits.train import compiled, loop
from tests import conftest

# A rate at which the best step is not the last one, so that checkpoints depend on each other.
RUN = [
  '--config=configs/mlp.py',
  '--config.architecture.hidden_units=16',
  '--config.num_validation=60',
  '--config.epochs=4',
  '--config.batch_size=32',
  '--config.eval_batch_size=50',
  '--config.schedule=constant',
  '--config.learning_rate=3.0',
  '--config.warmup_fraction=0.0',
  '--config.log_every_steps=3',
]
PHASES = ('start', 'prepare data', 'write cache', 'train', 'compile', 'evaluate', 'save checkpoint', 'write results')
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FILE_EVENTS = ('open', 'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.listdir', 'os.scandir', 'shutil.rmtree')


class LostError(Exception):
  """What must not happen: the trial's verdict."""


class Process:
  """A fork that runs a function, with its output in files, killable and watched.

  Args:
    function: what it runs.
    directory: where its output goes, and the files whose operations are counted.
    phases: shared memory in which it says where it is.
    strike: the number of the file operation before which it kills itself; None for never.
  """

  def __init__(self, function, directory, phases, strike=None):
    self.directory, self._phases = directory, phases
    self._out, self._err = (pathlib.Path(tempfile.mkstemp(dir=directory.parent, prefix=name)[1]) for name in ('o', 'e'))
    self._start, phases[0], phases[1:5] = time.monotonic(), 0, bytes(4)
    self.code = None
    # In the fork until `cli.run`, as what they raise before would unwind the campaign itself there.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    self.pid = os.fork()
    if not self.pid:
      self._live(function, strike)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

  def _live(self, function, strike):
    code = 1
    try:
      for number, path in ((1, self._out), (2, self._err)):
        os.dup2(os.open(path, os.O_WRONLY), number)
      _count_file_operations(self.directory, self._phases, strike)
      _unblock_signals_in_commands()
      function()
      code = 0
    except SystemExit as error:
      if isinstance(error.code, str):  # As Python does at its end.
        print(error.code, file=sys.stderr)
      else:
        code = error.code or 0
    except BaseException:
      traceback.print_exc()
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)

  def wait(self, seconds=300):
    """Waits until it ends or the time is over; returns its exit code or None."""
    deadline = time.monotonic() + seconds
    while self.code is None:
      pid, status = os.waitpid(self.pid, os.WNOHANG)
      if pid:
        self.code = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self._start
      elif time.monotonic() >= deadline:
        return None
      else:
        time.sleep(0.0005)
    return self.code

  def send(self, number):
    """Sends a signal; returns the phase in which it struck, or None where the process had ended."""
    if self.wait(0) is not None:
      return None
    phase = self.phase
    os.kill(self.pid, number)
    return phase

  @property
  def phase(self):
    """Where it is, or was at its end."""
    return PHASES[self._phases[0]]

  @property
  def file_operations(self):
    """The phases in which it has done one in its directory, a number for each."""
    return list(self._phases[5 : 5 + int.from_bytes(self._phases[1:5], 'little')])

  @property
  def stdout(self):
    """What it has printed."""
    return self._out.read_text(errors='replace')

  @property
  def stderr(self):
    """What it has said besides."""
    return self._err.read_text(errors='replace')


def _unblock_signals_in_commands():
  run = cli.run

  def run_unblocked(main):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    run(main)

  cli.run = run_unblocked


def _count_file_operations(directory, phases, strike):
  count = 0

  def hook(event, args):
    nonlocal count
    if event in _FILE_EVENTS and str(args[0]).startswith(str(directory)):
      if count == strike:
        os.kill(os.getpid(), signal.SIGKILL)
      phases[5 + count] = phases[0]
      count += 1
      phases[1:5] = count.to_bytes(4, 'little')

  sys.addaudithook(hook)


def _mark_phases(phases):
  """Makes a run say where it is; it does nothing else to it."""

  def mark(owner, name, phase):
    function = getattr(owner, name)

    def marked(*args, **kwargs):
      before, phases[0] = phases[0], PHASES.index(phase)
      try:
        return function(*args, **kwargs)
      finally:
        phases[0] = before

    setattr(owner, name, marked)

  mark(data, 'load_dataset', 'prepare data')
  mark(dataset, '_write_cache', 'write cache')
  mark(train_experiment, 'work', 'train')
  mark(compiled.InMemory, '__init__', 'compile')
  mark(loop, 'evaluate_split', 'evaluate')
  mark(checkpoint.Checkpoints, 'save', 'save checkpoint')
  mark(runner, 'write_results', 'write results')


class World:
  """Where trials happen.

  Args:
    directory: an empty directory.

  Attributes:
    plant: a function that puts a bug into the processes, or None.
  """

  def __init__(self, directory):
    self.directory, self.plant = directory, None
    self.phases = mmap.mmap(-1, mmap.PAGESIZE)
    self.archives = directory / 'archives'
    builder.Builder.url_infos = conftest.write_archives(self.archives)
    builder.ARCHIVES = self.archives
    self.data, self.reference = directory / 'reference' / 'data', directory / 'reference' / 'run'
    self._count, self.end, self.examples = 0, None, []

    # The longest way, with the data to prepare: what the random moments are drawn in.
    whole = self.new_trial(empty_data=True)
    process = self.launch(whole)
    if process.wait():
      raise RuntimeError(process.stderr)
    self.seconds, self.file_operations = process.seconds, process.file_operations
    shutil.copytree(whole / 'data', self.data)
    subprocess.run(
      [sys.executable, 'launch.py', *RUN, f'--workdir={self.reference}'],
      cwd=conftest.ROOT,
      env=os.environ | {'TFDS_DATA_DIR': str(self.data)},
      check=True,
      capture_output=True,
    )
    for _ in range(2):  # The second finds its programs compiled, as the trials do.
      process = self.launch(self.new_trial())
      process.wait()
    self.prepared_seconds, self.prepared_file_operations = process.seconds, process.file_operations
    self.end = self.read_end(self.reference)
    self.compare(whole, 'the fork that prepared the data')

  def new_trial(self, empty_data=False):
    """A directory of a trial, with `data` prepared or not there."""
    self._count += 1
    trial = self.directory / f'trial{self._count}' / 'files'
    trial.mkdir(parents=True)
    if not empty_data:
      shutil.copytree(self.data, trial / 'data')
    return trial

  def _keep_compiled(self):
    """Takes compiled programs from disk; what is compared with was made by a process that compiled its own."""
    jax.config.update('jax_compilation_cache_dir', str(self.directory / 'compiled'))
    # Written by the undisturbed runs alone: a kill must not tear a file that is not the product's.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 1e9 if self.end else 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)

  def launch(self, trial, strike=None, workdir='run', prelude=lambda: None, arguments=RUN):
    """Starts `launch.py` in a fork."""

    def run():
      os.environ['TFDS_DATA_DIR'] = str(trial / 'data')
      os.chdir(conftest.ROOT)
      self._keep_compiled()
      prelude()
      _mark_phases(self.phases)
      if self.plant:
        self.plant()
      sys.argv = ['launch.py', *arguments, f'--workdir={trial / workdir}']
      runpy.run_path(str(conftest.ROOT / 'launch.py'), run_name='__main__')

    return Process(run, trial, self.phases, strike)

  def command(self, trial, name, *arguments):
    """Runs `python -m digits COMMAND` in a fork to its end."""

    def run():
      os.environ['TFDS_DATA_DIR'] = str(trial / 'data')
      os.chdir(trial)
      if self.plant:
        self.plant()
      sys.argv = ['digits', name, *arguments]
      runpy.run_module('digits', run_name='__main__')

    process = Process(run, trial, self.phases)
    process.wait()
    return process

  def call(self, trial, function):
    """What a function returns in a fork: JSON."""

    def run():
      if self.plant:
        self.plant()
      print(json.dumps(function()))

    process = Process(run, trial, self.phases)
    if process.wait():
      raise LostError(f'it cannot be read: {process.stderr.strip()[-300:]}')
    return json.loads(process.stdout.splitlines()[-1])

  def read_end(self, workdir):
    """All that a run leaves, but for times."""

    def read():
      config = config_lib.from_dict(workdir_lib.read_config(workdir))
      kept = checkpoint.list_steps(workdir / 'checkpoints')
      results = results_lib.read_results(workdir)
      for name in ('seconds', 'sha256', 'metrics_sha256'):
        del results[name]
      template = loop.carry_template(config)
      trees = [checkpoint.load(workdir / 'checkpoints', step, template).tree for step in (kept[-1], results['step'])]
      records = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
      return {
        'config': config_lib.to_dict(config),
        'arrays': [
          {jax.tree_util.keystr(path): hashlib.sha256(leaf.tobytes()).hexdigest() for path, leaf in leaves}
          for leaves in (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in trees)
        ],
        'steps': kept,
        'results': results,
        'metrics.jsonl': [{name: record[name] for name in record if name != 'seconds'} for record in records],
        'files': sorted(path.name for path in workdir.iterdir() if not path.name.startswith('events.')),
      }

    return self.call(workdir.parent, read)

  def compare(self, trial, what, workdir='run'):
    """Raises LostError unless a run ended as the undisturbed one did, bit for bit, and left nothing lying about."""
    end = self.read_end(trial / workdir)
    for name, value in self.end.items():
      if end[name] != value:
        raise LostError(f'{name} differs after {what}: {str(end[name])[:200]} in place of {str(value)[:200]}')
    litter = [path for path in trial.rglob('*') if re.search(r'\.tmp$|incomplete|orbax-checkpoint-tmp', path.name)]
    if litter:
      raise LostError(f'{litter[0]} was left behind after {what}')
    with (
      np.load(trial / 'data' / 'digits_mnist' / 'arrays.npz') as ours,
      np.load(self.data / 'digits_mnist' / 'arrays.npz') as theirs,
    ):
      if ours.files != theirs.files or any(not np.array_equal(ours[name], theirs[name]) for name in ours.files):
        raise LostError(f'the data differs after {what}')

  def finish(self, trial, what, workdir='run'):
    """Runs the command again, to the end, and compares."""
    process = self.launch(trial, workdir=workdir)
    if process.wait() != 0:
      raise LostError(f'the same command does not go on after {what}: {process.code}, {process.stderr.strip()[-300:]}')
    self.compare(trial, what, workdir)
    return process
