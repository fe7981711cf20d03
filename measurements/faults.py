"""The fault campaign: starts real runs, hurts them, starts them again, and compares with runs that were left alone.

python -m measurements.faults --trials=100 --seed=0 [--kind=kill ...] [--json=FILE] [--plant=BUG]

Every trial is a run of launch.py in a process of its own on a small synthetic MNIST. The processes are forks of this
one, which has imported everything and started nothing, and they find their programs compiled: so the random moments
fall into what a run does. What they are compared with was made by `python launch.py`, and by nothing else.
"""

import argparse
import collections
import contextlib
import ctypes
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

# Before JAX is imported, and for every process.
os.environ.update(JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='1', CHECK_TYPES='0')

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np

from digits import config as config_lib
from digits import errors, experiments
from digits.runtime import files
from digits.store import checkpoint
from digits.store import results as results_lib
from digits.train import loop
from measurements import fault_runs
from tests import conftest

SECONDS_TO_STOP = 10  # After Ctrl-C or SIGTERM.


class Verdict(NamedTuple):
  """How a trial went: `outcome` is a word, `struck` says where in the run, or what, the fault hit."""

  outcome: str
  struck: tuple


def _plant_no_checksums():
  checkpoint._check_files = checkpoint._check_arrays = lambda *args: None


def _plant_no_lock():
  @contextlib.contextmanager
  def pretend_to_lock(path, **kwargs):
    path.touch()
    yield

  files.lock = pretend_to_lock


def _plant_forgetful():
  load_newest = checkpoint.load_newest

  def forget_momentum(*args):
    newest = load_newest(*args)
    if newest is None:
      return None
    state = newest.tree.state
    state = state.replace(opt_state=jax.tree.map(lambda leaf: 0 * leaf, state.opt_state))
    return newest._replace(tree=newest.tree.replace(state=state))

  checkpoint.load_newest = forget_momentum


# Bugs that the campaign must catch, or it is worth nothing, each with the kind of trial that must.
PLANTS = {
  'no-checksums': (_plant_no_checksums, 'flip'),
  'no-lock': (_plant_no_lock, 'writers'),
  'forgetful': (_plant_forgetful, 'kill'),
}


def check_sentence(process, codes=(1, 2)):
  """Raises fault_runs.LostError unless a process that failed has said why in one sentence."""
  said = [line for line in process.stderr.splitlines() if line.startswith('error: ')]
  if process.code not in codes or len(said) != 1 or 'Traceback' in process.stderr:
    raise fault_runs.LostError(f'no sentence but code {process.code}: {process.stderr.strip()[-500:]}')
  return said[0]


def try_kill(world, rng):
  """SIGKILL, up to three times in a row, at random times and before random file operations."""
  empty = bool(rng.random() < 0.5)
  trial, struck = world.new_trial(empty), []
  seconds, operations = (
    (world.seconds, world.file_operations) if empty else (world.prepared_seconds, world.prepared_file_operations)
  )
  num_kills = rng.integers(1, 4)
  while len(struck) < num_kills:
    if rng.random() < 0.5:
      phase = _choose(rng, sorted(set(operations)))  # Each alike, however short it is.
      strike = _choose(rng, [number for number, at in enumerate(operations) if at == phase])
      process = world.launch(trial, strike=strike)
      process.wait()
      phase = process.phase
    else:
      process = world.launch(trial)
      process.wait(rng.random() * seconds)
      phase = process.send(signal.SIGKILL)
      process.wait()
    if process.code == -signal.SIGKILL:
      struck.append(phase)
    elif process.code:
      raise fault_runs.LostError(f'it failed after kills in {struck}: {process.stderr.strip()[-300:]}')
    elif struck:
      break
    else:  # It was done before.
      trial = world.new_trial(empty)
  world.finish(trial, f'kills in {struck}')
  return Verdict('recovered', tuple(struck))


