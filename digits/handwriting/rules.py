"""Finds what is printed on paper for people to write on or into: ruled lines, frames, boxes, tables and combs.

A rule is thin, straight and long. How long is measured by what it could belong to: by the picture, or by a piece of ink
that is a frame around other ink, or that is much wider than it is high. What is removed of a rule is what is as thin as
the rest of it, so that strokes that cross it stay whole.
"""

import itertools
import math
from typing import NamedTuple, TypeAlias

from jaxtyping import Bool, Float, Int
import numpy as np
from scipy import ndimage

Mask: TypeAlias = Bool[np.ndarray, 'height width']

# Rules go through at least this part of the picture's width, or of its height where they are upright, since a digit
# that fills the picture may have an upright stem. They come this near to its edge, as the foot of a 2 does not, or are
# this much longer than the writing is high, and at least this part of the width; the walls of boxes have this part of
# the distance of two rules, and are thinner than this part of it. Rules are thinner than this part of the shorter side,
# and no steeper than this.
_LENGTH = 0.7
_UPRIGHT_LENGTH = 0.97
_SHORTEST = 0.3
_MARGIN = 0.03
_MUCH_LONGER = 2.5
_WALL_LENGTH = 0.9
_WALL_THICKNESS = 0.14
_WALL_BEND = 0.03  # The most that a wall bends, as a part of its length.
_GRID_COVERAGE = 0.75
_THICKNESS = 1 / 25
_SLOPE = 0.1
# The part of a rule's length where there is ink, and where it is its own; and its longest gap, and how far it bends
# from a straight line, as parts of the width.
_COVERAGE = 0.9
_LEAST_OWN = 0.4
_LONGEST_GAP = 0.04
_BEND = 0.012
_MOST_LINES = 60
_MOST_SHARED = 0.3  # Of the ink of a line that is not the same as another.
_LINE_SHAPE = 0.12  # Ink that is this much thinner than it is long is no digit.
# Frames: the least side in pixels, the part of each side that is covered, within a band of this part of the side, and
# the part of a frame's height that the ink within it has at least.
_LEAST_FRAME = 20
_SIDE_COVERAGE = 0.8
_BAND = 0.07
_LEAST_CONTENT = 0.25
# What is left of rules, and the ticks of a comb, are lower than this part of the writing, or this much higher; and, but
# for the lowest, no more than this part of them is curved.
_LOW = 0.72
_HIGH = 1.4
_SHORT = 0.36
_MOST_CURVED = 0.35
_LEAST_FREE = 0.2


class _Line(NamedTuple):
  """A level line: its first column and the one after its last, its row in every column, and its ink."""

  first: int
  last: int
  middle: Float[np.ndarray, ' width']
  ink: Mask


def find_rules(mask: Mask) -> Mask:
  """Finds rules, frames, boxes, tables and combs, where no stroke covers them.

  Args:
    mask: where there is ink.

  Returns:
    The ink that belongs to them.
  """
  thickness = max(2, round(_THICKNESS * min(mask.shape)))
  lines = _choose_rules(mask, _find_lines(mask, thickness, _SHORTEST))
  rules = _unite(lines, mask)
  # Where there are several level rules, upright ones are no stems.
  if len(lines) > 1:
    upright = _choose_rules(mask.T, _find_lines(mask.T, thickness, _SHORTEST, _GRID_COVERAGE))
  else:
    upright = _find_lines(mask.T, thickness, _UPRIGHT_LENGTH, _COVERAGE)
  rules |= _unite(upright, mask.T).T
  for upper, lower in itertools.pairwise(sorted(lines, key=lambda line: line.middle.mean())):
    rules |= _find_walls(mask, upper, lower, thickness)
  labels, _ = ndimage.label(mask & ~rules, np.ones((3, 3)))
  for label, box in enumerate(ndimage.find_objects(labels), 1):
    height, width = (side.stop - side.start for side in box)
    if min(height, width) < _LEAST_FRAME:
      continue
    piece = labels[box] == label
    if _is_frame(piece, mask[box] & ~rules[box]):
      thin = max(2, round(_BAND * min(height, width)))
      rules[box] |= _unite(_find_lines(piece, thin, _COVERAGE), piece)
      rules[box] |= _unite(_find_lines(piece.T, thin, _COVERAGE), piece.T).T
  return rules | find_ticks(mask & ~rules, rules) if rules.any() else rules


def _unite(lines: list[_Line], mask: Mask) -> Mask:
  return np.logical_or.reduce([line.ink for line in lines]) if lines else np.zeros_like(mask)


def _choose_rules(mask: Mask, lines: list[_Line]) -> list[_Line]:
  """The lines that go through the picture to an edge, or are much longer than the writing is high."""
  if not lines:
    return []
  height, width = _writing_height(mask & ~_unite(lines, mask)), mask.shape[1]

  def is_rule(line):
    is_through = line.last - line.first >= _LENGTH * width
    is_at_edge = min(line.first, width - line.last) <= _MARGIN * width
    return (is_through and is_at_edge) or line.last - line.first >= _MUCH_LONGER * height

  chosen: list[_Line] = []
  for line in lines:
    # A rule is proposed with several slopes, the best first; the others go through strokes beside it.
    is_new = not any((line.ink & other.ink).sum() > _MOST_SHARED * line.ink.sum() for other in chosen)
    if is_new and is_rule(line):
      chosen.append(line)
  return chosen


