"""Finds a sheet of paper on a desk, and straightens it.

A sheet is what is lighter than what lies around it, with a sharp outline of four straight sides. Where a side is
outside the picture, the border of the picture takes its place.
"""

import itertools
import math
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
_LEVELS = 8
_BAND = 4
_LEAST_SHARE = 0.7
_SHORTEST = 0.12  # A side of the outline, as a part of the picture's longer side.
_REACH = 12  # Pixels of the reduced picture that a side is sought within.
_INSET = 0.008  # The rim that is cut off, as a part of the sheet's sides: it holds the sheet's shadow.


# Edges: the least change of the logarithm of brightness in a pixel, and in multiples of the median; the bins of their
# directions and of their distances in pixels, and for how many directions each point votes; and how many are tried.
_EDGE = 0.02
_EDGE_NOISE = 3
_ANGLES = 192
_RHO = 2.0
_SPREAD = 2
_PEAKS = 5
_LEAST_VOTES = 20
_OUTSIDE = 0.05  # How far a corner may be outside the picture.
_MOST_PROPOSED = 6


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
  # A closing takes the writing off the paper; a blur, the grain off the desk.
  plain = ndimage.gaussian_filter(ndimage.grey_closing(small, (9, 9), mode='nearest'), 0.7, mode='nearest')
  low, high = np.percentile(plain, (1, 99))
  if high - low < _LEAST_DIFFERENCE:
    return None
  proposed = []
  # No one level parts paper from desk where there is a shadow.
  for level in (_otsu(plain), *np.linspace(low, high, _LEVELS + 2)[1:-1]):
    mask = _find_light_part(plain, level)
    proposed.append(None if mask is None else _fit_corners(mask))
  proposed += _propose_by_edges(plain)
  found = [_find_outline(small, corners) for corners in proposed if corners is not None]
  outlines = [outline for outline in found if outline is not None]
  if not outlines:
    return None
  return _straighten(image, max(outlines, key=lambda outline: outline[1])[0] * factor)


