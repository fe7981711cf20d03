"""Configs: what a config file says, checked field by field and frozen."""

from collections.abc import Mapping
import dataclasses
import importlib.util
import math
import re
from typing import Any

from digits import errors
from digits import models
from digits.train import optim

_MAX_COUNT = 1_000_000
_IMAGE_SIDE = 28  # A kernel that is larger sees nothing more.


def _field(check, allowed):
  """A field with its check and, for people, what the check allows."""
  return dataclasses.field(metadata={'check': check, 'allowed': allowed})


def _integer(low, high):
  return _field(lambda value: type(value) is int and low <= value <= high, f'an integer from {low:,} to {high:,}')


def _number(low, high):
  def check(value):
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high

  return _field(check, f'a number from {low:g} to {high:g}')


def _choice(*choices):
  return _field(lambda value: isinstance(value, str) and value in choices, 'one of ' + ', '.join(choices))


def _string():
  def check(value):
    return isinstance(value, str) and value.isprintable()  # Not what a path or a terminal cannot hold.

  return _field(check, 'a string of printable characters')


def _mesh(axis):
  def check(value):
    return isinstance(value, Mapping) and set(value) == {axis} and type(value[axis]) is int and value[axis] >= 0

  return _field(check, f'{axis}, a number of devices, 0 for the default')


def _boolean():
  return _field(lambda value: type(value) is bool, 'True or False')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """One training run. There are no defaults here: a config file is a complete recipe.

  Attributes:
    experiment: `train`.
    model: a key of `digits.MODELS`.
    architecture: the fields of that model, such as widths and activations.
    dataset: a TFDS dataset of 28x28x1 images in ten classes.
    data_dir: where prepared data lives; empty for `TFDS_DATA_DIR` or TFDS's default.
    num_validation: how many of the last training images are kept for validation.
    seed: of the initial parameters and of every shuffle.
    epochs: passes over the training images.
    batch_size: images an update.
    eval_batch_size: images a call in evaluation; changes speed and memory, not results.
    learning_rate: the schedule's peak.
    schedule: `constant`, `cosine` or `onecycle`.
    warmup_fraction: the part of the run in which the learning rate rises to its peak.
    momentum: decay of the velocity.
    nesterov: whether to look ahead along the velocity.
    weight_decay: L2 coefficient for kernels.
    clip_norm: largest global norm of a gradient; 0 for no limit.
    dtype: of the computation; parameters and loss are float32.
    step_loop: `device` for many steps in one compiled call, `host` for a call a step, `auto` for the faster one, which
      is `host` for `lax.conv` on a CPU. Results are bit-identical for one setting, not across them.
    log_every_steps: how often training loss and accuracy are recorded, besides at the end of every epoch.
    loader: `memory` for a training split that lies on the device; `grain` to read batches while training runs.
    loader_workers: of `grain`, processes that read; 0 for threads.
    microbatch_size: images whose gradients are computed at once and then added up; 0 for the default: 32 where
      convolutions are computed as matrix products, which is on a CPU, and the whole batch elsewhere.
    mesh: `data`, over how many devices a batch is spread; 0 for the default: of several processes all devices, else one
      for the small models, and for the CNN as many as have 32 images each; a core of a CPU is a device.
  """

  experiment: str = _choice('train')
  model: str = _choice(*models.MODELS)
  architecture: Mapping[str, Any] = _field(lambda value: isinstance(value, Mapping), "the model's fields")
  dataset: str = _string()
  data_dir: str = _string()
  num_validation: int = _integer(0, _MAX_COUNT)
  seed: int = _integer(0, 2**31 - 1)
  epochs: int = _integer(1, 100_000)
  batch_size: int = _integer(1, _MAX_COUNT)
  eval_batch_size: int = _integer(1, _MAX_COUNT)
  learning_rate: float = _number(0, 1e6)
  schedule: str = _choice(*optim.SCHEDULES)
  warmup_fraction: float = _number(0, 1)
  momentum: float = _number(0, 1)
  nesterov: bool = _boolean()
  weight_decay: float = _number(0, 1e6)
  clip_norm: float = _number(0, 1e6)
  dtype: str = _choice('float32', 'bfloat16')
  step_loop: str = _choice('auto', 'host', 'device')
  log_every_steps: int = _integer(1, _MAX_COUNT)
  loader: str = _choice('memory', 'grain')
  loader_workers: int = _integer(0, 256)
  microbatch_size: int = _integer(0, _MAX_COUNT)
  mesh: Mapping[str, int] = _mesh('data')

  def __post_init__(self):
    _check_fields(self)
    _check_architecture(self.model, self.architecture)

  def make_model(self):
    """The model that the config describes, unbound."""
    return models.MODELS[self.model](**self.architecture, dtype=self.dtype)


