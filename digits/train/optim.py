"""Optimizers by name, and learning-rate schedules; the recipes of the three models are SGD."""

from collections.abc import Callable
import inspect
import operator
import re
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, PyTree
import numpy as np
import optax

from digits import errors, registry, schema
from digits.config import TrainConfig

OPTIMIZERS = registry.Registry('optimizer')

Number = float | Float[Array, ''] | Float[np.ndarray, '*members']


class Hyperparameters(NamedTuple):
  """What the members of a population may differ in besides the seed: numbers, or arrays within a compiled program."""

  learning_rate: Number
  momentum: Number
  weight_decay: Number


def register_optimizer(name: str) -> Callable[[registry.T], registry.T]:
  """Returns a decorator that makes a function `(learning_rate, ...) -> optax.GradientTransformation` known to configs.

  Raises:
    UsageError: the name is taken by optax, or is not an identifier.
  """
  if hasattr(optax, name):
    raise errors.UsageError(f'optax has {name!r} already: register yours by another name.')
  return OPTIMIZERS.register(name)


def make_schedule(config: TrainConfig, num_steps: int, peak: Number | None = None) -> optax.Schedule:
  """Makes the learning rate of a config a function of the number of finished updates.

  `constant` is the peak after the warm-up; `cosine` a half cosine from the peak to 0; `onecycle` a half cosine up from
  1/25 of the peak and one down to 0 (Smith and Topin 2017, arXiv:1708.07120, annealed with cosines). The warm-up is
  linear but for `onecycle`. That is not `optax.cosine_onecycle_schedule`, which ends above 0 and rounds differently:
  every recorded result would change.

  Args:
    config: the config of the run.
    num_steps: number of updates of the run.
    peak: what takes the place of `config.learning_rate`; None for that.
  """
  peak = config.learning_rate if peak is None else peak
  warmup_steps = round(config.warmup_fraction * num_steps)
  fall = optax.cosine_decay_schedule(peak, max(num_steps - warmup_steps, 1))
  if config.schedule == 'onecycle':
    rise = optax.cosine_decay_schedule(1.0, max(warmup_steps, 1))
    return optax.join_schedules([lambda step: peak * (1 - (1 - 1 / 25) * rise(step)), fall], [warmup_steps])
  after = fall if config.schedule == 'cosine' else optax.constant_schedule(peak)
  if not warmup_steps:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), after], [warmup_steps])


def make_optimizer(
  config: TrainConfig, num_steps: int, hyper: Hyperparameters | None = None
) -> optax.GradientTransformation:
  """Makes the optimizer of a config: clip the gradient, add the weight decay, then the update of `config.optimizer`.

  An optimizer with a weight decay of its own, such as `adamw`, gets it in place of the term in the gradient. Either way
  it applies to kernels and not to biases.

  Args:
    config: the config of a run, or of the first member of a population.
    num_steps: number of updates of the run.
    hyper: what takes the place of the config's own values, as arrays of a member; None for those values.

  Raises:
    UsageError: there is no such optimizer, or it does not take what the config gives it.
  """
  hyper = hyper or Hyperparameters(config.learning_rate, config.momentum, config.weight_decay)
  arguments = dict(config.optimizer)
  name = arguments.pop('name')
  make = _find(name)
  takes = inspect.signature(make).parameters
  schema.check_arguments('config.optimizer', make, arguments, skip=1)
  for field in ('momentum', 'nesterov', 'weight_decay'):
    if field in arguments:
      raise errors.UsageError(f'config.optimizer.{field} is a field of its own: set config.{field}.')
  given: dict[str, Any] = {'learning_rate': make_schedule(config, num_steps, hyper.learning_rate)}
  for field, value in (('momentum', hyper.momentum), ('nesterov', config.nesterov)):
    if field in takes:
      given[field] = value
    elif getattr(config, field):
      value = getattr(config, field)
      off = type(value)(0)
      raise errors.UsageError(f'config.{field}={value} does not go with {name}, which has none: set it to {off}.')
  weight_decay: Any = hyper.weight_decay
  decay = optax.add_decayed_weights(weight_decay, mask=_is_kernel)
  if 'weight_decay' in takes:
    given['weight_decay'] = weight_decay
    mask = next((field for field in ('mask', 'weight_decay_mask') if field in takes), None)
    decay = optax.identity()
    given |= {mask: _is_kernel} if mask else {}
  clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
  return optax.chain(clip, decay, make(**given, **arguments))


def _find(name: str) -> Callable[..., optax.GradientTransformation]:
  """The function that makes an optimizer: a registered one, or the one that optax has by that name."""
  if name in OPTIMIZERS:
    return OPTIMIZERS[name]
  try:
    make: Any = operator.attrgetter(name if re.fullmatch(r'(contrib\.)?[a-z][a-z0-9_]*', name) else '-')(optax)
    # What is schedule-free is evaluated at other parameters than it trains.
    if next(iter(inspect.signature(make).parameters)) == 'learning_rate' and 'schedule_free' not in name:
      return make
  except (AttributeError, StopIteration, TypeError, ValueError):
    pass
  raise errors.UsageError(
    f'config.optimizer.name={name!r} is not an optimizer of optax, such as sgd or adam, nor a registered one.'
  )


def _is_kernel(params: PyTree) -> PyTree:
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
