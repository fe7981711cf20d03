"""Configs: what a config file says, checked field by field and frozen."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import importlib.util
import keyword
import math
import os
import pathlib
import re
import sys
import typing
from typing import Annotated, Any, Literal

from flax import linen as nn
import ml_collections

from digits import errors, schema
from digits.models import registry as models

_Count = Annotated[int, schema.Range(1, 1_000_000)]
_CountOrZero = Annotated[int, schema.Range(0, 1_000_000)]
_Fraction = Annotated[float, schema.Range(0, 1)]
_Temperature = Annotated[float, schema.Range(0.01, 1000)]
_Coefficient = Annotated[float, schema.Range(0, 1e6)]
_Recipes = Annotated[Mapping[str, Any], schema.Range(1, 1000)]
_Named = Annotated[Mapping[str, Any], schema.Keys(('name',), others=True)]

_LEAST_EPOCH = 5000  # Images.

# In the installed package the shipped configs lie inside it, in a checkout beside it.
_SHIPPED = (pathlib.Path(__file__).parent / 'configs', pathlib.Path(__file__).parent.parent / 'configs')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """One training run. There are no defaults here: a config file is a complete recipe.

  Attributes:
    experiment: `train`.
    model: name of a registered model.
    architecture: the fields of that model, such as widths and activations.
    dataset: a TFDS dataset of 28x28x1 images in ten classes; `reading`, which is `mnist` with drawn digits and
      pictures of no digit among the training images; or a view of one of these: `permuted:NAME`, whose pixels are in
      another order, `subset/COUNT/DRAW:NAME`, which has COUNT of its training images, or `repeated/TIMES:NAME`, which
      has them more than once.
    data_dir: where prepared data lives; empty for `TFDS_DATA_DIR` or TFDS's default.
    num_validation: how many of the last training images are kept for validation.
    seed: seed of the initial parameters, of every shuffle and of every step's randomness.
    epochs: passes over the training images.
    batch_size: images per update.
    eval_batch_size: images per call in evaluation; changes speed and memory, not results.
    learning_rate: the schedule's peak.
    schedule: `constant`, `cosine` or `onecycle`.
    warmup_fraction: the part of the run in which the learning rate rises to its peak.
    optimizer: `name`, an optimizer of optax or a registered one, and its other arguments. The fields `momentum`,
      `nesterov` and `weight_decay` are given to it where it takes them.
    momentum: decay of the velocity; 0 for an optimizer that takes none.
    nesterov: whether to look ahead along the velocity.
    weight_decay: coefficient for kernels: of an L2 term in the gradient, or of the optimizer's own decay if it has one.
    clip_norm: largest global norm of a gradient; 0 for no limit.
    label_smoothing: share of the training target that is spread evenly over all classes.
    augment: `name` of a registered augmentation and its arguments; `none` for none.
    distill: `workdir`, the run or ensemble whose answers are learned in place of the labels; empty for none. `weight`
      is their share of the loss, the rest is by the labels; `temperature` is what both logits are divided by.
    select: which weights are tested and kept: `best`, those of the epoch with the lowest validation loss, or `last`.
      After a schedule that anneals to 0 the last are as good, and no noise of the validation split chooses them.
    ema_decay: decay per step of the average of the parameters that is validated, tested and kept; 0 for no average.
    dtype: dtype of the computation; parameters and loss are float32.
    step_loop: `device` for many steps in one compiled call, `host` for one call per step, `auto` for the faster one,
      which is `host` for `lax.conv` on a CPU. Results are bit-identical for one setting, not across them.
    log_every_steps: how often training loss and accuracy are recorded, besides at the end of every epoch.
    loader: `memory` for a training split that lies on the device; `grain` to read batches while training runs.
    loader_workers: number of processes that read for `grain`; 0 for threads of this process.
    microbatch_size: number of images whose gradients are computed at a time, before they are added up. With 0, the
      default, it is 32 on a CPU for convolutions that are matrix products, and the whole batch otherwise. A model that
      behaves differently in training, such as one with batch normalization, allows only 0.
    mesh: `data`, the number of devices that share a batch; a core of a CPU is a device. With 0, the default, several
      processes use all their devices; one process uses one device, or for convolutions as many as get 32 images each.
  """

  experiment: Literal['train']
  model: str
  architecture: Mapping[str, Any]
  dataset: str
  data_dir: str
  num_validation: _CountOrZero
  seed: Annotated[int, schema.Range(0, 2**31 - 1)]
  epochs: Annotated[int, schema.Range(1, 100_000)]
  batch_size: _Count
  eval_batch_size: _Count
  learning_rate: _Coefficient
  schedule: Literal['constant', 'cosine', 'onecycle']
  warmup_fraction: _Fraction
  optimizer: _Named
  momentum: _Fraction
  nesterov: bool
  weight_decay: _Coefficient
  clip_norm: _Coefficient
  label_smoothing: _Fraction
  augment: _Named
  distill: Annotated[Mapping[str, Any], schema.Keys(('workdir', 'weight', 'temperature'))]
  select: Literal['best', 'last']
  ema_decay: Annotated[float, schema.Range(0, 0.999999)]
  dtype: Literal['float32', 'bfloat16']
  step_loop: Literal['auto', 'host', 'device']
  log_every_steps: _Count
  loader: Literal['memory', 'grain']
  loader_workers: Annotated[int, schema.Range(0, 256)]
  microbatch_size: _CountOrZero
  mesh: Annotated[Mapping[str, _CountOrZero], schema.Keys(('data',))]

  def __post_init__(self):
    _check_fields(self)
    models.check_architecture(self.model, self.architecture)
    for field in ('optimizer', 'augment'):
      schema.check(f'config.{field}.name', getattr(self, field)['name'], str)
    for field, hint in (('workdir', str), ('weight', _Fraction), ('temperature', _Temperature)):
      schema.check(f'config.distill.{field}', self.distill[field], hint)

  def make_model(self, num_classes: int = 10) -> nn.Module:
    """Makes the model that the config describes, unbound."""
    return models.make_model(self.model, self.architecture, num_classes=num_classes, dtype=self.dtype)


@dataclasses.dataclass(frozen=True)
class ManySeedsConfig:
  """The fields that all experiments of many runs have.

  Attributes:
    experiment: name of the experiment.
    num_seeds: how many seeds each recipe is trained with.
    seed: the first seed.
    dataset: as in `TrainConfig`, for all runs.
    data_dir: as in `TrainConfig`, for all runs.
    num_validation: as in `TrainConfig`, for all runs.
    population: how runs are trained: `vmap` for one vectorised program; `map` for one after another on each device,
      within one program; `serial` for one at a time; `auto` for `map` on a CPU, else `vmap`.
    mesh: `seeds`, over how many devices a population is spread; 0 for all there are.
  """

  experiment: str
  num_seeds: Annotated[int, schema.Range(1, 10_000)]
  seed: Annotated[int, schema.Range(0, 2**31 - 1 - 10_000)]
  dataset: str
  data_dir: str
  num_validation: _CountOrZero
  population: Literal['auto', 'map', 'vmap', 'serial']
  mesh: Annotated[Mapping[str, _CountOrZero], schema.Keys(('seeds',))]

  def __post_init__(self):
    _check_fields(self)

  def make_train_config(self, where: str, recipe: Mapping[str, Any], **overrides: Any) -> TrainConfig:
    """The `TrainConfig` of a recipe on this experiment's data.

    Args:
      where: the recipe's place, for errors.
      recipe: the recipe.
      **overrides: fields to set; one within a field is named with a dot, such as `augment.rotation`.
    """
    shared = {'dataset': self.dataset, 'data_dir': self.data_dir, 'num_validation': self.num_validation}
    values = {**recipe, 'experiment': 'train', **shared}
    for name, value in overrides.items():
      field, *inner = name.split('.')
      values[field] = {**values[field], inner[0]: value} if inner else value
    try:
      config = from_dict(values)
      assert isinstance(config, TrainConfig)
      for name, is_set in (('loader', config.loader != 'memory'), ('mesh', config.mesh['data'] > 1)):
        if is_set:
          raise errors.UsageError(
            f'config.{name}={getattr(config, name)!r} is not allowed where many runs train together: '
            'their data is in memory, and config.mesh.seeds spreads them over the devices.'
          )
    except errors.UsageError as error:
      raise errors.UsageError(str(error).replace('config.', f'config.{where}.', 1)) from error
    return config

  def seeds(self) -> range:
    """The seeds of the experiment."""
    return range(self.seed, self.seed + self.num_seeds)


@dataclasses.dataclass(frozen=True)
class CompareConfig(ManySeedsConfig):
  """Several recipes, each with several seeds: the experiments `compare` and `activations`.

  Attributes:
    recipes: a train config by name. A name is an identifier, so that `--config.recipes.NAME.FIELD` can be given.
  """

  recipes: _Recipes

  def __post_init__(self):
    super().__post_init__()
    for name in self.recipes:
      if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or name != name.lower():
        raise errors.UsageError(
          f'config.recipes.{name} is not allowed: a name is made of lower-case letters, digits and _, such as mlp_wide.'
        )
    self.train_configs()

  def train_configs(self) -> dict[str, list[TrainConfig]]:
    """The runs of the experiment: by the recipe's name a list of `TrainConfig`, one per seed."""
    return {
      name: [self.make_train_config(f'recipes.{name}', recipe, seed=seed) for seed in self.seeds()]
      for name, recipe in self.recipes.items()
    }


