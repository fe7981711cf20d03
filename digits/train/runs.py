"""Loading a trained model from the workdir of its run."""

from collections.abc import Mapping, Sequence
import functools
import hashlib
import json
import math
import pathlib
import re
from typing import Any, NamedTuple

from flax import linen as nn
from flax import traverse_util
import jax
from jaxtyping import PyTree
import numpy as np

from digits import config as config_lib
from digits import errors
from digits.config import TrainConfig
from digits.data import arrays
from digits.models.ensemble import Ensemble
from digits.store import checkpoint, records
from digits.store import workdir as workdir_lib
from digits.store.results import read_results
from digits.train.step import Variables


class Run(NamedTuple):
  """A trained model, or an ensemble of several.

  Attributes:
    config: the config it was trained with; of an ensemble, that of its first member.
    model: the unbound module.
    variables: the variables that its config selects, NumPy arrays; averaged where the config says so.
    step: number of updates after which they were saved.
    history: the run's records, as in metrics.jsonl.
    results: the content of results.json; None while the run is not finished.
    workdir: where it was loaded from; None for a model that was never in a workdir.
    members: the runs of an ensemble, whose variables are those of all; empty for a single model.
  """

  config: TrainConfig
  model: nn.Module
  variables: Variables
  step: int
  history: list[records.Record]
  results: Mapping[str, Any] | None = None
  workdir: pathlib.Path | None = None
  members: tuple[Any, ...] = ()

  @property
  def finished(self) -> bool:
    """Whether the run went to its end."""
    return self.results is not None

  @property
  def name(self) -> str:
    """What the model is called: the value of `config.model`, or `ensemble`."""
    return 'ensemble' if self.members else self.config.model

  @property
  def params(self) -> PyTree:
    """The parameters among the variables."""
    return self.variables['params']


def load_run(workdir: str | pathlib.Path) -> Run:
  """Loads the selected variables of a run, without changing its workdir.

  The state of the optimizer is not read.

  Args:
    workdir: the directory that the run was given, or that of an ensemble; or a file in safetensors format that
      `digits export` wrote.

  Raises:
    UsageError: there is no run in the workdir, or its model is not registered.
    DigitsError: a file of it is damaged; no number is ever made from one.
  """
  workdir = pathlib.Path(workdir)
  if workdir.is_file():
    try:
      return from_safetensors(workdir.read_bytes())
    except errors.DigitsError as error:
      raise type(error)(f'{workdir} cannot be loaded. {error}') from error
  workdir_lib.refuse_links(workdir)
  try:
    saved = _read_config(workdir)
    if saved['experiment'] == 'ensemble':
      return _load_ensemble(workdir, pathlib.Path(saved['trained_in'] or workdir))
    config = _check_config(_train_config(saved, workdir))
    results = read_results(workdir)
    steps = checkpoint.list_steps(workdir / 'checkpoints')
    if not steps:
      raise errors.UsageError(f'{workdir} holds no checkpoint yet: train the model first.')
    model = config.make_model()
    variables = variable_shapes(model)
    params, collections = variables['params'], {name: tree for name, tree in variables.items() if name != 'params'}
    state = {'ema': variables} if config.ema_decay else {'params': params, 'collections': collections}
    load = functools.partial(checkpoint.load, workdir / 'checkpoints', template={'state': state}, partial=True)
    newest = load(steps[-1])
    if workdir_lib.config_differences(config, newest.record['config']):
      raise errors.DamagedError(f'{workdir / "config.json"} is not the config of the checkpoints beside it.')
    step = records.selected_step(newest.record['history'], config.select) or newest.step
    if results is not None and results['step'] != step:
      raise errors.DamagedError(f'{workdir / "checkpoints"} lacks the newest checkpoint.')
    selected = newest if step == newest.step else load(step)
  except errors.DamagedError as error:
    raise errors.DigitsError(
      f'{str(error).rstrip(".")}: delete {workdir / "results.json"} and run the training command again.'
    ) from error
  loaded = selected.tree['state']
  return Run(
    config=config,
    model=model,
    variables=loaded['ema'] if config.ema_decay else {'params': loaded['params'], **loaded['collections']},
    step=step,
    history=newest.record['history'],
    results=results,
    workdir=workdir,
  )


def variable_shapes(model: nn.Module) -> Variables:
  """The structure of a model's variables, with a `jax.ShapeDtypeStruct` for each array."""
  image = jax.ShapeDtypeStruct((1, *arrays.IMAGE_SHAPE), np.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)


def flatten(variables: Variables) -> dict[str, Any]:
  """The variables by their dotted paths, such as conv1.kernel; all but the parameters after their collection's name."""
  return {
    ('' if collection == 'params' else f'{collection}.') + path: leaf
    for collection, tree in variables.items()
    for path, leaf in traverse_util.flatten_dict(tree, sep='.').items()
  }


def hash_arrays(flat: Mapping[str, np.ndarray]) -> str:
  """SHA-256 over the names and the bytes of some arrays, which a file in safetensors format keeps with them."""
  digest = hashlib.sha256()
  for name in sorted(flat):
    digest.update(name.encode() + np.ascontiguousarray(flat[name]).tobytes())
  return digest.hexdigest()


