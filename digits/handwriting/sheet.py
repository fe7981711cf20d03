"""Finds a sheet of paper on a desk, and straightens it.

A sheet is what is lighter than what lies around it, with a sharp outline of four straight sides. Where a side is outside
the picture, the border of the picture takes its place.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, UInt8
import numpy as np
from PIL import Image
from scipy import ndimage, spatial

# The sheet is sought in a picture reduced to about this many pixels along the longer side.
_SMALL = 240
_LEAST_SIDE = 160  # Pixels a side of a picture; a smaller one is a cut-out already.
# Parts of the picture that the sheet, and what is around it, may take.
_LEAST_SHEET = 0.1
_LEAST_DESK = 0.015
# How much lighter than the desk the paper is, in grey levels: on average, and across each of its sides.
_LEAST_DIFFERENCE = 20
_LEAST_STEP = 10
# The part of the four-sided outline that the light part fills, and of each side where the step is in one line.
_LEAST_FILLED = 0.85
_LEAST_SHARP = 0.5
_SIDE_POINTS = 48
_REACH = 12  # Pixels of the reduced picture that a side is sought within.
_INSET = 0.008  # The rim that is cut off, as a part of the sheet's sides: it holds the sheet's shadow.


class Sheet(NamedTuple):
  """A sheet, straightened.

  Attributes:
    image: the paper, grey.
    to_image: maps its pixel coordinates (x, y, 1) to those of the picture that it was found in.
  """

  image: UInt8[np.ndarray, 'height width']
  to_image: Float[np.ndarray, '3 3']


def find_sheet(image: UInt8[np.ndarray, 'height width']) -> Sheet | None:
  """Finds the sheet in a picture, and undoes its perspective; None where the whole picture is paper.

  Args:
    image: grey.
  """
  if min(image.shape) < _LEAST_SIDE:
    return None
  factor = max(image.shape) / _SMALL
  small = np.asarray(
    Image.fromarray(image).resize([round(length / factor) for length in image.shape[::-1]], Image.Resampling.BOX),
    np.float32,
  )
  mask = _find_light_part(small)
  if mask is None:
    return None
  corners = _fit_corners(mask)
  if corners is not None:
    corners = _find_outline(small, corners)
  if corners is None:
    return None
  return _straighten(image, corners * factor)


def _find_light_part(small: Float[np.ndarray, 'h w']) -> Bool[np.ndarray, 'h w'] | None:
  """The largest part that is lighter than the rest."""
  # A closing takes the writing off the paper; a blur, the grain off the desk.
  plain = ndimage.gaussian_filter(ndimage.grey_closing(small, (9, 9), mode='nearest'), 1, mode='nearest')
  if np.ptp(plain) < _LEAST_DIFFERENCE:
    return None
  light = plain > _otsu(plain)
  labels, count = ndimage.label(ndimage.binary_opening(light, np.ones((9, 9))))
  if not count:
    return None
  largest = 1 + int(np.argmax(ndimage.sum_labels(light, labels, range(1, count + 1))))
  mask = ndimage.binary_fill_holes(labels == largest)
  share = mask.mean()
  if not _LEAST_SHEET <= share <= 1 - _LEAST_DESK:
    return None
  return mask if plain[mask].mean() - plain[~mask].mean() >= _LEAST_DIFFERENCE else None


def _otsu(image: Float[np.ndarray, 'h w']) -> float:
  """The level that parts the pixels into two classes of least variance (Otsu 1979)."""
  counts, edges = np.histogram(image, 128)
  levels = (edges[:-1] + edges[1:]) / 2
  below = np.cumsum(counts)
  above = below[-1] - below
  sums = np.cumsum(counts * levels)
  with np.errstate(divide='ignore', invalid='ignore'):
    between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
  return float(edges[1 + int(np.nanargmax(between))])


def _fit_corners(mask: Bool[np.ndarray, 'h w']) -> Float[np.ndarray, '4 2'] | None:
  """The corners (x, y) of the four-sided figure that encloses a region, clockwise from the top left; None if none fits."""
  rim = mask & ~ndimage.binary_erosion(mask)
  rows, columns = np.nonzero(rim)
  points = np.stack([columns + 0.5, rows + 0.5], 1)
  try:
    polygon = points[spatial.ConvexHull(points).vertices]
  except spatial.QhullError:
    return None
  # Sides are given up one by one, each time the one whose neighbours meet with the least area added.
  while len(polygon) > 4:
    added, where, meeting = min(
      ((*found, i) for i in range(len(polygon)) if (found := _without_side(polygon, i)) is not None),
      key=lambda found: found[0],
      default=(0.0, None, None),
    )
    if where is None or meeting is None:
      return None
    polygon = np.delete(np.insert(polygon, meeting + 1, where, 0), [meeting, (meeting + 2) % (len(polygon) + 1)], 0)
  if len(polygon) < 4:
    return None
  area = _area(polygon)
  if mask.sum() < _LEAST_FILLED * area:
    return None
  angles = np.arctan2(*(polygon - polygon.mean(0)).T[::-1])
  polygon = polygon[np.argsort(angles)]  # Clockwise, as y points down.
  polygon = np.roll(polygon, -int(np.argmin(polygon.sum(1))), 0)
  height, width = mask.shape
  margin = 0.1 * max(mask.shape)  # A corner may be a little outside of the picture.
  inside = (polygon > -margin) & (polygon < np.array([width, height]) + margin)
  return polygon if inside.all() else None


def _without_side(polygon, i):
  """The area that is added where side i of a polygon goes and its neighbours meet, and where; None if they do not."""
  n = len(polygon)
  before, start, end, after = polygon[i - 1], polygon[i], polygon[(i + 1) % n], polygon[(i + 2) % n]
  first, second = start - before, end - after
  cross = first[0] * second[1] - first[1] * second[0]
  if abs(cross) < 1e-9:
    return None
  gap = end - start
  along = (gap[0] * second[1] - gap[1] * second[0]) / cross
  back = (gap[0] * first[1] - gap[1] * first[0]) / cross
  if along < 0 or back < 0:
    return None
  where = start + along * first
  return _area(np.stack([start, where, end])), where


def _area(polygon: Float[np.ndarray, 'n 2']) -> float:
  x, y = polygon.T
  return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def _find_outline(
  small: Float[np.ndarray, 'h w'], corners: Float[np.ndarray, '4 2']
) -> Float[np.ndarray, '4 2'] | None:
  """Corners whose sides lie where brightness steps up; None where there is no such step along a side.

  Sides at the border of the picture stay where they are, but two at least must be inside: one may be a shadow's.
  """
  sides = [_fit_side(small, start, end, corners.mean(0)) for start, end in zip(corners, np.roll(corners, -1, 0))]
  if any(side is None for side in sides) or sum(is_inside for _, is_inside in sides) < 2:
    return None
  # A line is (a, b, c) with a x + b y + c = 0; two of them meet in their cross product.
  lines = [line for line, _ in sides]
  meetings = np.array([np.cross(lines[i - 1], lines[i]) for i in range(4)])
  if (np.abs(meetings[:, 2]) < 1e-9).any():
    return None
  return meetings[:, :2] / meetings[:, 2:]


def _fit_side(small, start, end, middle):
  """The line (a, b, c) of a side near the one given, and whether it is inside the picture; None if there is no step."""
  height, width = small.shape
  length = np.hypot(*(end - start))
  normal = np.array([end[1] - start[1], start[0] - end[0]]) / max(length, 1e-9)
  points = start + np.linspace(0.05, 0.95, _SIDE_POINTS)[:, None] * (end - start)
  normal *= np.sign(np.dot(normal, middle - points.mean(0))) or 1  # Towards the sheet.
  given = np.array([*normal, -np.dot(normal, start)])
  outside = points - 3 * normal
  within = (outside >= 0).all(1) & (outside[:, 0] < width) & (outside[:, 1] < height)
  if within.mean() < 0.5:
    return given, False
  points = points[within]
  offsets = np.arange(-_REACH - 2, _REACH + 3)
  places = points[:, None] + offsets[:, None] * normal
  levels = ndimage.map_coordinates(small, (places[..., ::-1] - 0.5).transpose(2, 0, 1), order=1, mode='nearest')
  steps = levels[:, 4:] - levels[:, :-4]  # Across four pixels.
  best = steps.argmax(1)
  found = points + (best - _REACH)[:, None] * normal
  found = found[steps.max(1) >= _LEAST_STEP]
  if len(found) < _LEAST_SHARP * len(points):
    return None
  # The line through two of the points which most of the others lie on.
  first, second = np.triu_indices(len(found), 4)
  direction = found[second] - found[first]
  across = np.stack([-direction[:, 1], direction[:, 0]], 1) / np.hypot(*direction.T)[:, None]
  distance = np.abs(np.einsum('lk,lpk->lp', across, found[None] - found[first][:, None]))
  near = distance <= 1.25
  chosen = int(near.sum(1).argmax())
  if near[chosen].sum() < _LEAST_SHARP * len(points):
    return None
  inliers = found[near[chosen]]
  centre = inliers.mean(0)
  across = np.linalg.svd(inliers - centre)[2][1]
  return np.array([*across, -np.dot(across, centre)]), True


def _straighten(image: UInt8[np.ndarray, 'height width'], corners: Float[np.ndarray, '4 2']) -> Sheet:
  top, right, bottom, left = (np.hypot(*(end - start)) for start, end in zip(corners, np.roll(corners, -1, 0), strict=True))
  width, height = max(1, round((top + bottom) / 2)), max(1, round((left + right) / 2))
  inset = max(2.0, _INSET * max(width, height))
  target = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) + inset * np.array(
    [[-1, -1], [1, -1], [1, 1], [-1, 1]]
  )
  to_image = fit_homography(target, corners)
  coefficients = (to_image / to_image[2, 2]).ravel()[:8]
  straight = Image.fromarray(image).transform(
    (width, height), Image.Transform.PERSPECTIVE, tuple(coefficients), Image.Resampling.BILINEAR
  )
  return Sheet(np.asarray(straight), to_image)


def fit_homography(source: Float[np.ndarray, '4 2'], target: Float[np.ndarray, '4 2']) -> Float[np.ndarray, '3 3']:
  """The projective map of the plane that takes four points to four others."""
  rows = []
  for (x, y), (u, v) in zip(source, target, strict=True):
    rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
  return np.append(np.linalg.solve(np.array(rows), target.ravel()), 1.0).reshape(3, 3)