def try_term(world, rng):
  """Ctrl-C or SIGTERM: it stops within ten seconds, says so, and has saved."""
  empty = bool(rng.random() < 0.3)
  number = (signal.SIGTERM, signal.SIGINT)[rng.integers(2)]
  phase = None
  while phase is None:  # It was done before.
    trial = world.new_trial(empty)
    process = world.launch(trial)
    process.wait(rng.uniform(0.02, 1) * (world.seconds if empty else world.prepared_seconds))
    phase, sent = process.send(number), time.monotonic()
  process.wait()
  seconds = time.monotonic() - sent
  what = f'{number.name} in {phase}'
  if process.code:
    sentence = check_sentence(process, codes=(1,))
    if seconds > SECONDS_TO_STOP:
      raise fault_runs.LostError(f'{what}: it took {seconds:.1f} s to stop')
    saved = re.search(r'saved at step (\d+)', sentence)
    if 'Stopped' not in sentence or (saved and not (trial / 'run' / 'checkpoints' / saved[1] / 'SHA256SUMS').exists()):
      raise fault_runs.LostError(f'{what}: {sentence}')
  world.finish(trial, what)
  return Verdict('recovered', (phase,))


def try_flip(world, rng):
  """One flipped bit in a checkpoint: it is named, and the newest good one loads exactly."""
  trial = world.new_trial()
  shutil.copytree(world.reference / 'checkpoints', trial / 'run' / 'checkpoints')
  step = _choose(rng, world.end['steps'])
  path = _choose(rng, [path for path in _files_of(trial / 'run' / 'checkpoints' / str(step)) if path.stat().st_size])
  _flip(rng, path)

  def load():
    config = config_lib.from_dict(world.end['config'])
    template = loop.carry_template(config)
    try:
      checkpoint.load(trial / 'run' / 'checkpoints', step, template)
    except errors.DamagedError:
      return 'noticed'
    return 'believed'

  if world.call(trial, load) != 'noticed':
    raise fault_runs.LostError(f'a bit of {path} was flipped, and it was loaded')
  return Verdict('noticed', (path.name if len(path.name) < 32 else 'arrays',))


def _choose(rng, items):
  return items[rng.integers(len(items))]


def _files_of(directory):
  return sorted(path for path in directory.rglob('*') if path.is_file() and not path.is_symlink())


def _flip(rng, path):
  content = bytearray(path.read_bytes())
  # Half of the flips in the first or last bytes, where a format keeps what it is.
  position = rng.integers(len(content))
  if rng.random() < 0.5:
    position = int(rng.integers(-min(500, len(content)), min(500, len(content))))
  content[position] ^= 1 << rng.integers(8)
  path.write_bytes(content)