def _find_light_part(plain: Float[np.ndarray, 'h w'], level: float) -> Bool[np.ndarray, 'h w'] | None:
  """The largest part that is lighter than a level."""
  light = ndimage.minimum_filter((plain > level).astype(np.uint8), 7, mode='constant')
  light = ndimage.maximum_filter(light, 7, mode='constant')  # An opening, without the small parts.
  labels, count = ndimage.label(light)
  if not count:
    return None
  largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
  mask = ndimage.binary_fill_holes(labels == largest)
  if not _LEAST_SHEET <= mask.mean() <= 1 - _LEAST_DESK:
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
  """The corners (x, y) of the four-sided figure around a region, clockwise from the top left; None if none fits."""
  rim = mask & ~ndimage.binary_erosion(mask)
  rows, columns = np.nonzero(rim)
  points = np.stack([columns + 0.5, rows + 0.5], 1)
  try:
    polygon = points[spatial.ConvexHull(points).vertices]
  except spatial.QhullError:
    return None
  # Sides are given up one by one, each time the one whose neighbours meet with the least area added.
  while len(polygon) > 4:
    _added, where, meeting = min(
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
  if np.hypot(*(polygon - np.roll(polygon, -1, 0)).T).min() < _SHORTEST * max(mask.shape):
    return None  # A triangle is the part of a picture beside a shadow.
  if mask.sum() < _LEAST_FILLED * area:
    return None
  angles = np.arctan2(*(polygon - polygon.mean(0)).T[::-1])
  polygon = polygon[np.argsort(angles)]  # Clockwise, as y points down.
  polygon = np.roll(polygon, -int(np.argmin(polygon.sum(1))), 0)
  height, width = mask.shape
  margin = 0.1 * max(mask.shape)  # A corner may be a little outside of the picture.
  inside = (polygon > -margin) & (polygon < np.array([width, height]) + margin)
  return polygon if inside.all() else None


def _propose_by_edges(plain: Float[np.ndarray, 'h w']) -> list[Float[np.ndarray, '4 2']]:
  """Corners where long edges meet that are lighter on their inner side, the longest edges first.

  The edges are lines with a direction, found by votes (Hough 1962) of the points where brightness changes most for
  its level, each for the lines that its gradient is at right angles to (Ballard 1981).
  """
  level = np.log(np.maximum(plain, 8))
  down, right = (ndimage.gaussian_filter(level, 1, order=order) for order in ((1, 0), (0, 1)))
  size = np.hypot(down, right)
  rows, columns = np.nonzero(size > max(_EDGE, _EDGE_NOISE * float(np.median(size))))
  angle = np.arctan2(down[rows, columns], right[rows, columns])
  height, width = plain.shape
  reach = math.hypot(height, width)
  votes = np.zeros((_ANGLES, math.ceil(2 * reach / _RHO) + 1))
  for aside in range(-_SPREAD, _SPREAD + 1):
    index = np.round(angle / (2 * math.pi) * _ANGLES).astype(int) + aside
    normal = index * (2 * math.pi / _ANGLES)
    distance = (columns + 0.5) * np.cos(normal) + (rows + 0.5) * np.sin(normal)
    np.add.at(votes, (index % _ANGLES, np.round((distance + reach) / _RHO).astype(int)), 1)
  quarters = [_find_peaks(votes, quarter) for quarter in range(4)]
  if not all(quarters):
    return []
  # All choices of a left, a top, a right and a lower side. A line is (a, b, c) with a x + b y + c = 0, its normal
  # towards the sheet.
  peaks = np.array(list(itertools.product(*quarters)))
  normal = peaks[..., 0] * (2 * math.pi / _ANGLES)
  lines = np.stack([np.cos(normal), np.sin(normal), reach - peaks[..., 1] * _RHO], -1)
  meetings = np.cross(lines, np.roll(lines, -1, 1))  # Of left and top, top and right, and so on.
  is_cross = (np.abs(meetings[..., 2]) > 1e-6).all(1)
  peaks, lines, meetings = peaks[is_cross], lines[is_cross], meetings[is_cross]
  corners = meetings[..., :2] / meetings[..., 2:]
  lengths = np.hypot(*np.moveaxis(corners - np.roll(corners, 1, 1), -1, 0))
  margin = _OUTSIDE * reach
  is_inside = ((corners > -margin) & (corners < np.array([width, height]) + margin)).all((1, 2))
  middle = np.append(corners.mean(1), np.ones((len(corners), 1)), 1)
  is_around = (np.einsum('nsk,nk->ns', lines, middle) > 0).all(1)
  x, y = np.moveaxis(corners, -1, 0)
  area = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
  is_large = (lengths.min(1) > _SHORTEST * reach) & (area > _LEAST_SHEET * plain.size)
  support = (votes[peaks[..., 0], peaks[..., 1]] / np.maximum(lengths, 1)).min(1)
  support[~(is_inside & is_around & is_large)] = 0
  best = np.argsort(-support, kind='stable')[:_MOST_PROPOSED]
  return list(corners[best[support[best] > 0]])


def _find_peaks(votes: Float[np.ndarray, 'angles distances'], quarter: int) -> list[tuple[int, int]]:
  """The lines with most votes among those whose normal is within 45 degrees of so many quarter turns."""
  eighth = len(votes) // 8
  rows = np.arange((2 * quarter - 1) * eighth, (2 * quarter + 1) * eighth) % len(votes)
  part = votes[rows]
  peaks = []
  for _ in range(_PEAKS):
    row, column = np.unravel_index(part.argmax(), part.shape)
    if part[row, column] < _LEAST_VOTES:
      break
    peaks.append((int(rows[row]), int(column)))
    part[max(0, row - 4) : row + 5, max(0, column - 2) : column + 3] = 0
  return peaks


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
) -> tuple[Float[np.ndarray, '4 2'], float] | None:
  """Corners whose sides lie where brightness steps up, and how good they are; None where a side has no such step.

  Sides at the border of the picture stay where they are, but two at least must be inside: one may be a shadow's.
  """
  sides = [
    _fit_side(small, start, end, corners.mean(0)) for start, end in zip(corners, np.roll(corners, -1, 0), strict=False)
  ]
  if any(side is None for side in sides) or sum(step > 0 for _, step in sides) < 2:
    return None
  # A line is (a, b, c) with a x + b y + c = 0; two of them meet in their cross product.
  lines = [line for line, _ in sides]
  meetings = np.array([np.cross(lines[i - 1], lines[i]) for i in range(4)])
  if (np.abs(meetings[:, 2]) < 1e-9).any():
    return None
  outline = meetings[:, :2] / meetings[:, 2:]
  sharp = [
    _share_of_step(small, start, end, outline.mean(0))
    for start, end in zip(outline, np.roll(outline, -1, 0), strict=False)
  ]
  inside = [share for share in sharp if share is not None]
  if len(inside) < 2 or min(inside) < _LEAST_SHARE:
    return None
  # Of two, the larger is better: the other has the edge of a shadow for a side.
  step = float(np.mean([step for _, step in sides if step > 0]))
  return outline, min(inside) * step * math.sqrt(_area(outline))