def from_safetensors(content: bytes) -> Run:
  """The run, or the ensemble, in a file that `digits export --format=safetensors` wrote.

  Raises:
    UsageError: these are not the bytes of such a file, or its model is not registered.
    DigitsError: the arrays are not those that were written, or do not fit the model.
  """
  try:
    import safetensors.numpy
  except ImportError as error:
    raise errors.DigitsError('This file needs the package safetensors: pip install "digits-jax[export]".') from error
  try:
    flat = safetensors.numpy.load(content)
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], 'little')])['__metadata__']
    saved, results = json.loads(metadata['runs']), json.loads(metadata['results'])
    written = metadata['sha256']
  except (safetensors.SafetensorError, KeyError, ValueError) as error:
    raise errors.UsageError('It is not in safetensors format as "digits export" writes it.') from error
  if hash_arrays(flat) != written:
    raise errors.DigitsError('It is damaged: its arrays are not those that were written. Take another copy.')
  members = []
  for number, one in enumerate(saved):
    config = _check_config(one['config'])
    model, prefix = config.make_model(), f'members_{number}.' if len(saved) > 1 else ''
    variables: dict[str, PyTree] = {}
    for collection, tree in variable_shapes(model).items():
      shapes = traverse_util.flatten_dict(tree, sep='.')
      leaves = [flat.get(prefix + name) for name in flatten({collection: tree})]
      if any(leaf is None or leaf.shape != one.shape for leaf, one in zip(leaves, shapes.values(), strict=True)):
        raise errors.DigitsError(f'It does not fit the model {config.model} as it is now: export the run again.')
      variables[collection] = traverse_util.unflatten_dict(dict(zip(shapes, leaves, strict=True)), sep='.')
    members.append(Run(config, model, variables, step=one['step'], history=[], results=one['results']))
  return members[0] if len(members) == 1 else average(members)._replace(results=results)


def _load_ensemble(workdir: pathlib.Path, trained_in: pathlib.Path) -> Run:
  members = [load_run(path) for paths in find_members(trained_in).values() for path in paths]
  if not members:
    raise errors.UsageError(f'{workdir} is an ensemble without members: there are no finished runs in {trained_in}.')
  return average(members)._replace(workdir=workdir, results=read_results(workdir))


def average(members: Sequence[Run]) -> Run:
  """The run that answers with the mean of its members' probabilities."""
  variables: dict[str, dict[str, PyTree]] = {}
  for number, member in enumerate(members):
    for collection, tree in member.variables.items():
      variables.setdefault(collection, {})[f'members_{number}'] = tree
  model = Ensemble(tuple(member.model for member in members))
  return members[0]._replace(
    model=model, variables=variables, results=None, history=[], workdir=None, members=tuple(members)
  )


def find_members(workdir: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """The directories of the runs of an experiment of many, by recipe in the order of its config, by seed."""
  found = {}
  for name in _read_config(workdir).get('recipes', ()):
    seeds = [path for path in workdir.glob(f'{name}/seed-*') if re.fullmatch(r'seed-\d+', path.name)]
    if seeds:
      found[name] = sorted(seeds, key=lambda path: int(path.name.removeprefix('seed-')))
  return found


def find_runs(workdir: str | pathlib.Path) -> dict[str, pathlib.Path]:
  """Finds the runs whose models answer for a workdir.

  Args:
    workdir: the directory of a run, or of an experiment of many, which holds runs at RECIPE/seed-N.

  Returns:
    The directory of a run by name: for an experiment, by recipe in the order of its config, the run with the lowest
    seed; for a run, the run itself by the name of its model; for an ensemble, the ensemble itself.

  Raises:
    UsageError: there is no run in the workdir.
    DigitsError: its config.json is damaged.
  """
  workdir = pathlib.Path(workdir)
  if workdir.is_file():
    return {load_run(workdir).name: workdir}
  saved = _read_config(workdir)
  if saved['experiment'] == 'ensemble':
    return {'ensemble': workdir}
  found = find_members(workdir)
  if found:
    return {name: paths[0] for name, paths in found.items()}
  return {_train_config(saved, workdir)['model']: workdir}


def best_of(runs: Mapping[str, pathlib.Path]) -> str:
  """The name of the finished run with the lowest validation loss; the last where none was validated."""

  def loss(name):
    results = read_results(runs[name])
    return results['valid']['loss'] if results and results.get('valid') else math.inf

  return min(reversed(list(runs)), key=loss)


def _read_config(workdir: pathlib.Path) -> dict[str, Any]:
  saved = workdir_lib.read_config(workdir)
  if saved is None:
    raise errors.UsageError(f'{workdir} is not the workdir of a run: it has no config.json.')
  return saved


def _check_config(saved: dict[str, Any]) -> TrainConfig:
  config = config_lib.from_dict(saved)
  assert isinstance(config, TrainConfig)
  return config


def _train_config(saved: dict[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  if saved['experiment'] != 'train':
    raise errors.UsageError(
      f'{workdir} is of the experiment {saved["experiment"]}: name one of its runs, such as {workdir}/RECIPE/seed-0.'
    )
  return saved
