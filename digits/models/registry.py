"""The models that a config can name, and what the rest of the code may ask any model."""

from collections.abc import Callable, Mapping
import dataclasses
import inspect
import typing
from typing import Any, NamedTuple, TypeVar

from flax import linen as nn
import jax.numpy as jnp

from digits import errors, registry, schema

MODELS = registry.Registry('model')

# Fields of a module that are no part of its architecture: the data and `config.dtype` decide them, or Flax does.
_NOT_ARCHITECTURE = ('parent', 'name', 'num_classes', 'dtype')

_Module = TypeVar('_Module', bound=type[nn.Module])


class Published(NamedTuple):
  """A published result on the 10,000 test images of MNIST: accuracy as a fraction, loss in nats."""

  accuracy: float
  loss: float


class About(NamedTuple):
  """The description of a model for people.

  Attributes:
    title: a few words, such as `softmax regression`.
    published: the result to compare it with, or None.
  """

  title: str
  published: Published | None = None


_ABOUT: dict[str, About] = {}


def register_model(
  name: str, *, title: str | None = None, published: Published | None = None
) -> Callable[[_Module], _Module]:
  """Returns a decorator that makes an `nn.Module` known to configs by a name, from any file.

  The module has a field `num_classes` and a `__call__(self, image, train=False)` that maps images float[B, H, W, 1] in
  [0, 1] to logits float[B, num_classes]. `train` may be left out where training and inference are the same. The other
  fields are `config.architecture`.

  Args:
    name: the value of `config.model`.
    title: a few words for pages and model cards; the name where there are none.
    published: a published result to compare it with.

  Raises:
    UsageError: the name is taken by a model of this package, or is not an identifier.
  """

  def decorate(module: _Module) -> _Module:
    MODELS.register(name)(module)
    _ABOUT[name] = About(title or name, published)
    return module

  return decorate


def about(name: str) -> About:
  """The description of the model of that name, whether it is registered or not."""
  return _ABOUT.get(name, About(name))


def architecture_hints(module: type[nn.Module]) -> dict[str, Any]:
  """The annotations of a module's fields that a config sets, by name."""
  try:
    hints = typing.get_type_hints(module, include_extras=True)
  except NameError as error:
    raise errors.UsageError(
      f'An annotation of the model {module.__name__} names what its file does not have ({error}): import it there.'
    ) from error
  fields = [field for field in dataclasses.fields(module) if field.init and field.name not in _NOT_ARCHITECTURE]
  return {field.name: hints[field.name] for field in fields if schema.is_checkable(hints[field.name])}


def check_architecture(name: str, architecture: Mapping[str, Any]) -> None:
  """Raises UsageError unless a model is registered by that name and has exactly these fields, of these types."""
  module = MODELS.find(name, 'config.model')
  hints = architecture_hints(module)
  for one in dataclasses.fields(module):
    if one.name in architecture and one.name not in (*hints, *_NOT_ARCHITECTURE):
      raise errors.UsageError(
        f'config.architecture.{one.name} cannot be set: annotate it as int, float, bool, str, Literal or '
        'a tuple of these.'
      )
  schema.check_names('config.architecture', architecture, hints)
  for field, hint in hints.items():
    schema.check(f'config.architecture.{field}', architecture[field], hint)


def make_model(name: str, architecture: Mapping[str, Any], *, num_classes: int, dtype: str = 'float32') -> nn.Module:
  """Makes an unbound module.

  Args:
    name: name of a registered model.
    architecture: the values of its fields.
    num_classes: number of classes in the data.
    dtype: dtype of the computation.

  Raises:
    UsageError: the model computes in float32 only and another dtype is asked for, or it refuses its fields.
  """
  module = MODELS.find(name, 'config.model')
  names = {field.name for field in dataclasses.fields(module)}
  given = {'num_classes': num_classes} | ({'dtype': jnp.dtype(dtype)} if 'dtype' in names else {})
  if 'dtype' not in names and dtype != 'float32':
    raise errors.UsageError(f'config.dtype={dtype!r} is not possible: the model {name} has no field dtype.')
  try:
    return module(**architecture, **given)
  except (TypeError, ValueError) as error:
    raise errors.UsageError(f'The model {name} cannot be made ({errors.first_line(error)}).') from error


def takes_train(model: nn.Module) -> bool:
  """Whether a model behaves differently in training, as with dropout: whether it has the argument `train`."""
  return 'train' in inspect.signature(type(model).__call__).parameters


def portable(model: nn.Module) -> nn.Module:
  """The same function in float32 and by operations that every device has, for exported files."""
  own: Any = getattr(model, 'portable', None)
  if callable(own):
    return own()
  return model.clone(dtype=jnp.float32) if hasattr(model, 'dtype') else model
