"""The directory of an experiment: whose config it holds, whether it is finished, and who writes to it."""

import contextlib
import json

from digits import config as config_lib
from digits import distributed
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
  """Makes the workdir, keeps other runs out of it, and writes the config that it is of.

  Of the processes of one run the main one does that, and the others wait for it.

  Raises:
    DigitsError: another run works in it.
  """
  with contextlib.ExitStack() as stack:
    if distributed.is_main():
      workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(files.lock(workdir / '.lock'))
      write_config(config, workdir)
    distributed.wait_for_all('claim')
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
  different = config_lib.describe_difference(saved, config_lib.to_dict(config))
  if different:
    raise errors.UsageError(
      f'{workdir} holds the run of another config ({different}): choose another --workdir, or delete it.'
    )
