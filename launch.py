"""Runs the experiment that a config file names: python launch.py --config=configs/cnn.py [--config.FIELD=VALUE ...]."""

import signal
import sys

if __name__ == '__main__':  # Before the imports, which take a second.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: sys.exit('error: Stopped; run the same command to go on.'))

import importlib
import pathlib

from absl import flags
from ml_collections import config_flags

from digits import config as config_lib
from digits import errors
from digits.commands import cli
from digits.runtime import distributed

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The recipe, such as configs/cnn.py.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run keeps its files; runs/NAME of the config if not given.')

_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, where several train one model.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes train together.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')

EXPERIMENTS = {
  'train': 'digits.train.loop',
  'compare': 'digits.experiments.compare',
  'activations': 'digits.experiments.activations',
  'sweep': 'digits.experiments.sweep',
}


def main():
  """Flags, config, experiment."""
  cli.parse_flags(sys.argv, required='config', example='--config=configs/cnn.py')
  config = config_lib.from_dict(_CONFIG.value)
  name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
  workdir = f'runs/{name}' if _WORKDIR.value is None else _WORKDIR.value
  if not workdir:
    raise errors.UsageError('--workdir is empty: name a directory.')
  with distributed.session(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value) as joined:
    if joined and config.experiment != 'train':
      raise errors.UsageError(
        f'config.experiment={config.experiment} runs in one process, which spreads its runs over all devices: '
        'leave --coordinator, --num_processes and --process_id out.'
      )
    importlib.import_module(EXPERIMENTS[config.experiment]).run(config, workdir)


if __name__ == '__main__':
  cli.run(main)
