"""Pictures of handwriting as MNIST has them: ink found on any paper, then LeCun's size and place.

MNIST's digits were black-and-white scans. Each was cut to its bounding box, resampled to 20x20 with grey edges, and put
into 28x28 by its centre of mass (LeCun et al. 1998, section III.A; in detail Yadav and Bottou 2019, arXiv:1905.10498).
A photo must be prepared the same way, or the best network fails on it. All functions are pure.
"""

from collections.abc import Iterator, Sequence
import math
from typing import TypeAlias

from jaxtyping import Bool, Float, UInt8
import numpy as np
from scipy import ndimage

from digits.data.center import center, SIDE

Images: TypeAlias = UInt8[np.ndarray, 'n height width'] | Sequence[UInt8[np.ndarray, '_ _']]
Mask: TypeAlias = Bool[np.ndarray, 'height width']

_CHUNK_PIXELS = 2**19  # This many are prepared at a time, because they fit a cache.

# Paper is flat where this much of the border is within these levels of its median: then nothing needs to be estimated.
_FLAT_BORDER = 0.75
_FLAT_LEVELS = 2
# The least contrast that counts as ink: as a fraction of the paper's brightness, and in standard deviations of noise.
_LEAST_CONTRAST = 0.04
_LEAST_SIGMAS = 6
# On uneven paper, pixels fainter than this part of the darkest ink belong to the paper.
_FAINT = 0.25
# Ruled lines have at least this part of the picture's width, are thinner than this part of its shorter side, and are
# no steeper than this.
_RULE_LENGTH = 0.7
_RULE_THICKNESS = 1 / 25
_RULE_SLOPE = 0.1
_RULE_COVERAGE = 0.9
_LEAST_RULED = 56  # Pixels a side; in smaller pictures a line cannot be told from a stroke.
# Pieces of ink that are smaller than this part of the largest one, by their longer side, are specks.
_SPECK = 0.15


def prepare(images: Images) -> UInt8[np.ndarray, 'n 28 28 1']:
  """Prepares pictures of one digit each as MNIST's were.

  Ink may be darker or lighter than the paper, and the paper unevenly lit. MNIST's own images come out nearly as they
  went in.

  Args:
    images: grey, one array or a sequence of uint8[H, W] of any sizes.

  Returns:
    Ink 255 on 0; all zeros where there is no ink.
  """
  return np.concatenate([np.zeros((0, SIDE, SIDE), np.uint8), *map(center, extract_inks(images))])[..., None]


