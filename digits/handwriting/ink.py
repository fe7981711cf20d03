"""Separates ink from paper: on flat paper by its brightness, on any other by what stands out from the paper around it.

All functions are pure.
"""

import math
from typing import TypeAlias

from jaxtyping import Bool, Float, UInt8
import numpy as np
from scipy import ndimage

from digits.handwriting import rules

Mask: TypeAlias = Bool[np.ndarray, 'height width']

# Paper is flat where this much of the border is within these levels of its median: then nothing needs to be estimated.
_FLAT_BORDER = 0.75
_FLAT_LEVELS = 2
# The least contrast that counts as ink: as a fraction of the paper's brightness, and in standard deviations of noise.
_LEAST_CONTRAST = 0.04
_LEAST_SIGMAS = 6
# On uneven paper, pixels fainter than this part of the ink around them belong to the paper; and no ink is fainter than
# this part of the darkest.
_FAINT = 0.25
_FAINTEST = 0.5
# Printed lines are sought among all that is darker than this part of the darkest ink, and than this many standard
# deviations of the noise. What is this much darker than this quantile of their pixels is a stroke that runs along one.
_FAINT_RULES = 0.12
_FAINT_SIGMAS = 2.5
_DARKER = 1.4
_DARK_RULE = 0.8
_LEAST_RULED = 56  # Pixels a side; in smaller pictures a line cannot be told from a stroke.
# Strokes that stand out by fewer standard deviations of the noise are looked at again, smoothed more, so many times.
_CLEAR_SIGMAS = 14
_MAX_SMOOTHINGS = 4
# The light on the paper is a polynomial of this order. It is fitted to a picture reduced to about this many pixels a
# side, so many times, each without what did not fit before.
_LIGHT_ORDER = 4
_LIGHT_SIDE = 64
_LIGHT_FITS = 6
# Strokes are measured in a picture reduced to about so many pixels; squares wider than them find no such part more.
_WINDOW_SIDE = 480
_MUCH_MORE = 1.25
# A rim lies along more than this part of an edge of the picture; or along a smaller part, and is this much thicker than
# strokes; or, where there is nothing else, lies along nearly all of it and is thicker than this part of its length.
_LONG_ALONG = 0.5
_SHORT_ALONG = 0.12
_THICKER = 1.6
_MOST_ALONG = 0.9
_RIM_WIDTH = 0.5
# A shallow one is in contact with the edge for this part of its length, or reaches this part of a digit's height into
# the picture. What is left of a rim is nearer to it than this part of the picture's shorter side.
_CONTACT = 0.6
_FLAT = 0.12
_NEAR_RIM = 0.03
_LEAST_PIECE = 0.15  # Pieces that are smaller than this part of the largest do not say how thick strokes are.


def find_ink(image: UInt8[np.ndarray, 'height width']) -> tuple[Float[np.ndarray, 'height width'], list[str]]:
  """Separates ink from paper, and from what is printed on it to write on; and says along which edges a rim was."""
  ink, flat = flat_ink(image[None])
  return (drop_rules(ink)[0], []) if flat[0] else _uneven_ink(image)


def drop_rules(ink: Float[np.ndarray, 'n height width']) -> Float[np.ndarray, 'n height width']:
  """Takes printed lines off flat paper."""
  if min(ink.shape[1:]) >= _LEAST_RULED:
    for one in ink:
      one[rules.find_rules(one > 0)] = 0
  return ink


def flat_ink(
  images: UInt8[np.ndarray, 'n height width'],
) -> tuple[Float[np.ndarray, 'n height width'], Bool[np.ndarray, ' n']]:
  """The ink of images on flat paper, and which images have flat paper."""
  images = images.astype(np.float32)
  border = np.concatenate([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], 1)
  paper = np.median(border, 1)
  flat = (np.abs(border - paper[:, None]) <= _FLAT_LEVELS).mean(1) >= _FLAT_BORDER
  lightest, darkest = images.max((1, 2)), images.min((1, 2))
  is_light = lightest - paper > paper - darkest
  peak = np.where(is_light, lightest - paper, paper - darkest)
  peak = np.where(peak > np.maximum(_LEAST_CONTRAST * np.maximum(paper, 255 - paper), _FLAT_LEVELS), peak, np.inf)
  ink = images - paper[:, None, None]
  faint = _FAINT * peak[:, None, None] if min(images.shape[1:]) >= _LEAST_RULED else 0
  ink[np.abs(ink) <= np.maximum(faint, _FLAT_LEVELS)] = 0
  return np.maximum(ink / np.where(is_light, peak, -peak)[:, None, None], 0), flat


