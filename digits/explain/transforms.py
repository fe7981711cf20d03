"""Digits that are moved, turned and resized by ever more, to see how far from MNIST's own a network still reads them.

All maps are about the centre of the image and interpolate bilinearly; what enters from outside is paper, and what
leaves the frame is gone. Images are uint8 with ink 255 on 0, and results are rounded. At 0 pixels, 0 degrees and a
factor of 1 nothing changes. Directions are drawn at random, so that a curve over the amounts averages over them.
"""

from collections.abc import Sequence

import numpy as np

from digits.data.corruptions import Images, warp

# Pixels, degrees and factors.
SHIFTS = (0, 1, 2, 3, 4, 5, 6)
ROTATIONS = (0, 10, 20, 30, 40, 50, 60)
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)

_STAY = np.eye(2)


def shift(images: Images, pixels: float, rng: np.random.Generator) -> Images:
  """Moves each image up, down, to the left or to the right, as drawn.

  Args:
    images: the images.
    pixels: how far.
    rng: random numbers, one for each image.
  """
  directions = [(pixels, 0.0), (-pixels, 0.0), (0.0, pixels), (0.0, -pixels)]
  return _warp_each(images, [(_STAY, direction) for direction in directions], rng)


def rotate(images: Images, degrees: float, rng: np.random.Generator) -> Images:
  """Turns each image clockwise or counterclockwise, as drawn.

  Args:
    images: the images.
    degrees: how far.
    rng: random numbers, one for each image.
  """
  cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
  return _warp_each(images, [(np.array([[cos, turn], [-turn, cos]]), (0.0, 0.0)) for turn in (sin, -sin)], rng)


def rescale(images: Images, factor: float) -> Images:
  """Shrinks or enlarges images.

  They are not smoothed before they shrink, as those of MNIST-C are not, so strokes get thin and broken. MNIST's digits
  are 20 pixels long: beyond a factor of 1.4 their ends leave the frame.

  Args:
    images: the images.
    factor: the new size over the old one, above 0.
  """
  return warp(images, _STAY / factor)


def _warp_each(
  images: Images, maps: Sequence[tuple[np.ndarray, tuple[float, float]]], rng: np.random.Generator
) -> Images:
  """Warps each image by one of the maps, each a matrix and a shift as of `warp`, all as likely."""
  choice = rng.integers(len(maps), size=len(images))
  warped = np.empty_like(images)
  for number, (matrix, offset) in enumerate(maps):
    warped[choice == number] = warp(images[choice == number], matrix, offset)
  return warped
