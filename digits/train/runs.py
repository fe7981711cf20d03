"""Loading a trained model from the workdir of its run."""

import pathlib
import re
from typing import Any
from typing import NamedTuple

from flax import linen as nn

from digits import config as config_lib
from digits import errors
from digits import models
from digits.store import checkpoint as checkpoint_lib
from digits.store import records as history_lib
from digits.store import results as results_lib
from digits.store import workdir as workdir_lib
from digits.train import loop


class Run(NamedTuple):
  """A trained model.

  Attributes:
    config: the `TrainConfig` it was trained with.
    model: the unbound `nn.Module`.
    params: its parameters, NumPy arrays; those of the least validation loss.
    step: updates after which they were saved.
    history: the run's records, as in metrics.jsonl.
    finished: whether the run went to its end.
  """

  config: config_lib.TrainConfig
  model: nn.Module
  params: Any
  step: int
  history: list
  finished: bool


def load_run(workdir):
  """Loads the best parameters of a run, and changes nothing in its workdir.

  Args:
    workdir: the directory that `launch.py` was given.

  Returns:
    A `Run`.

  Raises:
    UsageError: there is no run in the workdir.
    DigitsError: a file of it is damaged; never is a number made from one.
  """
  workdir = pathlib.Path(workdir)
  mend = f'run its launch.py command again, without {workdir / "results.json"}, to make it anew'
  workdir_lib.refuse_links(workdir)
  try:
    config = _load_config(workdir)
    results = results_lib.read_results(workdir)
    steps = checkpoint_lib.list_steps(workdir / 'checkpoints')
    if not steps:
      raise errors.UsageError(f'{workdir} holds no checkpoint yet: train the model first.')
    template = loop.carry_template(config)
    newest = checkpoint_lib.load(workdir / 'checkpoints', steps[-1], template)
    if workdir_lib.config_differences(config, newest.record['config']):
      raise errors.DamagedError(f'{workdir / "config.json"} is not the config of the checkpoints beside it.')
    best_step = history_lib.best_step(newest.record['history']) or newest.step
    if results is not None and results['step'] != best_step:
      raise errors.DamagedError(f'{workdir / "checkpoints"} lacks the newest checkpoint.')
    best = newest if best_step == newest.step else checkpoint_lib.load(workdir / 'checkpoints', best_step, template)
  except errors.DamagedError as error:
    raise errors.DigitsError(f'{str(error).rstrip(".")}: {mend}.') from error
  return Run(
    config=config,
    model=config.make_model(),
    params=best.tree.state.params,
    step=best_step,
    history=newest.record['history'],
    finished=results is not None,
  )


def find_runs(workdir):
  """Finds the runs whose models answer for a workdir.

  Args:
    workdir: of a run, or of a comparison, which holds runs at MODEL/seed-N.

  Returns:
    list of `pathlib.Path`: of a comparison, the run with the lowest seed of each model, in the order of `MODELS`;
    otherwise the workdir itself.
  """
  workdir = pathlib.Path(workdir)
  found = []
  for name in models.MODELS:
    seeds = [path for path in workdir.glob(f'{name}/seed-*') if re.fullmatch(r'seed-\d+', path.name)]
    found.extend(sorted(seeds, key=lambda path: int(path.name.removeprefix('seed-')))[:1])
  return found or [workdir]


def _load_config(workdir):
  saved = workdir_lib.read_config(workdir)
  if saved is None:
    raise errors.UsageError(f'{workdir} is not the workdir of a run: it has no config.json.')
  if saved['experiment'] != 'train':
    raise errors.UsageError(f'{workdir} is of the experiment {saved["experiment"]}, without a run: name one in it.')
  return config_lib.from_dict(saved)
