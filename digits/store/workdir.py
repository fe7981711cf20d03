"""The directory of an experiment: whose config it holds, whether it is finished, and who writes to it."""

from collections.abc import Iterator, Mapping
import contextlib
import itertools
import logging
import pathlib
from typing import Any

from digits import config as config_lib
from digits import errors
from digits.config import Config
from digits.runtime import distributed, files, sealed_json
from digits.store import results as results_lib

_logger = logging.getLogger(__name__)


def finished_results(config: Config, workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns the content of results.json, or None where the experiment is still to be done.

  Also None if config.json or results.json is missing or damaged: nothing vouches for the results then. They are made
  again from the checkpoints or the runs, each of which says which config it belongs to.

  Args:
    config: the experiment's config.
    workdir: its directory, which need not exist.

  Raises:
    UsageError: the workdir holds another config's experiment; where its data lies does not count.
    DigitsError: something in the workdir leads out of it.
  """
  refuse_links(workdir)
  try:
    saved = read_config(workdir)
    results = results_lib.read_results(workdir)
  except errors.DamagedError as error:
    _logger.warning('%s Writing it again.', error)
    return None
  if saved is None:
    if results is not None:
      _logger.warning('%s is missing. Writing it again.', workdir / 'config.json')
    return None
  refuse_other_config(config, saved, workdir)
  return results


@contextlib.contextmanager
def claim(config: Config, workdir: pathlib.Path) -> Iterator[None]:
  """Makes the workdir, keeps other runs out of it, and writes its config.

  Of the processes of one run the main one does that, and the others wait for it.

  Raises:
    UsageError: another run has written another config meanwhile.
    DigitsError: another run works in it.
  """
  with contextlib.ExitStack() as stack:
    if distributed.is_main():
      workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(files.lock(workdir / '.lock'))
      with contextlib.suppress(errors.DamagedError):
        saved = read_config(workdir)
        if saved is not None:
          refuse_other_config(config, saved, workdir)
      write_config(config, workdir)
    distributed.wait_for_all('claim')
    yield


def write_config(config: Config, workdir: pathlib.Path) -> None:
  """Writes config.json."""
  sealed_json.write(workdir / 'config.json', config_lib.to_dict(config))


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns config.json as a dict, or None where there is none.

  Raises:
    DamagedError: it is not what was written.
  """
  saved = sealed_json.read(workdir / 'config.json')
  return saved and {name: value for name, value in saved.items() if name != 'sha256'}


def refuse_other_config(config: Config, saved: Mapping[str, Any], where: pathlib.Path) -> None:
  """Raises UsageError if a config differs from a saved one in more than where the data lies.

  Args:
    config: a config.
    saved: the dict that another was saved as.
    where: the directory of the latter, for the error.
  """
  different = config_differences(config, saved)
  if different:
    raise errors.UsageError(
      f'{where} holds the run of another config ({"; ".join(different)}): choose another --workdir, or delete it.'
    )


def config_differences(config: Config, saved: Mapping[str, Any]) -> list[str]:
  """What differs between a config and the dict that another was saved as.

  Where the data lies, and over how many devices it is spread, does not count.
  """
  wanted = config_lib.to_dict(config)
  return [
    f'{name} was {saved.get(name)!r} and is now {wanted.get(name)!r}'
    for name in sorted(saved.keys() | wanted.keys())
    if name not in ('data_dir', 'mesh') and saved.get(name) != wanted.get(name)
  ]


def refuse_links(workdir: pathlib.Path) -> None:
  """Raises DigitsError if a link in the workdir leads out of it: what it names is not of this run."""
  inside = workdir.resolve()
  patterns = ('*.json*', 'checkpoints', 'checkpoints/**/*', '*/seed-*')
  for path in itertools.chain.from_iterable(workdir.glob(pattern) for pattern in patterns):
    if not path.resolve().is_relative_to(inside):
      raise errors.DigitsError(
        f'{path} is a link that leads out of {workdir}, and is not followed: put the file itself in its place.'
      )
