"""The directory of an experiment: whose config it holds, whether it is finished, and who writes to it."""

import contextlib
import json

from digits import config as config_lib
from digits import errors
from digits import files
from digits import results as results_lib


def finished_results(config, workdir):
  """Returns the content of results.json, or None where the experiment is still to be done.

  Args:
    config: of the experiment.
    workdir: `pathlib.Path`, which need not exist.

  Raises:
    UsageError: the workdir holds another config's experiment; where its data lies does not count.
    DigitsError: its config.json or results.json is damaged.
  """
  _refuse_other_config(config, workdir)
  return results_lib.read_results(workdir)


@contextlib.contextmanager
def claim(config, workdir):
  """Makes the workdir, keeps other processes out of it, and writes the config that it is of.

  Raises:
    DigitsError: another process works in it.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  with files.lock(workdir / '.lock'):
    write_config(config, workdir)
    yield


def write_config(config, workdir):
  """Writes config.json, unless it is there."""
  path = workdir / 'config.json'
  if not path.exists():
    with files.replace_atomically(path) as file:
      file.write((json.dumps(config_lib.to_dict(config), indent=2) + '\n').encode())


def _refuse_other_config(config, workdir):
  path = workdir / 'config.json'
  try:
    saved = json.loads(path.read_bytes())
  except FileNotFoundError:
    return
  except ValueError as error:
    raise errors.DigitsError(
      f'{path} is damaged: delete it if you know that the run is of this config, or choose another --workdir.'
    ) from error
  wanted = config_lib.to_dict(config)
  different = [
    f'{name} was {saved.get(name)!r} and is now {wanted.get(name)!r}'
    for name in sorted(saved.keys() | wanted.keys())
    if name != 'data_dir' and saved.get(name) != wanted.get(name)
  ]
  if different:
    raise errors.UsageError(
      f'{workdir} holds the run of another config ({"; ".join(different)}): choose another --workdir, or delete it.'
    )
