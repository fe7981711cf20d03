"""Pictures of handwriting as MNIST has them: ink found on any paper, then LeCun's size and place.

MNIST's digits were black-and-white scans. Each was cut to its bounding box, resampled to 20x20 with grey edges, and put
into 28x28 by its centre of mass (LeCun et al. 1998, section III.A; in detail Yadav and Bottou 2019, arXiv:1905.10498).
A photo must be prepared the same way, or the best network fails on it. All functions are pure.
"""

from collections.abc import Iterator, Sequence
import math
from typing import NamedTuple, TypeAlias

from jaxtyping import Bool, Float, UInt8
import numpy as np
from PIL import Image
from scipy import ndimage

from digits.data.center import center, SIDE
from digits.handwriting import ink as ink_lib
from digits.handwriting import sheet

Images: TypeAlias = UInt8[np.ndarray, 'n height width'] | Sequence[UInt8[np.ndarray, '_ _']]

_CHUNK_PIXELS = 2**19  # This many are prepared at a time, because they fit a cache.
# A smaller page is enlarged until its shorter side has this many pixels: finding pieces needs strokes of some width.
_LEAST_PAGE = 112
_LEAST_SIDE = 5  # No digit is seen in fewer pixels than this along a side.
_MOST_PAGE = 1280  # A larger page is reduced to this many pixels along its longer side.
# Pieces of ink whose longer side is smaller than this part of the height of the highest one are specks.
_SPECK = 0.15


class Page(NamedTuple):
  """The writing in a picture, upright as it lies in the picture, its perspective undone where it is on a sheet.

  Attributes:
    ink: 0 for paper to 1 for ink.
    to_image: maps pixel coordinates (x, y, 1) of `ink` to those of the picture.
    notes: sentences about what was left out.
  """

  ink: Float[np.ndarray, 'h w']
  to_image: Float[np.ndarray, '3 3']
  notes: tuple[str, ...]


def find_page(image: UInt8[np.ndarray, 'height width']) -> Page:
  """Finds the writing in a picture: on its sheet if it shows one, without rules, boxes and rims; dots stay.

  Args:
    image: grey.
  """
  if min(image.shape) < _LEAST_SIDE:
    return Page(np.zeros(image.shape), np.eye(3), ())
  paper, to_image = _find_paper(image)
  ink, rims = ink_lib.find_ink(_fit_size(paper))
  edges = f'{" and ".join(rims)} edge{"s" * (len(rims) > 1)}'
  notes: tuple[str, ...] = () if paper is image else ('Only the sheet of paper was read, and nothing around it.',)
  if rims:
    notes += (f'What is dark along its {edges} was left out.',)
  return Page(ink, to_image @ np.diag([paper.shape[1] / ink.shape[1], paper.shape[0] / ink.shape[0], 1]), notes)


def _find_paper(
  image: UInt8[np.ndarray, 'height width'],
) -> tuple[UInt8[np.ndarray, 'h w'], Float[np.ndarray, '3 3']]:
  return sheet.find_sheet(image) or (image, np.eye(3))