def _uneven_ink(image: UInt8[np.ndarray, 'height width']) -> tuple[Float[np.ndarray, 'height width'], list[str]]:
  """The ink of an image on paper whose brightness varies, and along which of its edges a rim was left out."""
  raw = _even_out(image.astype(np.float32) / 255)
  is_inverted = _is_light_on_dark(raw)
  window = _choose_window(1 - raw if is_inverted else raw)
  smoothing = min(image.shape) / 400  # Takes a sensor's noise off.
  for _ in range(_MAX_SMOOTHINGS):
    paper = ndimage.gaussian_filter(1 - raw if is_inverted else raw, smoothing)
    # A closing fills strokes, which are narrower than its window, and keeps the edges of shadows.
    background = ndimage.grey_closing(paper, (window, window), mode='nearest')
    # What is missing of the paper's brightness: the same ink gives the same number in light and in shadow.
    contrast = (background - paper) / np.maximum(background, 0.1)
    middle, sigma = _measure_paper(contrast)
    contrast -= middle
    few = _few_pixels(image)
    darkest = float(np.partition(contrast, -few, axis=None)[-few:].mean())
    if darkest >= max(_LEAST_CONTRAST, _CLEAR_SIGMAS * sigma):
      break
    smoothing = max(1.6 * smoothing, 0.8)  # Faint strokes: more of the noise has to go.
  if darkest < max(_LEAST_CONTRAST, _LEAST_SIGMAS * sigma):
    return np.zeros_like(contrast), []
  mask, strength = _threshold(contrast, darkest, sigma, window)
  rims = mask & ~_drop_rims(mask)
  if rims.any():  # They are often darker than any ink.
    away = ndimage.distance_transform_edt(~rims)
    contrast[away <= 2] = 0
    darkest = float(np.partition(contrast, -few, axis=None)[-few:].mean())
    if darkest < max(_LEAST_CONTRAST, _LEAST_SIGMAS * sigma):
      return np.zeros_like(contrast), _sides(rims)
    mask, strength = _threshold(contrast, darkest, sigma, window)
    # What is left of them is near.
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    farthest = ndimage.maximum(away, labels, range(1, count + 1))
    mask &= np.concatenate([[False], np.asarray(farthest) > _NEAR_RIM * min(mask.shape)])[labels]
  if min(mask.shape) >= _LEAST_RULED:
    # Printed lines are often fainter than the writing, and then whole only where fainter ink counts.
    faint = contrast > max(_FAINT_SIGMAS * sigma, _FAINT_RULES * darkest)
    ruled = rules.find_rules(faint)
    if ruled.any():
      mask = _drop_ruled(mask, ruled, contrast)
    mask &= ~rules.find_rules(mask)
    mask = _drop_rims(mask)
  return np.where(mask, np.minimum(contrast / (0.75 * strength), 1), 0), _sides(rims)