@dataclasses.dataclass(frozen=True)
class AblationConfig(CompareConfig):
  """What single changes of a recipe are worth: the experiment `ablation`.

  Attributes:
    effects: pairs of recipes, the one without a change and the one with it.
  """

  effects: Annotated[tuple[tuple[str, str], ...], schema.Range(1, 1000)]

  def __post_init__(self):
    super().__post_init__()
    for pair in self.effects:
      for name in pair:
        if name not in self.recipes:
          raise errors.UsageError(
            f'config.effects names {name!r}, which is no recipe: the recipes are {", ".join(self.recipes)}.'
          )
      if pair[0] == pair[1]:
        raise errors.UsageError(f'config.effects compares {pair[0]!r} with itself: name two recipes.')


@dataclasses.dataclass(frozen=True)
class ActivationsConfig(CompareConfig):
  """The experiment `activations`, whose recipes differ in their activations."""

  num_validation: _Count  # A probe looks at validation images.


@dataclasses.dataclass(frozen=True)
class ExplainConfig(CompareConfig):
  """Claims about the models, and the measurements that could refute them: the experiment `explain`.

  Attributes:
    permuted: recipes that are trained also on images whose pixels are in another order, as NAME_permuted.
    sized: recipes that are trained also on fewer images, as NAME_of_COUNT; each seed draws its own.
    sizes: numbers of training images for that.
    least_updates: how many updates a run on fewer images makes at least; an epoch has them several times for that.
    measured: recipes whose networks are given moved, corrupted, unknown and attacked images.
    num_attacked: test images that are attacked.
    probed: recipes whose layers are probed.
    num_probed: training images that a probe learns from.
    sections: the parts of the page by name, each with a `heading`, its `text`, its `figures` (see
      `digits.report.explain_study`) and its `claims`: a sentence and the tests that it must pass, each (see
      `digits.explain.claims`).
  """

  permuted: tuple[str, ...]
  sized: tuple[str, ...]
  sizes: tuple[_Count, ...]
  least_updates: _CountOrZero
  measured: tuple[str, ...]
  num_attacked: _Count
  probed: tuple[str, ...]
  num_probed: _Count
  sections: Annotated[Mapping[str, Any], schema.Range(1, 100)]

  def __post_init__(self):
    super().__post_init__()
    for field in ('permuted', 'sized', 'measured', 'probed'):
      for name in getattr(self, field):
        if name not in self.recipes:
          raise errors.UsageError(
            f'config.{field} names {name!r}, which is no recipe: the recipes are {", ".join(self.recipes)}.'
          )
    if list(self.sizes) != sorted(set(self.sizes)):
      raise errors.UsageError(f'config.sizes={self.sizes} is not allowed: the numbers must ascend.')

  def train_configs(self) -> dict[str, list[TrainConfig]]:
    """The runs of the experiment: by name a list of `TrainConfig`, one per seed."""
    found = super().train_configs()
    for name in found:
      if name.endswith('_permuted') or re.search(r'_of_\d+$', name):
        raise errors.UsageError(f'config.recipes.{name} is not allowed: such names are for what `explain` adds.')
    for name in self.permuted:
      found[f'{name}_permuted'] = [dataclasses.replace(one, dataset=f'permuted:{self.dataset}') for one in found[name]]
    for name in self.sized:
      for count in self.sizes:
        found[f'{name}_of_{count}'] = [self._make_smaller(one, count) for one in found[name]]
    return found

  def _make_smaller(self, config: TrainConfig, count: int) -> TrainConfig:
    # An epoch ends with validation and a checkpoint, and should not be shorter than these.
    times = math.ceil(_LEAST_EPOCH / count)
    batch_size = min(config.batch_size, count * times)
    return dataclasses.replace(
      config,
      dataset=f'repeated/{times}:subset/{count}/{config.seed}:{self.dataset}',
      batch_size=batch_size,
      epochs=max(config.epochs, math.ceil(self.least_updates / math.ceil(count * times / batch_size))),
      select='last',  # The validation split is larger than the training split, and must not choose.
    )


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(CompareConfig):
  """Several networks whose probabilities are averaged: the experiment `ensemble`.

  Attributes:
    trained_in: workdir of a finished comparison, whose runs are taken in place of `recipes`; empty to train these.
  """

  trained_in: str