@dataclasses.dataclass(frozen=True)
class ManySeedsConfig:
  """What experiments of many runs share.

  Attributes:
    experiment: which experiment it is.
    num_seeds: how many seeds each recipe is trained with.
    seed: the first of them.
    dataset: as in `TrainConfig`, for all runs; so are the next two.
    data_dir: see there.
    num_validation: see there.
    population: how runs are trained: `vmap` for one vectorised program; `map` for one after another on each device,
      within one program; `serial` for one at a time; `auto` for `map` on a CPU, else `vmap`.
    mesh: `seeds`, over how many devices a population is spread; 0 for all there are.
  """

  experiment: str = _string()
  num_seeds: int = _integer(1, 10_000)
  seed: int = _integer(0, 2**31 - 1 - 10_000)
  dataset: str = _string()
  data_dir: str = _string()
  num_validation: int = _integer(0, _MAX_COUNT)
  population: str = _choice('auto', 'map', 'vmap', 'serial')
  mesh: Mapping[str, int] = _mesh('seeds')

  def __post_init__(self):
    _check_fields(self)

  def make_train_config(self, where, recipe, **overrides):
    """The `TrainConfig` of a recipe on this experiment's data; `where` is the recipe's place, for errors."""
    shared = {'dataset': self.dataset, 'data_dir': self.data_dir, 'num_validation': self.num_validation}
    try:
      config = from_dict({**recipe, 'experiment': 'train', **shared, **overrides})
      for name, is_set in (('loader', config.loader != 'memory'), ('mesh', config.mesh['data'] > 1)):
        if is_set:
          raise errors.UsageError(
            f'config.{name}={getattr(config, name)!r} is not allowed where many runs train together: '
            'their data is in memory, and config.mesh.seeds spreads them over the devices.'
          )
    except errors.UsageError as error:
      raise errors.UsageError(str(error).replace('config.', f'config.{where}.', 1)) from error
    return config

  def seeds(self):
    """The seeds of the experiment."""
    return range(self.seed, self.seed + self.num_seeds)


@dataclasses.dataclass(frozen=True)
class CompareConfig(ManySeedsConfig):
  """Several recipes, each with several seeds: the experiments `compare` and `activations`.

  Attributes:
    recipes: a train config by name.
  """

  recipes: Mapping[str, Any] = _field(lambda value: isinstance(value, Mapping) and bool(value), 'train configs by name')

  def __post_init__(self):
    super().__post_init__()
    for name in self.recipes:
      if not re.fullmatch(r'[a-z0-9_-]+', name):
        raise errors.UsageError(f'config.recipes.{name} is not allowed: a name is of letters, digits, _ and -.')
    self.train_configs()

  def train_configs(self):
    """The runs of the experiment: dict of the recipe's name to a list of `TrainConfig`, one a seed."""
    return {
      name: [self.make_train_config(f'recipes.{name}', recipe, seed=seed) for seed in self.seeds()]
      for name, recipe in self.recipes.items()
    }


@dataclasses.dataclass(frozen=True)
class SweepConfig(ManySeedsConfig):
  """A search over numeric fields of one recipe: the experiment `sweep`.

  Attributes:
    recipe: the train config to start from.
    search: the values to try by field of the recipe; for `random`, the lowest and the highest.
    method: `grid` for all combinations, `random` for `num_trials` drawn ones (Bergstra and Bengio 2012).
    num_trials: of `random`.
    scale: of `random`: `log` or `linear`.
    metric: what the validation split chooses by, `loss` or `accuracy`.
  """

  recipe: Mapping[str, Any] = _field(lambda value: isinstance(value, Mapping), 'a train config')
  search: Mapping[str, tuple] = _field(lambda value: isinstance(value, Mapping) and bool(value), 'values by field')
  method: str = _choice('grid', 'random')
  num_trials: int = _integer(1, 10_000)
  scale: str = _choice('log', 'linear')
  metric: str = _choice('loss', 'accuracy')

  def __post_init__(self):
    super().__post_init__()
    if not self.num_validation:
      raise errors.UsageError('config.num_validation=0 leaves a sweep nothing to choose by: it must be at least 1.')
    base = dataclasses.asdict(self.make_train_config('recipe', self.recipe))
    for name, values in self.search.items():
      if type(base.get(name)) not in (int, float) or name in ('seed', 'num_validation'):
        raise errors.UsageError(f'config.search.{name} is not allowed: it is not a numeric field of the recipe.')
      if not isinstance(values, tuple) or not values or not all(type(value) in (int, float) for value in values):
        raise errors.UsageError(f'config.search.{name}={values!r} is not allowed: it must be a tuple of numbers.')
      if self.method == 'random' and (
        len(values) != 2 or values[0] > values[1] or (self.scale == 'log' and values[0] <= 0)
      ):
        raise errors.UsageError(
          f'config.search.{name}={values!r} is not allowed: it must be the lowest and the highest value, and on a '
          'logarithmic scale more than 0.'
        )
      for value in values:
        self.make_train_config('recipe', self.recipe, **{name: value})