def _threshold(
  contrast: Float[np.ndarray, 'height width'], darkest: float, sigma: float, window: int
) -> tuple[Mask, Float[np.ndarray, 'height width']]:
  """What is ink, and how strong the ink is there: decided by the strongest around, as pencil lies beside a marker."""
  strength = ndimage.maximum_filter(ndimage.uniform_filter(contrast, 3), window // 2, mode='nearest')
  strength = ndimage.uniform_filter(strength, window // 2, mode='nearest')
  strength = np.clip(strength, max(_FAINTEST * darkest, _LEAST_SIGMAS * sigma, _LEAST_CONTRAST), darkest)
  weak = contrast > np.maximum(_FAINT * strength, np.minimum(3 * sigma, strength / 2))
  return ndimage.binary_propagation(contrast > strength / 2, np.ones((3, 3)), weak), strength


def _drop_ruled(mask: Mask, ruled: Mask, contrast: Float[np.ndarray, 'height width']) -> Mask:
  """Clears rules, but not the darker strokes that run along them; a bit that is nowhere off a rule is of the rule."""
  dark = contrast > _DARKER * np.quantile(contrast[ruled], _DARK_RULE)
  rest = mask & (~ruled | dark)
  labels, count = ndimage.label(rest, np.ones((3, 3)))
  is_off = np.zeros(count + 1, bool)
  is_off[labels[rest & ~ndimage.binary_dilation(ruled, np.ones((3, 3)), iterations=2)]] = True
  is_off[0] = False
  rest = is_off[labels]
  return rest & ~rules.find_ticks(rest, ruled)


def _even_out(image: Float[np.ndarray, 'height width']) -> Float[np.ndarray, 'height width']:
  """Divides by a smooth surface of light, such as a lamp's or a lens's, which paper is lit by; its middle stays.

  The surface is a polynomial in the logarithm, fitted so that what is much darker or lighter, as ink is, has no say.
  """
  small = np.log(np.maximum(_shrink(image, _LIGHT_SIDE), 0.02))
  powers = [(i, j) for i in range(_LIGHT_ORDER + 1) for j in range(_LIGHT_ORDER + 1 - i)]

  def surface(height, width):
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    return np.stack([np.broadcast_to(y**i * x**j, (height, width)) for i, j in powers], -1).astype(np.float32)

  terms = surface(*small.shape).reshape(-1, len(powers))
  levels, weights = small.ravel(), np.ones(small.size, np.float32)
  ridge = 1e-4 * small.size * np.eye(len(powers), dtype=np.float32)  # For pictures of very few pixels.
  for _ in range(_LIGHT_FITS):
    weighted = terms * weights[:, None]
    coefficients = np.linalg.solve(weighted.T @ weighted + ridge, weighted.T @ (levels * weights))
    residual = levels - terms @ coefficients
    scale = max(1.4826 * float(np.median(np.abs(residual))), 0.01)
    weights = np.maximum(1 - (residual / (3 * scale)) ** 2, 0)  # The square root of Tukey's biweight.
  light = np.exp(surface(*_enough(image.shape)) @ (coefficients - np.eye(len(powers))[0] * coefficients[0]))
  light = ndimage.zoom(light, np.divide(image.shape, light.shape), order=1, grid_mode=True, mode='nearest')
  return np.minimum(image / light, 1.5).astype(np.float32)


def _enough(shape: tuple[int, ...]) -> tuple[int, int]:
  """A size at which a smooth surface is computed that is then enlarged."""
  height, width = shape
  return min(height, 2 * _LIGHT_SIDE), min(width, 2 * _LIGHT_SIDE)


def _is_light_on_dark(image: Float[np.ndarray, 'height width']) -> bool:
  """Whether strokes are lighter than the paper: the paper is what is smooth once the strokes are filled in."""
  image = _shrink(image, 96)
  image = ndimage.gaussian_filter(image, 0.5)
  window = max(3, min(image.shape) // 3)
  filled_dark = ndimage.grey_closing(image, (window, window), mode='nearest')
  filled_light = ndimage.grey_opening(image, (window, window), mode='nearest')
  return _roughness(filled_light) < _roughness(filled_dark)


def _roughness(image: Float[np.ndarray, 'height width']) -> float:
  """How much brightness changes from pixel to pixel, all in all, relative to its level."""
  level = np.log(np.maximum(image, 0.02))
  return float(np.abs(np.diff(level, axis=0)).sum() + np.abs(np.diff(level, axis=1)).sum())


def _choose_window(paper: Float[np.ndarray, 'height width']) -> int:
  """The side of a square that is wider than the strokes, in pixels: what is wider than it is shade.

  Squares of growing size are tried. Once they are wider than the strokes, those are there whole, and a larger square
  finds little more.
  """
  factor = math.ceil(max(paper.shape) / _WINDOW_SIDE)
  small = ndimage.gaussian_filter(_shrink(paper, _WINDOW_SIDE), 0.7)
  largest = max(3, min(small.shape) // 3)
  few = max(small.size // 2000, 8)
  side, before = max(5, largest // 8) | 1, None
  while side < largest:
    background = ndimage.grey_closing(small, (side, side), mode='nearest')
    contrast = (background - small) / np.maximum(background, 0.1)
    contrast = np.maximum(contrast - np.median(contrast), 0)
    darkest = np.partition(contrast, -few, axis=None)[-few:].mean()
    found = contrast[contrast > 0.35 * darkest].sum()
    if before is not None and found < _MUCH_MORE * before:
      break
    side, before = int(1.5 * side) | 1, found
  # A blot, or a loop that is filled, is wider than the strokes.
  return max(3, min(2 * side * factor, min(paper.shape) // 3))


def _shrink(image: Float[np.ndarray, 'height width'], side: int) -> Float[np.ndarray, 'h w']:
  """Averages squares of pixels, so that the longer side is at most about `side`."""
  factor = math.ceil(max(image.shape) / side)
  height, width = (math.ceil(length / factor) for length in image.shape)
  image = np.pad(image, ((0, height * factor - image.shape[0]), (0, width * factor - image.shape[1])), mode='edge')
  return image.reshape(height, factor, width, factor).mean((1, 3))


def _measure_paper(contrast: Float[np.ndarray, 'height width']) -> tuple[float, float]:
  """The mean of the paper's contrast and its standard deviation.

  They are taken from the lighter pixels, as half of a crop may be ink: the quantiles of 10 and 30 % of a normal
  distribution are 1.28 and 0.52 standard deviations below its mean, and a little closer where some pixels are ink.
  """
  low, high = np.quantile(contrast, (0.1, 0.3))
  sigma = float(high - low) / 0.8
  return float(high) + 0.52 * sigma, sigma


def _few_pixels(image: np.ndarray) -> int:
  """The least number of pixels that are ink, if any are."""
  return max(image.size // 2000, min(image.size, 8))


def _drop_rims(mask: Mask) -> Mask:
  """Clears what lies along the image's edge and is no stroke, such as a dark desk or the rim of a shadow.

  A stroke that runs out of the picture is as thin as the others.
  """
  labels, count = ndimage.label(mask, np.ones((3, 3)))
  if not count:
    return mask
  boxes = ndimage.find_objects(labels)
  sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
  touching = np.unique(np.concatenate(sides))
  touching = touching[touching > 0]
  inner = np.setdiff1d(np.arange(1, count + 1), touching)
  half = ndimage.distance_transform_edt(np.pad(mask, 1, mode='edge'))[1:-1, 1:-1]
  widths = np.zeros(count + 1)
  np.maximum.at(widths, labels[mask], 2 * half[mask])
  widths = widths[1:]
  sizes = np.array([max(box[0].stop - box[0].start, box[1].stop - box[1].start) for box in boxes])
  inner = inner[sizes[inner - 1] >= _LEAST_PIECE * sizes[inner - 1].max(initial=0)]
  usual = np.median(widths[inner - 1]) if len(inner) else None
  height = np.median(sizes[inner - 1]) if len(inner) else 0
  drop = []
  for label in touching:
    along = max(np.mean(side == label) for side in sides)
    if usual is None:
      is_rim = along > _MOST_ALONG and widths[label - 1] > _RIM_WIDTH * sizes[label - 1]
    else:
      contact = max(np.sum(side == label) for side in sides)
      depth = min(box.stop - box.start for box in boxes[label - 1])
      is_flat = contact > _CONTACT * sizes[label - 1] or depth < _FLAT * height
      is_rim = along > _LONG_ALONG or is_flat or (along > _SHORT_ALONG and widths[label - 1] > _THICKER * usual)
    if is_rim:
      drop.append(label)
  return mask & ~np.isin(labels, drop)


def _sides(rims: Mask) -> list[str]:
  """The edges of the image that rims lie along for more than a little."""
  edges = {'upper': rims[0], 'lower': rims[-1], 'left': rims[:, 0], 'right': rims[:, -1]}
  return [side for side, edge in edges.items() if edge.mean() > _SHORT_ALONG]