def _share_of_step(small, start, end, middle):
  """The part of a side along which the paper is lighter than what is outside; None where that is not in the picture."""
  points, normal, within = _sample_side(small, start, end, middle)
  if within.mean() < 0.5:
    return None
  near, far = (
    np.stack([_levels(small, points[within] + sign * offset * normal) for offset in offsets for sign in (-1, 1)])
    for offsets in ((1.5, 2.5, 3.5), (5, 7, 9))
  )
  is_step = near[1::2].mean(0) - near[::2].mean(0) >= _LEAST_STEP
  is_other = far[1::2].mean(0) - far[::2].mean(0) >= _LEAST_STEP
  return float((is_step & is_other).mean())


def _sample_side(small, start, end, middle):
  """Points along a side, the direction from it to the sheet, and which points have some picture outside of them."""
  height, width = small.shape
  normal = np.array([end[1] - start[1], start[0] - end[0]]) / max(np.hypot(*(end - start)), 1e-9)
  points = start + np.linspace(0.05, 0.95, _SIDE_POINTS)[:, None] * (end - start)
  normal *= np.sign(np.dot(normal, middle - points.mean(0))) or 1
  outside = points - 3 * normal
  return points, normal, (outside >= 0).all(1) & (outside[:, 0] < width) & (outside[:, 1] < height)


def _levels(small, places):
  return ndimage.map_coordinates(small, (places[..., ::-1] - 0.5).T, order=1, mode='nearest')


def _fit_side(small, start, end, middle):
  """The line (a, b, c) of a side near the one given, and its step in brightness; None if there is none.

  The step is 0 where the side is at the border of the picture.
  """
  points, normal, within = _sample_side(small, start, end, middle)
  if within.mean() < 0.5:
    return np.array([*normal, -np.dot(normal, start)]), 0.0
  points = points[within]
  offsets = np.arange(-_REACH - _BAND, _REACH + _BAND + 1)
  places = points[:, None] + offsets[:, None] * normal
  levels = _levels(small, places).T
  # Between bands on both sides, so that a line that is ruled on paper is no step.
  sums = np.cumsum(np.pad(levels, ((0, 0), (1, 0))), 1)
  bands = (sums[:, _BAND:] - sums[:, :-_BAND]) / _BAND
  steps = bands[:, _BAND + 1 :] - bands[:, : -_BAND - 1]
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
  share = near[chosen].sum() / len(points)
  return np.array([*across, -np.dot(across, centre)]), share * float(np.median(steps.max(1)))


def _straighten(image: UInt8[np.ndarray, 'height width'], corners: Float[np.ndarray, '4 2']) -> Sheet:
  top, right, bottom, left = (
    np.hypot(*(end - start)) for start, end in zip(corners, np.roll(corners, -1, 0), strict=True)
  )
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