def _writing_height(mask: Mask) -> int:
  """The height of the highest ink that is no line, as other rules are; 0 where there is none."""
  labels, _ = ndimage.label(mask, np.ones((3, 3)))
  boxes = [box for box in ndimage.find_objects(labels)]
  sides = [sorted((box[0].stop - box[0].start, box[1].stop - box[1].start)) for box in boxes]
  heights = [
    box[0].stop - box[0].start for box, (short, long) in zip(boxes, sides, strict=True) if short > _LINE_SHAPE * long
  ]
  return max(heights or [long for _, long in sides], default=0)


def _find_walls(mask: Mask, upper: _Line, lower: _Line, thickness: int) -> Mask:
  """Upright lines from one rule to the next below it: the walls of boxes and of the cells of a table."""
  walls = np.zeros_like(mask)
  first, last = max(upper.first, lower.first), min(upper.last, lower.last)
  top, bottom = (round(float(line.middle[first:last].mean())) if last > first else 0 for line in (upper, lower))
  if last - first < _LEAST_FRAME or bottom - top < _LEAST_FRAME:
    return walls
  margin = 4 * thickness
  thickness = max(thickness, round(_WALL_THICKNESS * (bottom - top)))  # Boxes side by side have a wall each.
  crop = slice(max(0, top), bottom + 1), slice(max(0, first - margin), last + margin)
  lines = _find_lines(mask[crop].T, thickness, _WALL_LENGTH)
  # A wall is straight and ends at the rules; a stroke bends or goes beyond.
  beyond = round(max(1.0, *(np.median(line.ink[:, line.first : line.last].sum(0)) for line in (upper, lower)))) + 3
  rows = [row for row in (top - beyond, bottom + beyond) if 0 <= row < len(mask)]

  def is_wall(line):
    columns = crop[1].start + np.rint(line.middle[[0, -1]]).astype(int)
    near = slice(max(0, columns.min() - 2), columns.max() + 3)
    bend = np.abs(line.middle - np.linspace(line.middle[0], line.middle[-1], len(line.middle))).max()
    return bend <= _WALL_BEND * (bottom - top) + 1 and not mask[rows, near].any()

  walls[crop] = _unite([line for line in lines if is_wall(line)], mask[crop].T).T
  return walls


def _find_lines(mask: Mask, thickness: int, length: float, coverage: float = _COVERAGE) -> list[_Line]:
  """Finds level lines that have at least this part of the width of a picture, or of a part of it."""
  height, width = mask.shape
  found: list[_Line] = []
  if mask.any(0).mean() < length:
    return found
  thin = mask & ~ndimage.binary_opening(mask, np.ones((thickness + 1, 1)))
  rows, columns = np.nonzero(thin)
  run_lengths = _lengths_of_runs(thin)[rows, columns]
  for slope, start in _propose_lines(rows, columns, mask.shape, length):
    near = np.abs(rows - start - slope * columns) <= _BEND * width + 2
    if near.sum() < 8:
      continue
    # Paper is not flat, so that a rule may be a little bent; and strokes that touch it pull its middle away.
    x, y, weight = columns[near] / width, rows[near], 1 / run_lengths[near]
    curve = np.array([0.0, slope * width, start])
    usual = 1.0
    for tolerance in (_BEND * width + 2, 0.5 * _BEND * width + 1.5, 0):
      close = np.abs(np.polyval(curve, x) - y) <= max(tolerance, usual / 2 + 1)
      if close.sum() < 8:
        break
      curve = np.polyfit(x[close], y[close], 2, w=np.sqrt(weight[close]))
      usual = float(np.median(run_lengths[near][close]))
    middle = np.polyval(curve, np.arange(width) / width)
    reach = usual / 2 + 1
    # Only the rows where the line is, with room for what runs along it.
    low = max(0, math.floor(middle.min() - reach - usual) - 3)
    high = min(height, math.ceil(middle.max() + reach + usual) + 4)
    if low >= high:
      continue
    crop = thin[low:high]
    band = np.abs(np.arange(low, high)[:, None] - middle) <= reach
    own: Bool[np.ndarray, ' width'] = np.any(crop & band, axis=0)
    covered: Bool[np.ndarray, ' width'] = np.any(mask[low:high] & band, axis=0)
    first, last = _longest_stretch(covered, max(2, round(_LONGEST_GAP * width)))
    if last - first < length * width or covered[first:last].mean() < coverage or own[first:last].mean() < _LEAST_OWN:
      continue
    rule = crop & band
    rule[:, :first], rule[:, last:] = False, False
    ink = np.zeros_like(mask)
    # What is thicker than the rest of it is a stroke that runs along it for a while.
    ink[low:high] = rule & ~ndimage.binary_opening(crop, np.ones((round(usual) + 2, 1)))
    found.append(_Line(first, last, middle, ink))
  return found