@dataclasses.dataclass(frozen=True)
class SweepConfig(ManySeedsConfig):
  """A search over numeric fields of one recipe: the experiment `sweep`.

  Attributes:
    recipe: the train config to start from.
    search: the values to try by field of the recipe, or by field within `architecture`, `optimizer` or `augment`; for
      `random`, the lowest and the highest.
    method: `grid` for all combinations, `random` for `num_trials` drawn ones (Bergstra and Bengio 2012).
    num_trials: how many trials `random` draws.
    scale: scale on which `random` draws: `log` or `linear`.
    metric: the validation score that ranks the trials, `loss` or `accuracy`.
  """

  recipe: Mapping[str, Any]
  search: Annotated[Mapping[str, Any], schema.Range(1, 1000)]
  method: Literal['grid', 'random']
  num_trials: Annotated[int, schema.Range(1, 10_000)]
  scale: Literal['log', 'linear']
  metric: Literal['loss', 'accuracy']
  num_validation: _Count  # There must be something to choose by.

  def __post_init__(self):
    super().__post_init__()
    base = flatten(dataclasses.asdict(self.make_train_config('recipe', self.recipe)))
    for name, values in self.searched().items():
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

  def searched(self) -> dict[str, Any]:
    """The values to try by name of the field; one within another is named with a dot, such as `augment.rotation`."""
    return flatten(self.search)


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
  """A mapping without the mappings in it: their items are named with a dot, such as `augment.rotation`."""
  flat: dict[str, Any] = {}
  for name, value in values.items():
    flat |= {f'{name}.{inner}': item for inner, item in value.items()} if isinstance(value, Mapping) else {name: value}
  return flat