def _fit_size(image: UInt8[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'height width']:
  """Enlarges small pictures, and reduces large ones, in which strokes have more pixels than are needed."""
  # A strip becomes no longer than a page, nor lower than writing has to be.
  factor = min(math.ceil(_LEAST_PAGE / min(image.shape)), _MOST_PAGE // max(image.shape))
  if factor > 1:
    return ndimage.zoom(image, factor, order=1, grid_mode=True, mode='nearest')
  scale = max(_MOST_PAGE / max(image.shape), _LEAST_PAGE / min(image.shape))
  if scale >= 1:
    return image
  size = [max(1, round(length * scale)) for length in image.shape[::-1]]
  return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def prepare(images: Images) -> UInt8[np.ndarray, 'n 28 28 1']:
  """Prepares pictures of one digit each as MNIST's were.

  Ink may be darker or lighter than the paper, and the paper unevenly lit. MNIST's own images come out nearly as they
  went in.

  Args:
    images: grey, one array or a sequence of uint8[H, W] of any sizes.

  Returns:
    Ink 255 on 0; all zeros where there is no ink.
  """
  centered = [center(ink) for ink, _ in extract_inks(images)]
  return np.concatenate([np.zeros((0, SIDE, SIDE), np.uint8), *centered])[..., None]


class Singles(NamedTuple):
  """Images of one digit each.

  Attributes:
    ink: 0 for paper to 1 for ink.
    left_out: whether there was more than specks that runs out of the image, such as a part of a neighbour.
  """

  ink: Float[np.ndarray, 'n height width']
  left_out: Bool[np.ndarray, ' n']


def extract_inks(images: Images) -> Iterator[Singles]:
  """Yields the ink of images of one digit each, in order, for as many at a time as fit a cache.

  It is not where it was in the image: pictures of uneven paper are enlarged, and sheets straightened.
  """
  if isinstance(images, np.ndarray):
    chunk = max(1, _CHUNK_PIXELS // math.prod(images.shape[1:]))
    for start in range(0, len(images), chunk):
      some = images[start : start + chunk]
      ink, flat = ink_lib.flat_ink(some)
      if flat.all():
        yield isolate(_drop_specks(ink_lib.drop_rules(ink)))
      else:
        yield from map(_extract_single, some)
  else:
    yield from map(_extract_single, images)


def _extract_single(image: UInt8[np.ndarray, 'height width']) -> Singles:
  if min(image.shape) < _LEAST_SIDE:
    return Singles(np.zeros((1, *image.shape)), np.array([False]))
  image, _ = _find_paper(image)
  ink, flat = ink_lib.flat_ink(image[None])
  if flat[0]:
    return isolate(_drop_specks(ink_lib.drop_rules(ink)))
  ink, rims = ink_lib.find_ink(_fit_size(image))
  ink, left_out = isolate(_drop_specks(ink[None]))
  return Singles(ink, left_out | bool(rims))


def isolate(ink: Float[np.ndarray, 'n height width']) -> Singles:
  """Clears what runs out of images of one digit each, such as parts of its neighbours, if something else remains.

  That is a piece of ink in the middle: one more than half as high as the largest that does not touch the edge, or the
  one nearest to the middle where all do.
  """
  border = np.concatenate([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], 1)
  touched = np.flatnonzero(border.any(1))
  left_out = np.zeros(len(ink), bool)
  if len(touched):
    ink = ink.copy()
  for i in touched:
    alone = _isolate(ink[i])
    left_out[i] = (alone != ink[i]).any()
    ink[i] = alone
  return Singles(ink, left_out)


def _isolate(ink: Float[np.ndarray, 'height width']) -> Float[np.ndarray, 'height width']:
  labels, count = ndimage.label(ink, np.ones((3, 3)))
  if count == 1:
    return ink
  boxes = ndimage.find_objects(labels)
  heights = np.array([box[0].stop - box[0].start for box in boxes])
  sums = ndimage.sum_labels(ink, labels, range(1, count + 1))
  centers = np.array([[(side.start + side.stop) / 2 for side in box] for box in boxes])
  away = np.hypot(*((centers / ink.shape) - 0.5).T)
  edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
  outside = np.isin(np.arange(1, count + 1), edge)
  inside = ~outside & (heights > 0.5 * heights.max()) & (away < 0.35)
  # Where there is none, the largest, if it is not far from the middle.
  largest = np.arange(count) == int(np.argmax(sums * np.maximum(0.05, 0.6 - away)))
  main = inside if inside.any() else largest
  # What is off the edge stays, and so does what touches it but lies over the digit, such as the bar of a 5.
  left = min(boxes[i][1].start for i in np.flatnonzero(main))
  right = max(boxes[i][1].stop for i in np.flatnonzero(main))
  over = np.array(
    [min(box[1].stop, right) - max(box[1].start, left) > 0.7 * (box[1].stop - box[1].start) for box in boxes]
  )
  keep = main | (~outside & (over | inside.any()))
  return np.where(np.concatenate([[False], keep])[labels], ink, 0)


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
  np.maximum.at(largest, image, np.array([box[1].stop - box[1].start for box in boxes]))
  keep = np.concatenate([[False], size >= _SPECK * largest[image]])
  return ink if keep[1:].all() else np.where(keep[labels], ink, 0)