def _propose_lines(rows, columns, shape, length):
  """Slopes, and rows at the left, of straight lines with many thin pixels, those with most first (Hough 1962)."""
  height, width = shape
  scale = max(1.0, width / 320)  # Pixels per bin.
  slopes = np.linspace(-_SLOPE, _SLOPE, 2 * math.ceil(_SLOPE * width / scale) + 1)
  offset = math.ceil(_SLOPE * width / scale) + 1
  bins = math.ceil(height / scale) + 2 * offset
  # A pixel column counts once, however thick the line.
  seen = np.stack([np.bincount(_bin(rows, columns, slope, scale, offset), minlength=bins) for slope in slopes])
  seen = seen[:, :-1] + seen[:, 1:]  # Lines between two bins.
  proposed: list[tuple[float, float]] = []
  while len(proposed) < _MOST_LINES:
    index, place = np.unravel_index(seen.argmax(), seen.shape)
    if seen[index, place] < 0.5 * length * width:
      break
    slope = slopes[index]
    proposed.append((slope, (place + 0.5 - offset) * scale))
    # Neither a line that crosses this one in the middle half, nor one beside it, is another.
    for other, row in zip(slopes, seen, strict=True):
      middle = place + (slope - other) * width / 2 / scale
      row[max(0, round(middle) - 2) : round(middle) + 3] = 0
  return proposed


def _bin(rows, columns, slope, scale, offset):
  return np.rint((rows - slope * columns) / scale).astype(int) + offset


def _lengths_of_runs(mask: Mask) -> Int[np.ndarray, 'height width']:
  """For each pixel of a mask the length of the upright run that it is in."""
  labels, count = ndimage.label(mask, [[0, 1, 0], [0, 1, 0], [0, 1, 0]])
  return np.bincount(labels.ravel(), minlength=count + 1)[labels]


def _longest_stretch(covered: Bool[np.ndarray, ' width'], gap: int) -> tuple[int, int]:
  """Where the longest stretch with no gap longer than this begins and ends."""
  labels, count = ndimage.label(ndimage.binary_closing(np.pad(covered, gap), np.ones(gap + 1))[gap:-gap])
  if not count:
    return 0, 0
  (stretch,) = max(ndimage.find_objects(labels), key=lambda box: box[0].stop - box[0].start)
  return stretch.start, stretch.stop


def _is_frame(piece: Mask, content: Mask) -> bool:
  """Whether a piece of ink goes along all four sides of its box, and has ink of a digit's size within."""
  height, width = piece.shape
  rows, columns = max(2, round(_BAND * height)), max(2, round(_BAND * width))
  sides = (piece[:rows].any(0), piece[-rows:].any(0), piece[:, :columns].any(1), piece[:, -columns:].any(1))
  if min(side.mean() for side in sides) < _SIDE_COVERAGE:
    return False
  inner = content[2 * rows : -2 * rows, 2 * columns : -2 * columns]
  return bool(inner.any(1).sum() >= _LEAST_CONTENT * height)


def find_ticks(rest: Mask, rules: Mask) -> Mask:
  """Finds what is left of rules or stands on one as a tick: level and upright bits, as thin, of another height.

  Args:
    rest: ink without the rules.
    rules: what `find_rules` found.
  """
  labels, count = ndimage.label(rest, np.ones((3, 3)))
  if not count:
    return rest
  touching = np.isin(np.arange(1, count + 1), labels[ndimage.binary_dilation(rules, np.ones((7, 7)))])
  boxes = ndimage.find_objects(labels)
  heights = np.array([box[0].stop - box[0].start for box in boxes])
  free = heights[~touching & (heights >= _LEAST_FREE * heights.max())]
  writing = np.median(free if len(free) else heights[heights >= heights.max() / 2])
  runs = _lengths_of_runs(rules), _lengths_of_runs(rules.T).T
  thickness = float(np.median(np.minimum(*runs)[rules]))
  side = round(3 * thickness) + 2
  straight = ndimage.binary_opening(rest, np.ones((side, 1))) | ndimage.binary_opening(rest, np.ones((1, side)))
  widths = np.zeros(count + 1)
  np.maximum.at(widths, labels[rest], 2 * ndimage.distance_transform_edt(rest)[rest])
  widths = widths[1:]
  inked = labels[rest]
  curved = np.bincount(inked, ~straight[rest], count + 1)[1:] / np.bincount(inked, minlength=count + 1)[1:]
  is_bit = (heights < _LOW * writing) | (heights > _HIGH * writing)
  is_thin = widths <= 2 * thickness + 2
  ticks = np.flatnonzero(touching & is_bit & is_thin & ((curved < _MOST_CURVED) | (heights < _SHORT * writing)))
  return np.isin(labels, ticks + 1)