# Each experiment's config, by the name that `config.experiment` gives.
CONFIGS = {
  'train': TrainConfig,
  'compare': CompareConfig,
  'activations': ActivationsConfig,
  'ensemble': EnsembleConfig,
  'ablation': AblationConfig,
  'explain': ExplainConfig,
  'sweep': SweepConfig,
}
Config = TrainConfig | CompareConfig | SweepConfig


def from_dict(values: Mapping[str, Any] | ml_collections.ConfigDict) -> Config:
  """Makes a config of what a config file says.

  Args:
    values: a mapping such as `ml_collections.ConfigDict`, with `experiment` and every field of that experiment.

  Raises:
    UsageError: a field is unknown, missing, or has a value that is not allowed.
  """
  values = _to_plain(values)
  schema.check('config.experiment', values.get('experiment'), Literal[tuple(CONFIGS)])
  config_class = CONFIGS[values['experiment']]
  schema.check_names('config', values, [field.name for field in dataclasses.fields(config_class)])
  return config_class(**values)


def to_dict(config: Config) -> dict[str, Any]:
  """The config as JSON types, so that `from_dict(to_dict(config)) == config`."""
  return {field.name: _to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}


def load_config(path: str | os.PathLike, **overrides: Any) -> Config:
  """Loads a config file, for use without the command line.

  Args:
    path: as in `get_config`.
    **overrides: fields to set, checked like the rest.

  Raises:
    UsageError: there is no such file, or a field is not allowed.
  """
  return from_dict({**_to_plain(get_config(path)), **overrides})


