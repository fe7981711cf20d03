"""The fifteen corruptions of MNIST-C: pure functions of a generator, images and a severity.

Mu and Gilmer 2019, "MNIST-C: A Robustness Benchmark for Computer Vision", arXiv:1906.02337. The images are not
bit-exact copies of the published files, which were drawn without a seed and partly by ImageMagick: the methods and
their parameters are those of the paper's program, the random numbers are not.

Every corruption takes a NumPy generator, images uint8[N, 28, 28, 1] with ink 255 on 0, and a severity, which is 1 for
the published strength; at 0 nothing changes. Results are rounded, and clipped to 0 and 255.
"""

from collections.abc import Callable
import itertools
from typing import TypeAlias

from jaxtyping import Float, Float32, UInt8
import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

_SIDE = 28

Images: TypeAlias = UInt8[np.ndarray, 'n 28 28 1']
Corruption: TypeAlias = Callable[..., Images]
_Ink: TypeAlias = Float32[np.ndarray, 'n 28 28']


def _to_ink(images: Images) -> _Ink:
  return images[..., 0] / np.float32(255)


def _to_images(ink: Float[np.ndarray, 'n 28 28']) -> Images:
  return (np.clip(ink, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None]


# Noise.


def shot_noise(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Counts photons, 3 on average at full ink; severity scales the deviation from the mean."""
  ink = _to_ink(images)
  counted = rng.poisson(3 * ink).astype(np.float32) / 3
  return _to_images(ink + severity * (counted - ink))


def impulse_noise(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Makes pixels black or white, with equal probability; severity scales their share, 17 %."""
  chance, is_ink = rng.random(images.shape, np.float32), rng.random(images.shape, np.float32) < 0.5
  return np.where(chance < 0.17 * severity, np.where(is_ink, np.uint8(255), np.uint8(0)), images)


# Blur.


def glass_blur(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Smooths, exchanges pixels with a neighbour above or to the left, and smooths again.

  Severity scales the standard deviation of the smoothing, 0.7 pixels, and the probability of an exchange, 0.5 for each
  pixel in each of two passes.
  """
  pixels = np.moveaxis(_smooth(_to_ink(images), 0.7 * severity), 0, -1).copy()  # The pixels of all images lie together.
  every = np.arange(len(images))
  for _ in range(2):
    # Upwards, one pixel after another: a pixel may be carried on by the exchanges after its own.
    for row, column in itertools.product(range(_SIDE - 1, 1, -1), repeat=2):
      swapped = rng.random(len(images)) < 0.5 * severity
      up, left = swapped * rng.integers(0, 2, (2, len(images)))
      here, there = pixels[row, column].copy(), pixels[row - up, column - left, every]
      pixels[row, column], pixels[row - up, column - left, every] = there, here
  return _to_images(_smooth(np.moveaxis(pixels, -1, 0), 0.7 * severity))


def _smooth(ink: _Ink, sigma: float) -> _Ink:
  return ndimage.gaussian_filter(ink, (0, sigma, sigma), mode='nearest')


def motion_blur(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Draws ink out into a trail of up to 10 pixels, at an angle within 45 degrees of the horizontal.

  The trail fades as one side of a Gaussian, whose standard deviation of 3 pixels is scaled by severity.
  """
  angle = np.deg2rad(rng.uniform(-45, 45, (len(images), 1, 1)))
  trail = np.arange(11)
  weights = np.exp(-0.5 * (trail / max(3 * severity, 0.01)) ** 2)
  ink, blurred = _to_ink(images), np.zeros((len(images), _SIDE, _SIDE), np.float32)
  every, places = np.arange(len(images))[:, None, None], np.arange(_SIDE)
  for distance, weight in zip(trail, (weights / weights.sum()).astype(np.float32), strict=True):
    rows = np.clip(places[:, None] + np.rint(distance * np.sin(angle)).astype(int), 0, _SIDE - 1)
    columns = np.clip(places + np.rint(distance * np.cos(angle)).astype(int), 0, _SIDE - 1)
    blurred += weight * ink[every, rows, columns]
  return _to_images(blurred)


# Affine maps about the centre of the image.


def shear(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Slants lines that were upright by 0.4 radians times severity, to either side; heights grow by 1 / cos of that."""
  angle = 0.4 * severity
  return _warp_either_way(rng, images, [[np.cos(angle), 0], [-np.sin(angle), 1]])


def scale(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Shrinks to 0.7 ** severity of the size."""
  return _warp_either_way(rng, images, np.eye(2) / 0.7**severity)


def rotate(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Rotates by 0.4 radians times severity, either way."""
  cos, sin = np.cos(0.4 * severity), np.sin(0.4 * severity)
  return _warp_either_way(rng, images, [[cos, -sin], [sin, cos]])


def translate(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Moves by 3 pixels times severity along both axes, either way along each."""
  return _warp_either_way(rng, images, np.eye(2), shift=3 * severity)


def _warp_either_way(rng: np.random.Generator, images: Images, matrix: ArrayLike, shift: float = 0.0) -> Images:
  """Warps each image in a random one of its four mirror images; `shift` is along both axes.

  An image that is mirrored, mapped and mirrored back is mapped the other way, so one map serves all images.
  """
  upside_down, reversed_ = rng.random((2, len(images), 1, 1, 1)) < 0.5

  def mirror(images: Images) -> Images:
    images = np.where(upside_down, images[:, ::-1], images)
    return np.where(reversed_, images[:, :, ::-1], images)

  return mirror(warp(mirror(images), matrix, (shift, shift)))


def warp(images: Images, matrix: ArrayLike, shift: tuple[float, float] = (0.0, 0.0)) -> Images:
  """Reads each pixel at `matrix` @ (row, column) + `shift`, bilinearly; outside of the image is paper.

  Args:
    images: the images.
    matrix: [2, 2], about the centre of the image.
    shift: rows and columns, in pixels.
  """
  whole = np.eye(3)  # Along the first axis, every image stays where it is.
  whole[1:, 1:] = np.asarray(matrix)
  centre = np.array([0, (_SIDE - 1) / 2, (_SIDE - 1) / 2])
  offset = centre - whole @ centre
  offset[1:] += shift
  return _to_images(ndimage.affine_transform(_to_ink(images), whole, offset, order=1, mode='grid-constant'))


# Light and dirt.


def brightness(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Adds half of full ink, times severity, to every pixel."""
  del rng
  return _to_images(_to_ink(images) + np.float32(0.5 * severity))


def stripe(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Inverts the seven columns at the left and the seven at the right; severity blends them with the original."""
  del rng
  ink = _to_ink(images)
  for columns in (slice(0, 7), slice(21, 28)):
    ink[..., columns] += severity * (1 - 2 * ink[..., columns])
  return _to_images(ink)


def fog(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Adds a plasma fractal of three times full ink, times severity, and scales back to what the maximum was."""
  ink, weight = _to_ink(images), 3 * severity
  highest = np.maximum(ink.max((1, 2), keepdims=True), 1e-6)
  return _to_images((ink + weight * _plasma(rng, len(images), 1.4)) * highest / (highest + weight))


def _plasma(rng: np.random.Generator, num: int, decay: float) -> _Ink:
  """Corners of plasma fractals, which are 0 to 1 over 256 x 256 pixels, by the diamond-square algorithm.

  The amplitude of the noise falls by `decay` squared from one grid to the next. The two finest grids are interpolated:
  at a decay of 1.4 their noise is about one grey level.
  """
  heights = np.zeros((num, 64, 64), np.float32)
  step, amplitude = 64, 1.0

  def jitter(total: np.ndarray) -> np.ndarray:
    return total / 4 + amplitude * rng.uniform(-1, 1, total.shape)

  while step > 1:
    half, corners = step // 2, heights[:, ::step, ::step].copy()
    upper, left = corners + np.roll(corners, -1, 2), corners + np.roll(corners, -1, 1)
    centres = jitter(upper + np.roll(upper, -1, 1))
    heights[:, half::step, half::step] = centres
    heights[:, ::step, half::step] = jitter(upper + centres + np.roll(centres, 1, 1))
    heights[:, half::step, ::step] = jitter(left + centres + np.roll(centres, 1, 2))
    step, amplitude = half, amplitude / decay**2
  lowest, highest = heights.min((1, 2), keepdims=True), heights.max((1, 2), keepdims=True)
  spread = np.clip(1 - np.abs(np.arange(_SIDE)[:, None] / 4 - np.arange(8)), 0, 1).astype(np.float32)
  return spread @ ((heights[:, :8, :8] - lowest) / (highest - lowest)) @ spread.T


def spatter(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Covers spots with dark grey mud, where smoothed noise is high; severity scales how much the mud covers."""
  noise = _smooth(rng.normal(0.65, 0.3, images.shape[:3]).astype(np.float32), 1)
  mud = _smooth((noise > 0.65).astype(np.float32), 1.5)
  cover = np.clip(severity * np.where(mud < 0.8, 0, mud), 0, 1)
  return _to_images(_to_ink(images) * (1 - cover) + 63 / 255 * cover)


# Lines; severity scales how strong their ink is.


def dotted_line(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Adds a line from the left to the right edge, of which every second pair of columns is shown."""
  first, last = rng.integers(0, 27, (2, len(images), 1, 1))
  is_shown = np.arange(_SIDE) // 2 % 2 == 1
  return _to_images(_to_ink(images) + severity * _line(0, first, 27, last) * is_shown)


def zigzag(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Adds a zigzag from column 2 to 25, which swings 2 pixels to either side of a line and turns every 4 pixels."""
  first = rng.integers(0, 27, (len(images), 1, 1))
  angle = np.arctan(rng.integers(-5, 5, (len(images), 1, 1)) / 23)
  length = 23 / np.cos(angle)
  along = [0, 2, 6, 10, 14, 18, 22, length]
  across = [0, 2, -2, 2, -2, 2, -2, -1 / (length - 20)]
  corners = [
    (2 + np.cos(angle) * a - np.sin(angle) * b, first + np.sin(angle) * a + np.cos(angle) * b)
    for a, b in zip(along, across, strict=True)
  ]
  ink = _to_ink(images)
  for start, end in itertools.pairwise(corners):
    ink += np.float32(severity) * _line(*start, *end)
  return _to_images(ink)


def _line(left: np.ndarray | int, top: np.ndarray, right: np.ndarray | int, bottom: np.ndarray) -> _Ink:
  """Lines between two places, columns and rows [N, 1, 1]; ink fades within 1.5 pixels of vertical distance."""
  columns, rows = np.arange(_SIDE), np.arange(_SIDE)[:, None]
  distance = np.abs(rows - top - (bottom - top) / (right - left) * (columns - left))
  ink = 1 + np.log1p(-np.minimum(distance.astype(np.float32) / np.float32(2.3), np.float32(0.9)))
  return np.clip(ink, 0, 1) * ((np.floor(left) <= columns) & (columns < np.ceil(right)))


# Edges.


def canny_edges(rng: np.random.Generator, images: Images, severity: float = 1.0) -> Images:
  """Shows the edges alone, as thin lines (Canny 1986); severity blends them with the original, for want of a strength.

  They are those that `skimage.feature.canny` finds by default: a Gaussian of one pixel, Sobel gradients, maxima along
  the gradient of at least 0.1, in pieces that reach 0.2.
  """
  del rng
  ink = images[..., 0] / 255.0  # In float64, as there: rounding decides which of two equal neighbours is shown.
  inside = ndimage.gaussian_filter(np.ones(ink.shape[1:]), 1, mode='constant')
  smooth = ndimage.gaussian_filter(ink, (0, 1, 1), mode='constant') / (inside + np.finfo(float).eps)
  down, right = (_sobel(smooth, axis) for axis in (1, 2))
  magnitude = np.hypot(down, right)
  candidates = np.zeros(ink.shape, bool)
  candidates[:, 1:-1, 1:-1] = magnitude[:, 1:-1, 1:-1] >= 0.1
  every, rows, columns = at = np.nonzero(candidates)
  # Of the eight neighbours, the gradient points between one along an axis and one along a diagonal.
  steep, flat = np.abs(down[at]), np.abs(right[at])
  share = np.minimum(steep, flat) / np.maximum(steep, flat)
  row_step, column_step = np.sign(down[at]).astype(int), np.sign(right[at]).astype(int)
  for side in (1, -1):
    row, column = rows + side * row_step, columns + side * column_step
    axial = magnitude[every, np.where(steep > flat, row, rows), np.where(steep > flat, columns, column)]
    neighbour = share * magnitude[every, row, column] + (1 - share) * axial
    candidates[at] &= neighbour <= magnitude[at]
  touching = np.zeros((3, 3, 3), bool)
  touching[1] = True  # Within an image, diagonals too.
  pieces, count = ndimage.label(candidates, touching)
  is_strong = np.zeros(count + 1, bool)
  is_strong[pieces[candidates & (magnitude >= 0.2)]] = True
  return _to_images(ink + severity * (is_strong[pieces] - ink))


def _sobel(smooth: np.ndarray, axis: int) -> np.ndarray:
  """The gradient along one axis of every image, smoothed along the other."""
  return ndimage.correlate1d(ndimage.correlate1d(smooth, [-1, 0, 1], axis), [1, 2, 1], 3 - axis)


# In the order of the paper.
CORRUPTIONS: dict[str, Corruption] = {
  function.__name__: function
  for function in (
    *(shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate, brightness, translate, stripe, fog),
    *(spatter, dotted_line, zigzag, canny_edges),
  )
}
# What augmentation by affine maps covers.
AFFINE = ('shear', 'scale', 'rotate', 'translate')