def extract_inks(images: Images) -> Iterator[Float[np.ndarray, 'n height width']]:
  """Yields what `extract_ink` gives, in order, for as many images of one array at a time as fit a cache."""
  if isinstance(images, np.ndarray):
    chunk = max(1, _CHUNK_PIXELS // math.prod(images.shape[1:]))
    for start in range(0, len(images), chunk):
      yield extract_ink(images[start : start + chunk])
  else:
    for image in images:
      yield extract_ink(image[None])


def extract_ink(images: UInt8[np.ndarray, 'n height width']) -> Float[np.ndarray, 'n height width']:
  """Separates ink from paper, from the lines that are ruled on it, and from specks.

  Args:
    images: grey.

  Returns:
    0 for paper to 1 for ink; all zeros where there is no ink.
  """
  ink, flat = _flat_ink(images)
  for i in range(len(ink)):
    if not flat[i]:
      ink[i] = _uneven_ink(images[i])
    elif min(images.shape[1:]) >= _LEAST_RULED:
      ink[i][find_rules(ink[i] > 0)] = 0
  return _drop_specks(ink)


def find_rules(mask: Mask) -> Mask:
  """Finds lines ruled across a picture, level or upright, where no stroke covers them.

  Args:
    mask: where there is ink.

  Returns:
    The ink that is thin in one direction and, with small gaps, goes through most of the picture in the other.
  """
  return _find_level_rules(mask) | _find_level_rules(mask.T).T


def _find_level_rules(mask: Mask) -> Mask:
  width = mask.shape[1]
  if mask.any(0).mean() < _RULE_LENGTH:
    return np.zeros_like(mask)
  thickness = max(2, round(_RULE_THICKNESS * min(mask.shape)))
  thin = mask & ~ndimage.binary_opening(mask, np.ones((thickness + 1, 1)))
  # Slanted lines are stairs, and strokes that cross a line interrupt what is thin of it.
  joined = ndimage.grey_closing(thin.astype(np.uint8), (3, width // 3), mode='nearest')
  labels, _ = ndimage.label(joined, np.ones((3, 3)))
  rules = np.zeros_like(mask)
  for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
    if columns.stop - columns.start < _RULE_LENGTH * width or rows.stop - rows.start > _RULE_SLOPE * width + thickness:
      continue
    inside = labels[rows, columns] == label
    # Along a rule there is ink everywhere: its own, or that of the strokes. Along a row of digits there are gaps.
    if (mask[rows, columns] & inside).any(0).mean() >= _RULE_COVERAGE:
      rule = thin[rows, columns] & inside
      # What is thicker than the rest of it is a stroke that runs along it for a while.
      usual = int(np.median(rule.sum(0)[rule.any(0)]))
      rules[rows, columns] |= rule & ~ndimage.binary_opening(rule, np.ones((usual + 2, 1)))
  return rules


def _drop_specks(ink: Float[np.ndarray, 'n height width']) -> Float[np.ndarray, 'n height width']:
  """Clears pieces of ink that are much smaller than the largest of their image."""
  # Pieces touch by sides or corners, within an image and never across images.
  structure = np.zeros((3, 3, 3), bool)
  structure[1] = True
  labels, count = ndimage.label(ink, structure)
  if count <= len(ink):
    return ink
  boxes = ndimage.find_objects(labels)
  image = np.array([box[0].start for box in boxes])
  size = np.array([max(box[1].stop - box[1].start, box[2].stop - box[2].start) for box in boxes])
  largest = np.zeros(len(ink))
  np.maximum.at(largest, image, size)
  keep = np.concatenate([[False], size >= _SPECK * largest[image]])
  return ink if keep[1:].all() else np.where(keep[labels], ink, 0)


def _flat_ink(
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


def _uneven_ink(image: UInt8[np.ndarray, 'height width']) -> Float[np.ndarray, 'height width']:
  """The ink of an image on paper whose brightness varies."""
  paper = ndimage.gaussian_filter(image.astype(np.float32) / 255, min(image.shape) / 400)  # Takes a sensor's noise off.
  if _is_light_on_dark(paper):
    paper = 1 - paper
  # A closing fills strokes, which are narrower than its window, and keeps the edges of shadows.
  window = max(3, min(image.shape) // 3)
  background = ndimage.grey_closing(paper, (window, window), mode='nearest')
  # What is missing of the paper's brightness: the same ink gives the same number in light and in shadow.
  contrast = (background - paper) / np.maximum(background, 0.1)
  contrast -= np.median(contrast)
  sigma = 1.4826 * np.median(np.abs(contrast))
  few = _few_pixels(image)
  darkest = np.partition(contrast, -few, axis=None)[-few:].mean()
  if darkest < max(_LEAST_CONTRAST, _LEAST_SIGMAS * sigma):
    return np.zeros_like(contrast)
  strong = contrast > darkest / 2
  weak = contrast > max(_FAINT * darkest, min(3 * sigma, darkest / 2))
  mask = ndimage.binary_propagation(strong, np.ones((3, 3)), weak)
  if min(mask.shape) >= _LEAST_RULED:
    mask &= ~find_rules(mask)
  mask = _drop_edges(mask)
  return np.where(mask, np.minimum(contrast / np.median(contrast[strong]), 1), 0)


def _few_pixels(image: np.ndarray) -> int:
  """The least number of pixels that are ink, if any are."""
  return max(image.size // 2000, min(image.size, 8))


def _drop_edges(mask: Mask) -> Mask:
  """Clears what touches the image's edge, such as the rim of a shadow, unless it is all that there is."""
  labels, _ = ndimage.label(mask, np.ones((3, 3)))
  edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
  inner = mask & ~np.isin(labels, edge)
  return inner if inner.sum() >= _few_pixels(mask) else mask


def _is_light_on_dark(image: Float[np.ndarray, 'height width']) -> bool:
  """Whether the few pixels that differ from their surroundings are lighter than them."""
  image = _shrink(image, 64)
  detail = image - ndimage.gaussian_filter(image, max(image.shape) / 6, mode='nearest')
  return bool(np.mean(detail**3) > 0)


def _shrink(image: Float[np.ndarray, 'height width'], side: int) -> Float[np.ndarray, 'h w']:
  """Averages squares of pixels, so that the longer side is at most about `side`."""
  factor = math.ceil(max(image.shape) / side)
  height, width = (math.ceil(length / factor) for length in image.shape)
  image = np.pad(image, ((0, height * factor - image.shape[0]), (0, width * factor - image.shape[1])), mode='edge')
  return image.reshape(height, factor, width, factor).mean((1, 3))