def get_config(path: str | os.PathLike) -> ml_collections.ConfigDict:
  """Calls the `get_config()` of a config file: a recipe that may still be changed, and is not checked yet.

  Args:
    path: a Python file such as `configs/cnn.py`, which may import what lies beside it; or the bare name of a config
      that this package ships, such as `cnn`.

  Raises:
    UsageError: there is no such file, it does not load, or it has no `get_config()`.
  """
  path = _find_config(path)
  # Registered, because annotations of the classes in it are looked up there.
  name = 'config_file_' + re.sub(r'\W', '_', str(path.resolve()))
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise errors.UsageError(f'{path} is not a config file: name one such as configs/cnn.py.')
  module = sys.modules[name] = importlib.util.module_from_spec(spec)
  try:
    with _importable(path.parent):
      spec.loader.exec_module(module)
      config = module.get_config()
  except errors.DigitsError:
    raise
  except Exception as error:  # Whatever the Python of a config file raises.
    raise errors.UsageError(
      f'The config file {path} does not load: {type(error).__name__}: {errors.first_line(error)}.'
    ) from error
  if not isinstance(config, Mapping | ml_collections.ConfigDict):
    raise errors.UsageError(f'get_config() of {path} returns {config!r}: let it return the config.')
  return ml_collections.ConfigDict(config)


def _find_config(path: str | os.PathLike) -> pathlib.Path:
  path = pathlib.Path(path)
  if path.is_file():
    return path
  shipped = [place / f'{path}.py' for place in _SHIPPED if path.name == str(path)]
  found = next((file for file in shipped if file.is_file()), None)
  if found is None:
    names = sorted(file.stem for place in _SHIPPED for file in place.glob('*.py'))
    raise errors.UsageError(f'There is no config file {path}: give a path, or one of {", ".join(names)}.')
  return found


@contextlib.contextmanager
def _importable(directory: pathlib.Path) -> Iterator[None]:
  """Lets the code inside import modules of a directory."""
  sys.path.insert(0, str(directory))
  try:
    yield
  finally:
    with contextlib.suppress(ValueError):
      sys.path.remove(str(directory))


def _to_plain(value: Any) -> Any:
  """Mappings as dicts, lists as tuples, all the way down: what the checks and the models take."""
  if isinstance(value, Mapping) or hasattr(value, 'items'):
    return {str(key): _to_plain(item) for key, item in value.items()}
  return tuple(_to_plain(item) for item in value) if isinstance(value, list | tuple) else value


def _to_json(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _to_json(item) for key, item in value.items()}
  return [_to_json(item) for item in value] if isinstance(value, tuple) else value


def _check_fields(config: Any) -> None:
  for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
    value = getattr(config, name)
    schema.check(f'config.{name}', value, hint)
    if type(value) is int and typing.get_args(hint)[:1] == (float,):
      object.__setattr__(config, name, float(value))
