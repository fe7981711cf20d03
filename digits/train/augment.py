"""Augmentations: pure functions `(key, images) -> images` of float images in [0, 1], ink 1 on paper 0.

In training each image is augmented with a key of its own, a function of (seed, step, row in the batch). What becomes of
an image therefore depends neither on the number of devices nor on where a run was interrupted.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from digits import registry, schema

Augmentation = Callable[[Key[Array, ''], Float[Array, 'batch h w 1']], Float[Array, 'batch h w 1']]

AUGMENTATIONS = registry.Registry('augmentation')


def register_augmentation(name: str) -> Callable[[registry.T], registry.T]:
  """Returns a decorator that makes an augmentation known to configs by a name, from any file.

  Its arguments after `key` and `images` are those of `config.augment`, checked by their annotations.

  Raises:
    UsageError: the name is taken by an augmentation of this package, or is not an identifier.
  """
  return AUGMENTATIONS.register(name)


def make_augment(spec: Mapping[str, Any]) -> Augmentation | None:
  """Makes the augmentation that `config.augment` describes.

  Args:
    spec: `name` of a registered augmentation, and its arguments.

  Returns:
    The augmentation; None for the name `none`.

  Raises:
    UsageError: no such augmentation is registered, or an argument does not fit.
  """
  arguments = {name: value for name, value in spec.items() if name != 'name'}
  if spec['name'] == 'none':
    schema.check_names('config.augment', arguments, ())
    return None
  function = AUGMENTATIONS.find(spec['name'], 'config.augment.name')
  schema.check_arguments('config.augment', function, arguments, skip=2)
  return functools.partial(function, **arguments)


def augment_each(
  augment: Augmentation,
  key: Key[Array, ''],
  images: Float[Array, 'batch h w 1'],
  first_row: int | Int[Array, ''] = 0,
) -> Float[Array, 'batch h w 1']:
  """Augments each image with its own key.

  Args:
    augment: the augmentation.
    key: key of the step.
    images: the images of a batch, or of the part of it that is on this device.
    first_row: which row of the whole batch the first image is.
  """
  rows = first_row + jnp.arange(images.shape[0])
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
  return jax.vmap(lambda key, image: augment(key, image[None])[0])(keys, images)


@register_augmentation('random_shift')
def random_shift(
  key: Key[Array, ''], images: Float[Array, 'batch h w 1'], *, max_pixels: int = 2
) -> Float[Array, 'batch h w 1']:
  """Moves each image by whole pixels, up to `max_pixels` along each axis; what enters from outside is paper."""
  margin = max_pixels
  padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
  corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * margin + 1)

  def crop(image, corner):
    return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

  return jax.vmap(crop)(padded, corners)