# Each experiment's config, by the name that `config.experiment` gives.
CONFIGS = {
  'train': TrainConfig,
  'compare': CompareConfig,
  'activations': CompareConfig,
  'sweep': SweepConfig,
}


def from_dict(values):
  """Makes a config of what a config file says.

  Args:
    values: a mapping such as `ml_collections.ConfigDict`, with `experiment` and every field of that experiment.

  Returns:
    The frozen config.

  Raises:
    UsageError: a field is unknown, missing, or of a value that is not allowed.
  """
  values = _to_dict(values)
  if values.get('experiment') not in tuple(CONFIGS):  # A tuple, for values that have no hash.
    raise errors.UsageError(
      f'config.experiment={values.get("experiment")!r} is not allowed: it must be one of {", ".join(CONFIGS)}.'
    )
  config_class = CONFIGS[values['experiment']]
  _check_names('config', values, [field.name for field in dataclasses.fields(config_class)])
  return config_class(**values)


def to_dict(config):
  """The config as JSON types, so that `from_dict(to_dict(config)) == config`."""
  return {field.name: _to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}


def load_config(path, **overrides):
  """Loads a config file, for use without the command line.

  Args:
    path: a Python file with `get_config()`, such as `configs/cnn.py`.
    **overrides: fields to set, checked like the rest.

  Returns:
    The frozen config.

  Raises:
    UsageError: there is no such file, or a field is not allowed.
  """
  spec = importlib.util.spec_from_file_location('digits_config_file', path)
  try:
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
  except (AttributeError, FileNotFoundError) as error:
    raise errors.UsageError(f'{path} is not a config file: name one such as configs/cnn.py.') from error
  return from_dict({**_to_dict(module.get_config()), **overrides})


def _to_dict(value):
  """Mappings as dicts, lists as tuples, all the way down: what the checks and the models take."""
  if isinstance(value, Mapping) or hasattr(value, 'items'):
    return {str(key): _to_dict(item) for key, item in value.items()}
  return tuple(_to_dict(item) for item in value) if isinstance(value, list | tuple) else value


def _to_json(value):
  if isinstance(value, Mapping):
    return {key: _to_json(item) for key, item in value.items()}
  return [_to_json(item) for item in value] if isinstance(value, tuple) else value


def _check_names(where, values, names):
  for name in values:
    if name not in names:
      raise errors.UsageError(f'{where}.{name} is unknown: the fields are {", ".join(names) or "none"}.')
  for name in names:
    if name not in values:
      raise errors.UsageError(f'{where}.{name} is missing: the config must set it.')


def _check_fields(config):
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if not field.metadata['check'](value):
      raise errors.UsageError(f'config.{field.name}={value!r} is not allowed: it must be {field.metadata["allowed"]}.')
    if field.type is float:
      object.__setattr__(config, field.name, float(value))


def _check_architecture(model, architecture):
  """Checks the model's fields against the types of their defaults: widths, kernel sizes and activations."""
  defaults = {
    field.name: field.default
    for field in dataclasses.fields(models.MODELS[model])
    if field.name not in ('parent', 'name', 'num_classes', 'dtype')
  }
  _check_names('config.architecture', architecture, list(defaults))
  for name, default in defaults.items():
    value = architecture[name]
    if isinstance(default, str):
      choices = models.CONVOLUTIONS if name == 'convolution' else tuple(models.ACTIVATIONS)
      good, allowed = value in choices, 'one of ' + ', '.join(choices)
    elif isinstance(default, tuple):
      good = isinstance(value, tuple) and 1 <= len(value) <= 4 and all(_is_width(item) for item in value)
      allowed = 'one to four integers from 1 to 4,096'
    elif name == 'kernel_size':
      good, allowed = type(value) is int and 1 <= value <= _IMAGE_SIDE, f'an integer from 1 to {_IMAGE_SIDE}'
    else:
      good, allowed = _is_width(value), 'an integer from 1 to 4,096'
    if not good:
      raise errors.UsageError(f'config.architecture.{name}={value!r} is not allowed: it must be {allowed}.')


def _is_width(value):
  return type(value) is int and 1 <= value <= 4096
