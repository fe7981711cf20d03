"""Augmentations: pure functions `(key, images) -> images` of float images in [0, 1], ink 1 on paper 0.

In training each image is augmented with a key of its own, a function of (seed, step, row in the batch). What becomes of
an image therefore depends neither on the number of devices nor on where a run was interrupted.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from digits import registry, schema

Augmentation = Callable[[Key[Array, ''], Float[Array, 'batch h w 1']], Float[Array, 'batch h w 1']]

AUGMENTATIONS = registry.Registry('augmentation')

_Degrees = Annotated[float, schema.Range(0, 180)]
_Share = Annotated[float, schema.Range(0, 1)]
_Pixels = Annotated[float, schema.Range(0, 28)]
_Grid = Annotated[int, schema.Range(2, 28)]
_Side = Annotated[int, schema.Range(0, 28)]
_Pair = ArrayLike | tuple[ArrayLike, ArrayLike]

# A pixel and its four neighbours: rows and columns away from it.
_NEIGHBOURS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


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


@register_augmentation('affine')
def affine(
  key: Key[Array, ''],
  images: Float[Array, 'batch h w 1'],
  *,
  rotation: _Degrees = 10.0,
  scale: _Share = 0.1,
  shear: _Share = 0.15,
  shift: _Pixels = 2.0,
) -> Float[Array, 'batch h w 1']:
  """Rotates, scales, slants and moves each image about its centre, by amounts drawn uniformly.

  LeCun, Bottou, Bengio and Haffner 1998 trained on such images, which they called distorted.

  Args:
    key: random key.
    images: the images.
    rotation: the largest angle, in degrees, either way.
    scale: the largest change in size, as a share, along each axis on its own.
    shear: the largest slant: columns of paper that a stroke leans over per row.
    shift: the largest shift in pixels, along each axis on its own.
  """
  return distort(key, images, rotation=rotation, scale=scale, shear=shear, shift=shift)


@register_augmentation('elastic')
def elastic(
  key: Key[Array, ''], images: Float[Array, 'batch h w 1'], *, pixels: _Pixels = 0.9, grid: _Grid = 5
) -> Float[Array, 'batch h w 1']:
  """Bends each image: the nodes of a coarse grid move at random, and what lies between them follows smoothly.

  The idea is that of Simard, Steinkraus and Platt 2003, who smoothed a random field of displacements with a Gaussian;
  a grid that is interpolated gives as smooth a field from a few numbers, as in Ronneberger, Fischer and Brox 2015.

  Args:
    key: random key.
    images: the images.
    pixels: standard deviation of a node's displacement along each axis.
    grid: nodes along each axis.
  """
  return distort(key, images, elastic=pixels, grid=grid)


@register_augmentation('thickness')
def thickness(
  key: Key[Array, ''], images: Float[Array, 'batch h w 1'], *, pixels: _Share = 0.5
) -> Float[Array, 'batch h w 1']:
  """Makes the strokes of each image thicker or thinner, by an amount drawn uniformly.

  Castro, Tan, Kainz, Konukoglu and Glocker 2019 (Morpho-MNIST) change digits so, on larger images. Here it is grey
  dilation and erosion by the four neighbours of a pixel (Serra 1982), of which each image gets a part.

  Args:
    key: random key.
    images: the images.
    pixels: the largest amount that the outline moves, outwards or inwards, in pixels.
  """
  return distort(key, images, thickness=pixels)


@register_augmentation('erase')
def erase(
  key: Key[Array, ''], images: Float[Array, 'batch h w 1'], *, side: _Side = 8, probability: _Share = 1.0
) -> Float[Array, 'batch h w 1']:
  """Erases a square patch of each image, centred on any of its pixels (DeVries and Taylor 2017, cutout).

  Args:
    key: random key.
    images: the images.
    side: side of the patch in pixels; at the border a part of it is outside.
    probability: the share of the images that lose a patch.
  """
  return distort(key, images, erase_side=side, erase_probability=probability)


@register_augmentation('distort')
def distort(
  key: Key[Array, ''],
  images: Float[Array, 'batch h w 1'],
  *,
  rotation: _Degrees = 0.0,
  scale: _Share = 0.0,
  shear: _Share = 0.0,
  shift: _Pixels = 0.0,
  elastic: _Pixels = 0.0,
  grid: _Grid = 5,
  thickness: _Share = 0.0,
  erase_side: _Side = 0,
  erase_probability: _Share = 1.0,
) -> Float[Array, 'batch h w 1']:
  """What `thickness`, `affine`, `elastic` and `erase` do, in this order; each is off by default.

  Both distortions are one interpolation, so that strokes are blurred once. Cireşan, Meier, Gambardella and Schmidhuber
  2012 combined them in the same way.

  Args:
    key: random key.
    images: the images.
    rotation: see `affine`.
    scale: see `affine`.
    shear: see `affine`.
    shift: see `affine`.
    elastic: see `elastic`, its `pixels`.
    grid: see `elastic`.
    thickness: see `thickness`, its `pixels`.
    erase_side: see `erase`, its `side`.
    erase_probability: see `erase`, its `probability`.
  """

  def change(key, image):
    affine_key, elastic_key, thickness_key, erase_key = jax.random.split(key, 4)
    height, width = image.shape
    if thickness:
      image = change_thickness(image, jax.random.uniform(thickness_key, minval=-thickness, maxval=thickness))
    if rotation or scale or shear or shift or elastic:
      amount = jax.random.uniform(affine_key, (6,), minval=-1.0, maxval=1.0)
      rows, columns = affine_source(
        height,
        width,
        angle=jnp.deg2rad(rotation) * amount[0],
        scale=1 + scale * amount[1:3],
        shear=shear * amount[3],
        shift=shift * amount[4:6],
      )
      bend = jnp.zeros((2, 1, 1))
      if elastic:
        bend = smooth_field(elastic * jax.random.normal(elastic_key, (2, grid, grid)), height, width)
      image = sample_bilinear(image, rows + bend[0], columns + bend[1])
    if erase_side:
      centre_key, whether_key = jax.random.split(erase_key)
      top, left = jax.random.randint(centre_key, (2,), 0, jnp.array([height, width])) - erase_side // 2
      rows, columns = jnp.arange(height)[:, None] - top, jnp.arange(width) - left
      is_inside = (rows >= 0) & (rows < erase_side) & (columns >= 0) & (columns < erase_side)
      image = jnp.where(is_inside & jax.random.bernoulli(whether_key, erase_probability), 0.0, image)
    return image

  keys = jax.random.split(key, images.shape[0])
  return jax.vmap(change)(keys, images[..., 0])[..., None]


def affine_source(
  height: int,
  width: int,
  *,
  angle: ArrayLike = 0.0,
  scale: _Pair = (1.0, 1.0),
  shear: ArrayLike = 0.0,
  shift: _Pair = (0.0, 0.0),
) -> tuple[Float[Array, 'h w'], Float[Array, 'h w']]:
  """Where each pixel of an image comes from that is scaled, slanted, rotated about its centre, then moved.

  Args:
    height: number of rows.
    width: number of columns.
    angle: in radians, counterclockwise as one looks at the picture.
    scale: factors of the size along rows (vertical) and columns (horizontal).
    shear: columns to the right per row upwards.
    shift: pixels down and pixels to the right.

  Returns:
    The row and the column of the source of each pixel, as fractions.
  """
  scale, shift = jnp.asarray(scale), jnp.asarray(shift)
  middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
  down = jnp.arange(height)[:, None] - middle_row - shift[0]
  right = jnp.arange(width)[None, :] - middle_column - shift[1]
  # The inverse of each map, the last one first.
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  down, right = cos * down + sin * right, cos * right - sin * down
  right = right + shear * down
  return down / scale[0] + middle_row, right / scale[1] + middle_column


def smooth_field(nodes: Float[Array, 'fields g g'], height: int, width: int) -> Float[Array, 'fields h w']:
  """Interpolates fields between the nodes of a coarse grid by cubic convolution (Keys 1981)."""
  grid = nodes.shape[-1]
  along_rows = jax.image.resize(jnp.eye(grid), (height, grid), 'cubic')
  along_columns = jax.image.resize(jnp.eye(grid), (width, grid), 'cubic')
  return jnp.einsum('hi,fij,wj->fhw', along_rows, nodes, along_columns)


def sample_bilinear(
  image: Float[Array, 'h w'], rows: Float[Array, 'h w'], columns: Float[Array, 'h w']
) -> Float[Array, 'h w']:
  """Reads an image at fractional places, between its pixels by bilinear interpolation; outside it is paper."""
  height, width = image.shape
  flat = jnp.pad(image, 1).reshape(-1)
  # One row and one column of paper around the image are enough: further out everything is the same.
  rows, columns = jnp.clip(rows + 1, 0, height + 1), jnp.clip(columns + 1, 0, width + 1)
  top, left = jnp.minimum(rows.astype(jnp.int32), height), jnp.minimum(columns.astype(jnp.int32), width)
  below, right = rows - top, columns - left
  first = top * (width + 2) + left

  def pixels(offset):
    return flat.at[first + offset].get(mode='promise_in_bounds')

  upper = (1 - right) * pixels(0) + right * pixels(1)
  lower = (1 - right) * pixels(width + 2) + right * pixels(width + 3)
  return (1 - below) * upper + below * lower


def change_thickness(image: Float[Array, 'h w'], pixels: float | Float[Array, '']) -> Float[Array, 'h w']:
  """Moves the outline of the ink outwards by up to one pixel, or inwards where `pixels` is negative."""
  height, width = image.shape
  padded = jnp.pad(image, 1)
  around = jnp.stack([padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in _NEIGHBOURS])
  grown, shrunk = jnp.max(around, 0), jnp.min(around, 0)
  return image + jnp.where(pixels > 0, pixels * (grown - image), pixels * (image - shrunk))
