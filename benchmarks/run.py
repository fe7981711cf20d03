"""Measures this project and its peers in turn, on this machine, and prints medians and ratios.

  pip install ".[bench]" && python -m benchmarks.run --output=benchmarks/results.json

Each peer is a process of its own. They wait while one of them measures, and take turns in every round. A ratio is that
of two measurements of one round; the table has the median over the rounds, and the least and the greatest.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from benchmarks import protocol, summary

_ROOT = pathlib.Path(__file__).parent.parent
_MODELS = ('softmax', 'mlp', 'cnn')
_SECTIONS = ('peak', 'train', 'eval', 'start', 'target', 'growth')
_PEERS = {
  'digits': ('benchmarks.ours',),
  'PyTorch eager': ('benchmarks.pytorch', '--mode=eager'),
  'PyTorch compile': ('benchmarks.pytorch', '--mode=compile'),
  'PyTorch DataLoader': ('benchmarks.pytorch', '--mode=loader'),
  'Keras, JAX': ('benchmarks.keras_jax',),
}
_TARGET_PEERS = ('digits', 'PyTorch eager')
_TARGET_ACCURACY = 0.99
_TARGET_EPOCHS = 3
# Whole batches of 128 and of 1,024 images; most of an epoch for the models that take a second for one.
_TRAIN_IMAGES = {'softmax': 53 * 1024, 'mlp': 53 * 1024, 'cnn': 4 * 1024}
# An epoch or a pass of the small models takes milliseconds, of which a processor needs some to wake up.
_EPOCHS = {'softmax': 5, 'mlp': 5, 'cnn': 1}
_EVALUATION_PASSES = {'softmax': 20, 'mlp': 20, 'cnn': 1}
_GROWTH = (1, 2, 4, 8)
_SEEDS = (1, 2, 4, 8, 16, 32, 64)


class Session:
  """Takes measurements and keeps them, in `rows`; see `summary.summarise`.

  Args:
    directory: `pathlib.Path` for the peers' data and logs.
    data_dir: where prepared data lives.
    rounds: how often each peer has its turn.
    quick: whether only to see that everything works.
  """

  def __init__(self, directory, data_dir, rounds, quick):
    self.rows = []
    self._directory, self._data_dir, self._rounds, self._quick = directory, data_dir, rounds, quick
    # A second start of a PyTorch program finds what the first one compiled; so it does here.
    self._env = os.environ | {'TORCHINDUCTOR_CACHE_DIR': str(directory / 'inductor'), 'TFDS_DATA_DIR': data_dir}
    self._peers = {}
    self.machine = {'versions': {}}
    for name in _PEERS:
      try:
        with self._start(name) as worker:
          (description,) = worker.ask('describe')
      except protocol.WorkerError as error:
        _show(f'{name} is left out: {error}; pip install ".[bench]" for all.')
      else:
        self._peers[name] = None
        self.machine['versions'] |= description.pop('versions')
        self.machine |= {f'{name}: {key}': value for key, value in description.items() if key != 'arrived'}

  def _start(self, name):
    module, *arguments = _PEERS[name]
    data = self._data_dir if name == 'digits' else self._directory
    command = [sys.executable, '-m', module, f'--data={data}', *arguments]
    return protocol.Worker(command, env=self._env, log=self._directory / 'log.txt')

  def _ask(self, name, measure, **arguments):
    """The replies of a peer that stays, or None where it fails."""
    if self._peers[name] is None:
      self._peers[name] = self._start(name)
    return self._try(name, self._peers[name], measure, arguments)

  def _ask_fresh(self, name, measure, **arguments):
    """The replies of a process of its own, or None where it fails."""
    with self._start(name) as worker:
      return self._try(name, worker, measure, arguments)

  def _try(self, name, worker, measure, arguments):
    try:
      return worker.ask(measure, **arguments)
    except protocol.WorkerError as error:
      _show(f'{name} failed in {measure} {arguments}: {error}')
      return None

  def _add(self, section, what, values, unit='s', images=None, message_ns=None):
    row = {'section': section, 'what': what, 'unit': unit, 'images': images, 'values': values}
    if message_ns:
      row['message_ns'] = message_ns
    self.rows.append(row)
    (row,) = summary.summarise([row])
    medians = [f'{peer} {median["median"]:.4g} {unit}' for peer, median in row['medians'].items()]
    _show(f'{section}, {what}: {", ".join(medians)}')

  def close(self):
    """Ends the processes."""
    for worker in self._peers.values():
      if worker is not None:
        worker.close()

  def _take_turns(self, section, measure, images, arguments):
    """Measures each model at each batch size.

    In a round every peer has its turn at each of them, so that a minute in which the machine is slow is not in one row
    alone. A first round warms up and is not counted.

    Args:
      section: its title.
      measure: what the peers are asked for, by its name.
      images: dict of how many each measurement takes, by model.
      arguments: dict of dicts of what else they are told, by model.
    """
    cells = [(model, batch_size) for model in _MODELS for batch_size in (128, 1024)]
    values = {cell: {name: [] for name in self._peers} for cell in cells}
    message_ns = {cell: [] for cell in cells}
    for round_ in range(self._rounds + 1):
      _show(f'{section}, round {round_} of {self._rounds}')
      for model, batch_size in cells:
        if round_:
          message_ns[model, batch_size].append(_measure_message())
        for name, of_peer in values[model, batch_size].items():
          replies = self._ask(name, measure, model=model, batch_size=batch_size, **arguments[model])
          if round_:
            of_peer.append(replies[0]['seconds'] if replies else None)
    for (model, batch_size), of_cell in values.items():
      cell = f'{model}, batch {batch_size}'
      self._add(section, cell, of_cell, images=images[model], message_ns=message_ns[model, batch_size])

  def train(self):
    """Images a second in training."""
    images = dict.fromkeys(_MODELS, 2048) if self._quick else _TRAIN_IMAGES
    epochs = dict.fromkeys(_MODELS, 1) if self._quick else _EPOCHS
    arguments = {model: {'num_images': images[model], 'epochs': epochs[model]} for model in _MODELS}
    self._take_turns('Training', 'train', images, arguments)

  def eval(self):
    """Images a second in evaluation on the test split."""
    images = dict.fromkeys(_MODELS, 10_000)
    passes = dict.fromkeys(_MODELS, 1) if self._quick else _EVALUATION_PASSES
    arguments = {model: {'passes': passes[model]} for model in _MODELS}
    self._take_turns('Evaluation of 10,000 images', 'evaluate', images, arguments)

  def peak(self):
    """The rate of matrix products on this machine."""
    for size in (1024, 2048):
      values = {'JAX': [], 'NumPy': [], 'PyTorch': []}
      for _ in range(self._rounds):
        jax, numpy = self._ask('digits', 'matmul', size=size) or (None, None)
        torch = self._ask('PyTorch eager', 'matmul', size=size) if 'PyTorch eager' in self._peers else None
        for library, reply in (('JAX', jax), ('NumPy', numpy), ('PyTorch', torch[0] if torch else None)):
          values[library].append(reply and reply['gflops'])
      self._add('Matrix product, float32', f'{size} x {size} x {size}', values, unit='GFLOP/s')

  def start(self):
    """Seconds from process start to the first step and to the end of an epoch, and memory."""
    for model in ('softmax', 'mlp') if self._quick else _MODELS:
      first, epoch, memory = ({name: [] for name in self._peers} for _ in range(3))
      # An epoch of the CNN takes long, and `train` says what it takes more precisely.
      for _ in range(1 if model == 'cnn' else math.ceil(self._rounds / 2)):
        for name in self._peers:
          first_step, end = self._ask_fresh(name, 'start', model=model) or ({}, {})
          first[name].append(first_step.get('arrived'))
          epoch[name].append(end.get('arrived'))
          memory[name].append(end.get('max_rss'))
      self._add('From process start', f'{model}, first step', first)
      self._add('From process start', f'{model}, end of an epoch', epoch)
      self._add('Peak memory after an epoch', model, memory, unit='bytes')
    self._add('The command, from process start to results', 'softmax', {'digits': [self._time_command()]})

  def _time_command(self):
    """Seconds of a whole run of the softmax recipe, data ready."""
    with tempfile.TemporaryDirectory(dir=self._directory) as workdir, open(self._directory / 'log.txt', 'ab') as log:
      start = time.perf_counter()
      subprocess.run(
        [sys.executable, 'launch.py', '--config=configs/softmax.py', f'--workdir={workdir}'],
        cwd=_ROOT,
        env=self._env,
        stdout=log,
        stderr=log,
        check=True,
      )
      return time.perf_counter() - start

  def target(self):
    """Seconds from process start to the target accuracy on the test split, measured after every epoch."""
    peers = [name for name in _TARGET_PEERS if name in self._peers]
    seconds, accuracy = {name: [] for name in peers}, 0.5 if self._quick else _TARGET_ACCURACY
    for seed in range(1 if self._quick else math.ceil(self._rounds / 4)):
      for name in peers:
        arguments = {'model': 'cnn', 'seed': seed, 'epochs': _TARGET_EPOCHS, 'accuracy': accuracy}
        replies = self._ask_fresh(name, 'target', **arguments)
        reached = bool(replies) and replies[-1]['accuracy'] >= accuracy
        seconds[name].append(replies[-1]['arrived'] if reached else None)
    self._add('From process start', f'cnn, {accuracy:.1%} test accuracy', seconds)

  def growth(self):
    """Seconds and memory of an epoch of the training images repeated, and of many seeds at once."""
    scales = {'data': ('growth', 'times', _GROWTH), 'seeds': ('seeds', 'num_seeds', _SEEDS)}
    for scale, (measure, argument, numbers) in scales.items():
      for number in numbers[:2] if self._quick else numbers:
        rounds = math.ceil(self._rounds / 2)
        replies = [self._ask_fresh('digits', measure, model='mlp', **{argument: number}) for _ in range(rounds)]
        for key, what, unit in (('seconds', 'epoch', 's'), ('max_rss', 'peak memory', 'bytes')):
          values = {'digits': [reply and reply[0][key] for reply in replies]}
          self._add(f'Growth with the {scale}, mlp', f'{number} times, {what}', values, unit=unit)


def cnn_share_of_peak(rows):
  """The arithmetic of CNN training at batch 128 over that of the fastest matrix product, by peer; {} if not measured.

  The arithmetic is that of direct convolutions; a method with less of it may exceed 1.
  """
  products = [row for row in rows if row['unit'] == 'GFLOP/s']
  peaks = [median['high'] for row in products for median in row['medians'].values()]
  train = [row for row in rows if row['section'] == 'Training' and row['what'] == 'cnn, batch 128']
  if not peaks or not train:
    return {}
  (row,) = train
  flop = summary.CNN_FLOP_PER_IMAGE * row['images']
  return {peer: flop / median['median'] / 1e9 / max(peaks) for peer, median in row['medians'].items()}


def _measure_message():
  """Nanoseconds; see `benchmarks/cores.py`. None where that cannot be measured."""
  command = [sys.executable, '-m', 'benchmarks.cores']
  try:
    said = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
  except subprocess.CalledProcessError:
    return None
  return int(said) if said.isdecimal() else None


def _describe_machine():
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return {
    'processor': names[0] if names else platform.processor(),
    'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
    'python': platform.python_version(),
  }


def _export(directory, data_dir):
  """Writes the data and the recipes for the peers, who are not to import this project."""
  import numpy as np

  import digits
  from digits import config as config_lib

  dataset = digits.load_dataset('mnist', data_dir)
  for split in ('train', 'test'):
    for key, array in getattr(dataset, split)._asdict().items():
      np.save(directory / f'{split}_{key}.npy', array)
  recipes = {model: config_lib.to_dict(digits.load_config(_ROOT / 'configs' / f'{model}.py')) for model in _MODELS}
  (directory / 'recipes.json').write_text(json.dumps(recipes))
  return data_dir or digits.data.default_data_dir()


def _show(text):
  print(f'{time.strftime("%H:%M:%S")} {text}', file=sys.stderr, flush=True)


def main():
  """Parses the flags, measures, writes and prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rounds', type=int, default=5, help='how often each peer has its turn')
  parser.add_argument('--quick', action='store_true', help='only see that everything works; the numbers say nothing')
  parser.add_argument('--only', default=','.join(_SECTIONS), help='which of %(default)s')
  parser.add_argument('--data', help='where prepared data lives; TFDS_DATA_DIR or its default otherwise')
  parser.add_argument('--output', help='a JSON file for the results')
  arguments = parser.parse_args()
  sections = arguments.only.split(',')
  unknown = sorted(set(sections) - set(_SECTIONS))
  if unknown or arguments.rounds < 1:
    parser.error(f'--only takes {", ".join(_SECTIONS)}, not {unknown[0]}' if unknown else '--rounds must be at least 1')
  rounds = 1 if arguments.quick else arguments.rounds

  load_before = os.getloadavg()[0]
  if load_before > 0.5:
    _show(f'The load is {load_before:.1f}: something else is running. PyTorch above all suffers from that.')
  start = time.monotonic()
  with tempfile.TemporaryDirectory() as directory:
    directory = pathlib.Path(directory)
    _show('Preparing the data and starting each peer once.')
    session = Session(directory, _export(directory, arguments.data), rounds, arguments.quick)
    try:
      for section in _SECTIONS:
        if section in sections:
          getattr(session, section)()
    finally:
      session.close()
  rows = summary.summarise(session.rows)
  results = {
    'date': datetime.date.today().isoformat(),
    'rounds': rounds,
    'quick': arguments.quick,
    'minutes': round((time.monotonic() - start) / 60, 1),
    'machine': _describe_machine() | session.machine | {'load_before': load_before},
    'cnn_share_of_peak': cnn_share_of_peak(rows),
    'rows': rows,
  }
  if arguments.output:
    pathlib.Path(arguments.output).write_text(json.dumps(results, indent=1) + '\n')
  print(summary.format_tables(rows))
  print(f'\n{summary.format_distances(rows)}'.rstrip())
  for peer, share in results['cnn_share_of_peak'].items():
    print(f'\n{peer}: CNN training at {share:.0%} of the fastest matrix product.', end='')
  print()


if __name__ == '__main__':
  main()