def _hurt(rng, target):
  """Damages a file, or half of a directory; returns what was done to what."""
  if target.is_dir():
    files_there = _files_of(target)
    for path in rng.permutation(files_there)[: (len(files_there) + 1) // 2]:
      path.unlink()
    return 'half copied'
  damage = _choose(rng, ('flipped', 'truncated', 'deleted', 'emptied') if target.stat().st_size else ('deleted',))
  if damage == 'flipped':
    _flip(rng, target)
  elif damage == 'truncated':
    os.truncate(target, rng.integers(target.stat().st_size))
  elif damage == 'emptied':
    os.truncate(target, 0)
  else:
    target.unlink()
  return damage


def try_damage(world, rng):
  """A bit, a file or half a directory lost in what lies on disk, of a finished or an unfinished run."""
  trial = world.new_trial()
  shutil.copytree(world.reference, trial / 'run')
  finished = bool(rng.random() < 0.5)
  if not finished:  # As a kill before the results leaves it.
    (trial / 'run' / 'results.json').unlink()
  where = _choose(rng, ('checkpoints', 'checkpoints', 'data', 'cache', 'config.json', 'results.json', 'metrics.jsonl'))
  if where == 'results.json' and not finished:
    where = 'checkpoints'
  if where in ('data', 'cache') and finished:
    (trial / 'run' / 'results.json').unlink()
  directory = trial / 'data' / 'digits_mnist'
  if where == 'checkpoints':
    targets = _files_of(trial / 'run' / where)
    targets += list((trial / 'run' / where).iterdir()) * 3
  elif where == 'data':
    (directory / 'arrays.npz').unlink()
    targets = [*_files_of(directory / '1.0.0'), directory / '1.0.0']
  else:
    targets = [directory / 'arrays.npz' if where == 'cache' else trial / 'run' / where]
  target = _choose(rng, targets)
  what = f'{target.relative_to(trial)} was {_hurt(rng, target)}'
  named = re.escape(str(target))
  if where == 'checkpoints':
    named = str(trial / 'run' / 'checkpoints') + r'/\d+'
  elif where == 'data':
    named = re.escape(str(directory))

  process = world.launch(trial)
  if process.wait():
    sentence = check_sentence(process)
    if not re.search(named, sentence):
      raise fault_runs.LostError(f'{what}: refused without its name: {sentence}')
    return Verdict('refused', (where,))
  outcome = 'recovered' if re.search(named, process.stderr) else 'not needed'
  if where == 'checkpoints' and finished:  # The command does not need them: a command that does must say so.
    evaluated = world.command(trial, 'evaluate', f'--workdir={trial / "run"}', '--json')
    if evaluated.code:
      check_sentence(evaluated)
      (trial / 'run' / 'results.json').unlink()
      world.finish(trial, what)
      return Verdict('refused', (where,))
    if json.loads(evaluated.stdout)['loss'] != world.end['results']['test']['loss']:
      raise fault_runs.LostError(f'{what}: a wrong number: {evaluated.stdout}')
    return Verdict(outcome, (where,))
  world.compare(trial, what)
  return Verdict(outcome, (where,))


def try_disk(world, rng):
  """A full disk, a limit on the size of files, or permission lost, in the middle; then it is mended."""
  how = _choose(rng, ('full disk', 'file size limit', 'permission lost'))
  empty = bool(rng.random() < 0.3)
  if how == 'full disk' and not _can_mount():
    how = 'file size limit'
  trial = world.new_trial(empty)
  if how == 'full disk':
    small = int(rng.integers(4, 1200 if empty else 200)) << 10
    prepared = trial.parent / 'prepared'
    if not empty:
      (trial / 'data').rename(prepared)
      small += sum(path.stat().st_size + 4096 for path in _files_of(prepared)) + (64 << 10)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={small}', 'tmpfs', trial], check=True)
    try:
      if not empty:
        shutil.copytree(prepared, trial / 'data')
      process = world.launch(trial)
      process.wait()
      _check_refused_or_done(process)
      subprocess.run(['mount', '-o', 'remount,size=64m', trial], check=True)
      world.finish(trial, f'{how} of {small} bytes')
    finally:
      subprocess.run(['umount', '-l', trial], check=True)
  elif how == 'file size limit':
    limit = int(2 ** rng.uniform(8, 19))

    def limit_files():
      signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
      resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    process = world.launch(trial, prelude=limit_files)
    process.wait()
    _check_refused_or_done(process)
    world.finish(trial, f'{how} of {limit}')
  else:
    process = world.launch(trial, prelude=_obey_permissions)
    process.wait(rng.random() * (world.seconds if empty else world.prepared_seconds))
    directories = [path for path in (trial, *trial.rglob('*')) if path.is_dir()]
    target = _choose(rng, directories)
    if target.exists():
      target.chmod(0o500)
    process.wait()
    _check_refused_or_done(process)
    if target.exists():
      target.chmod(0o700)
    again = world.launch(trial, prelude=_obey_permissions)
    if again.wait():
      raise fault_runs.LostError(
        f'the same command does not go on after {how} of {target}: {again.stderr.strip()[-300:]}'
      )
    world.compare(trial, f'{how} of {target}')
  return Verdict('refused, then recovered' if process.code else 'not hit', (how,))


def _obey_permissions():
  """Gives up what lets root write where the permissions say no: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
  libc = ctypes.CDLL(None)
  header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
  libc.capget(header, sets)
  for i in (0, 1):  # Effective and permitted.
    sets[i] &= ~0b110
  libc.capset(header, sets)


def _check_refused_or_done(process):
  if process.code:
    check_sentence(process)


def _can_mount():
  with tempfile.TemporaryDirectory() as directory:
    if os.getuid() or subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', directory], capture_output=True).returncode:
      return False
    subprocess.run(['umount', directory], check=True)
  return True


def try_writers(world, rng):
  """Two runs at once on one workdir, or on one empty data directory; sometimes after a third was killed."""
  one_workdir = bool(rng.random() < 0.5)
  empty = not one_workdir or bool(rng.random() < 0.5)
  trial = world.new_trial(empty)
  dead = bool(rng.random() < 0.3)
  if dead:
    killed = world.launch(trial)
    killed.wait(rng.random() * world.seconds)
    killed.send(signal.SIGKILL)
    killed.wait()
  names = ('run', 'run') if one_workdir else ('run', 'other')
  first = world.launch(trial, workdir=names[0])
  first.wait(rng.choice([0, rng.random()]) * world.prepared_seconds)
  second = world.launch(trial, workdir=names[1])
  refused = 0
  for process in (first, second):
    if process.wait():
      refused += 1
      if 'is in use by another run' not in check_sentence(process) or not one_workdir:
        raise fault_runs.LostError(f'one of two writers failed: {process.stderr.strip()[-300:]}')
  if refused == 2:
    raise fault_runs.LostError('two writers refused each other')
  for name in set(names):
    world.compare(trial, 'two writers', name)
  where = ('one workdir' if one_workdir else 'one data directory') + (', a dead lock' if dead else '')
  return Verdict('one refused' if refused else 'both done', (where,))


def try_load(world, rng):
  """A command that loads a run, on a workdir with a file missing, empty, truncated or flipped."""
  trial = world.new_trial()
  shutil.copytree(world.reference, trial / 'run')
  picture = trial / 'seven.png'
  _write_picture(picture)
  name = _choose(rng, ('evaluate', 'predict', 'read', 'export'))
  if name == 'export':
    arguments = ['--format=safetensors', f'--output={trial / "model"}', '--json']
  else:
    arguments = ['--json'] if name == 'evaluate' else ['--json', str(picture)]
  arguments.append(f'--workdir={trial / "run"}')
  good = world.command(trial, name, *arguments)
  if good.code:
    raise RuntimeError(good.stderr)
  names = [path for path in _files_of(trial / 'run') if not path.name.startswith(('.', 'events.'))]
  target = _choose(rng, names)
  what = f'{name}, {target.relative_to(trial)} was {_hurt(rng, target)}'
  process = world.command(trial, name, *arguments)
  if process.code:
    check_sentence(process)
    return Verdict('refused', (name,))
  if process.stdout != good.stdout:
    raise fault_runs.LostError(f'{what}: {process.stdout[:200]} in place of {good.stdout[:200]}')
  return Verdict('recovered' if 'damaged' in process.stderr else 'not needed', (name,))


def _write_picture(path):
  from PIL import Image, ImageDraw

  picture = Image.new('L', (80, 80), 255)
  ImageDraw.Draw(picture).line([(20, 20), (60, 20), (35, 65)], fill=0, width=7)
  picture.save(path)


# Values of every kind, and those that are nearly right.
VALUES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(),
  st.integers(-2, 70),
  st.floats(),
  st.floats(0, 1),
  st.text(max_size=8),
  st.sampled_from(['softmax', 'cnn', 'relu', 'cosine', 'host', 'bfloat16', 'patches', 'mnist', '~nobody-here', '']),
  st.lists(st.integers(-1, 5), max_size=5),
  st.dictionaries(st.sampled_from(['features', 'hidden_units', 'x']), st.integers(), max_size=2),
)


def _draw_examples(seed, count):
  """Any field of any shipped config, those within its recipes too, each with a value."""
  examples = []
  shipped = sorted(path.stem for path in (conftest.ROOT / 'configs').glob('*.py'))
  paths = {name: list(_paths(config_lib.to_dict(config_lib.load_config(name)))) for name in shipped}

  @hypothesis.seed(seed)
  @hypothesis.settings(max_examples=count, database=None, phases=[hypothesis.Phase.generate], deadline=None)
  @hypothesis.given(
    st.sampled_from(shipped).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(paths[name]))), VALUES
  )
  def draw(place, value):
    examples.append((*place, value))

  draw()
  return examples


def _paths(values, above=()):
  """The path of every field, as a tuple of names."""
  for name, value in values.items():
    yield (*above, name)
    if isinstance(value, dict):
      yield from _paths(value, (*above, name))


# What makes a run of any experiment small; what is not a number here is left out where a config lacks it.
_SMALL = {
  'epochs': 1,
  'batch_size': 60,
  'eval_batch_size': 50,
  'num_validation': 60,
  'num_seeds': 1,
  'num_trials': 2,
  'features': (2, 3),
  'hidden_units': 8,
}
_LARGEST = {'epochs': 2, 'num_seeds': 2, 'num_trials': 2, 'hidden_units': 64, 'kernel_size': 9}


def _shrink(values):
  """The values of a config, made small all the way down."""
  small = {}
  for name, value in values.items():
    small[name] = _shrink(value) if isinstance(value, dict) else _SMALL.get(name, value)
  return small


def _cap(values):
  """The values of a config, those cut that would only take long."""
  capped = {}
  for name, value in values.items():
    if isinstance(value, dict):
      value = dict(list(value.items())[:2]) if name == 'search' else _cap(value)
    elif name in _LARGEST and isinstance(value, int):
      value = min(value, _LARGEST[name])
    elif name == 'features':
      value = tuple(min(item, 8) for item in value)
    capped[name] = value
  return capped


def try_config(world, rng):
  """Any value of any field of any shipped config runs, shrunk, or is refused with code 2 and a sentence naming it."""
  if not world.examples:
    world.examples = _draw_examples(int(rng.integers(2**32)), 500)
  shipped, field, value = world.examples.pop()
  trial = world.new_trial()
  from_file = bool(rng.random() < 0.5)
  values = _shrink(config_lib.to_dict(config_lib.load_config(shipped)))
  if from_file:
    place = values
    for name in field[:-1]:
      place = place[name]
    place[field[-1]] = value
  recipe = trial / 'recipe.py'
  recipe.write_text(
    'import ml_collections\n'
    'inf, nan = float("inf"), float("nan")\n'
    'def get_config():\n'
    f'  return ml_collections.ConfigDict({values!r}, sort_keys=False)\n'
  )
  name = '.'.join(field)
  text = str(value).replace('\0', '')  # A command line cannot hold it.
  arguments = [f'--config={recipe}'] + ([] if from_file else [f'--config.{name}={text}'])

  def shrink():
    run = experiments.run

    def run_shrunk(config, workdir):
      return run(config_lib.from_dict(_cap(config_lib.to_dict(config))), workdir)

    os.chdir(trial)
    experiments.run = run_shrunk

  process = world.launch(trial, prelude=shrink, arguments=arguments)
  what = f'{shipped}: config.{name}={value!r}, {"in the file" if from_file else "as a flag"}'
  if process.wait() == 0:
    return Verdict('ran', (field[0],))
  sentence = check_sentence(process)
  diverged = 'not finite' in sentence or 'validation loss was' in sentence
  if process.code == 1 and (diverged or field[-1] == 'data_dir'):
    return Verdict('stopped in a sentence', (field[0],))
  # A model decides what its architecture may be: that is named then.
  said = field[-1] in sentence or (field[-1] in ('model', 'architecture') and 'architecture' in sentence)
  said = said or (from_file and 'does not load' in sentence)  # ml_collections refuses some values itself.
  if process.code != 2 or not said:
    raise fault_runs.LostError(f'{what}: code {process.code}, {sentence}')
  return Verdict('refused', (field[0],))


KINDS = {
  'kill': try_kill,
  'term': try_term,
  'flip': try_flip,
  'damage': try_damage,
  'disk': try_disk,
  'writers': try_writers,
  'load': try_load,
  'config': try_config,
}


def run_trials(world, kind, numbers, seed):
  """Runs trials of a kind.

  Returns:
    dict of trials, lost, seed, seconds, and counts of outcomes and of where the faults struck.
  """
  outcomes, struck = collections.Counter(), collections.Counter()
  start = time.monotonic()
  for number in numbers:
    try:
      verdict = KINDS[kind](world, np.random.default_rng([seed, list(KINDS).index(kind), number]))
      outcomes[verdict.outcome] += 1
      struck.update(verdict.struck)
    except fault_runs.LostError as error:
      outcomes['lost'] += 1
      print(f'LOST {kind}, trial {number}: {error}', file=sys.stderr, flush=True)
    for path in world.directory.glob('trial*'):
      shutil.rmtree(path)
    if number % 10 == 9:
      print(f'{kind}: trial {number} done, {outcomes["lost"]} lost', file=sys.stderr, flush=True)
  return {
    'trials': len(numbers),
    'lost': outcomes['lost'],
    'seed': seed,
    'outcomes': dict(sorted(outcomes.items())),
    'struck': dict(sorted(struck.items())),
    'seconds': round(time.monotonic() - start),
  }


def catch(world, plant, seed):
  """Whether the trials of its kind find a planted bug: the number of them that it took, or None."""
  world.plant, kind = PLANTS[plant]
  for number in range(30):
    if run_trials(world, kind, [number], seed)['lost']:
      return number + 1
  return None


def format_table(report):
  """A row a kind."""
  lines = [f'{"kind":10}{"trials":>8}{"lost":>6}  {"outcomes":44}where']
  for kind, row in report.items():
    outcomes, struck = (_count_words(row[key]) for key in ('outcomes', 'struck'))
    lines.append(f'{kind:10}{row["trials"]:>8}{row["lost"]:>6}  {outcomes:44}{struck}')
  return '\n'.join(lines)


def _count_words(counts):
  return ', '.join(f'{name} {count}' for name, count in counts.items())


def main():
  """Runs the command; exit code 1 if anything was lost, or a planted bug not caught."""
  parser = argparse.ArgumentParser(prog='python -m measurements.faults', description=__doc__)
  parser.add_argument('--trials', type=int, default=10, help='of each kind; default: 10')
  parser.add_argument('--first', type=int, default=0, help='number of the first trial, to repeat one')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kind', action='append', choices=KINDS, help='may be repeated; default: all')
  parser.add_argument('--plant', choices=PLANTS, help='put a bug into the runs: the exit code must be 1')
  parser.add_argument(
    '--catch', action='append', default=[], choices=PLANTS, help='after all, try whether it is caught'
  )
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='add the figures to this file')
  args = parser.parse_args()
  report = {}
  with tempfile.TemporaryDirectory(prefix='faults') as directory:
    world = fault_runs.World(pathlib.Path(directory))
    world.plant = PLANTS[args.plant][0] if args.plant else None
    for kind in args.kind or KINDS:
      report[kind] = run_trials(world, kind, range(args.first, args.first + args.trials), args.seed)
    caught = {plant: catch(world, plant, args.seed) for plant in args.catch}
  print(format_table(report))
  for plant, number in caught.items():
    print(f'{plant}: ' + (f'caught in trial {number} of {PLANTS[plant][1]}' if number else 'NOT caught'))
  if args.json:
    known = json.loads(args.json.read_text()) if args.json.exists() else {'kinds': {}, 'caught': {}}
    known['kinds'].update(report)
    known['caught'].update(caught)
    known['versions'] = results_lib.versions()
    args.json.write_text(json.dumps(known, indent=2) + '\n')
  sys.exit(None in caught.values() or any(row['lost'] for row in report.values()))


if __name__ == '__main__':
  main()
