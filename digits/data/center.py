"""How MNIST sizes and places a digit: fitted into 20x20, then put into 28x28 by its centre of mass.

LeCun et al. 1998, section III.A; in detail Yadav and Bottou 2019, arXiv:1905.10498. All functions are pure.
"""

from jaxtyping import Bool, Float, Int, UInt8
import numpy as np

SIDE = 28
_BOX = 20  # The side of the box that the digit fills, inside SIDE.
_LEAST_SQUARE = 10  # A smaller digit is not blown up to fill the box.


def center(ink: Float[np.ndarray, 'n height width']) -> UInt8[np.ndarray, 'n 28 28']:
  """Gives digits the size and the place that MNIST's have.

  The bounding box becomes a square of side max(height, width, 10). Its content is resampled to 20x20 by area, scaled to
  a peak of 255 and put into 28x28 by whole pixels, so that the centre of mass is in the middle.

  Args:
    ink: 0 for paper.

  Returns:
    Ink 255 on 0; all zeros where there is no ink.
  """
  top, height = _extent(np.any(ink, 2))
  left, width = _extent(np.any(ink, 1))
  side = np.maximum(np.maximum(height, width), _LEAST_SQUARE)
  rows = _area_weights(top - (side - height) // 2, side, ink.shape[1])
  columns = _area_weights(left - (side - width) // 2, side, ink.shape[2])
  box = rows @ ink @ columns.transpose(0, 2, 1)
  peak = box.max((1, 2), initial=0, keepdims=True)
  box = 255 * np.divide(box, peak, out=np.zeros_like(box), where=peak > 0)
  box = np.floor(box + 0.5).astype(np.uint8)

  mass = np.maximum(box.sum((1, 2)), 1)
  pixels = np.arange(_BOX)
  top = _offset(box.sum(2) @ (pixels + 0.5) / mass)
  left = _offset(box.sum(1) @ (pixels + 0.5) / mass)
  prepared = np.zeros((len(ink), SIDE, SIDE), np.uint8)
  i, y, x = np.ix_(np.arange(len(ink)), pixels, pixels)
  prepared[i, top[:, None, None] + y, left[:, None, None] + x] = box
  return prepared


def _extent(occupied: Bool[np.ndarray, 'n length']) -> tuple[Int[np.ndarray, ' n'], Int[np.ndarray, ' n']]:
  """The first occupied place, and the number of places from there to the last one."""
  first = occupied.argmax(1)
  last = occupied.shape[1] - occupied[:, ::-1].argmax(1)
  return first, last - first


def _area_weights(
  start: Int[np.ndarray, ' n'], side: Int[np.ndarray, ' n'], length: int
) -> Float[np.ndarray, 'n 20 {length}']:
  """How much of each pixel lies in each of 20 equal parts of [start, start + side).

  Rows sum to 1 where the parts lie inside.
  """
  edges = start[:, None] + side[:, None] * np.arange(_BOX + 1) / _BOX
  low, high = edges[:, :-1, None], edges[:, 1:, None]
  pixel = np.arange(length)
  overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
  return np.maximum(overlap, 0) * _BOX / side[:, None, None]


def _offset(centroid: Float[np.ndarray, ' n']) -> Int[np.ndarray, ' n']:
  """Where the 20x20 box starts so that the centroid comes to lie in the middle of 28x28, and no ink outside."""
  return np.clip((SIDE // 2 + 1 - centroid).astype(int), 0, SIDE - _BOX)
