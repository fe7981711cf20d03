"""Sheets of paper on desks."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageDraw
import pytest
from scipy import ndimage

from digits.handwriting import prepare, sheet

CORNERS = np.array([[90, 60], [420, 90], [400, 290], [70, 260]], float)  # Clockwise from the top left.


def photograph(corners, *, desk=60, paper=210, size=(500, 360), light=1.0):
  """A sheet with a stroke on a desk, as a camera sees them. `light` is what their brightness is multiplied by."""
  picture = Image.new('L', size, desk)
  draw = ImageDraw.Draw(picture)
  draw.polygon([tuple(corner) for corner in corners], fill=paper)
  middle = corners.mean(0)
  draw.line([(middle[0], middle[1] - 25), (middle[0], middle[1] + 25)], fill=30, width=6)
  lit = ndimage.gaussian_filter(np.asarray(picture, np.float32), 1) * light
  return np.clip(lit + np.random.default_rng(0).normal(0, 2, lit.shape), 0, 255).astype(np.uint8)


def half_in_shadow(size=(500, 360)):
  """Light that falls off over a fifth of the picture, from its left to its right."""
  x = np.arange(size[0]) / size[0]
  return np.broadcast_to(1 - 0.55 / (1 + np.exp(-(x - 0.5) / 0.03)), size[::-1])


def corners_of(found):
  """Where the corners of a straightened sheet are in the picture."""
  height, width = found.image.shape
  points = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]]) @ found.to_image.T
  return points[:, :2] / points[:, 2:]


@pytest.mark.parametrize('light', [1.0, half_in_shadow()], ids=['even light', 'half in shadow'])
def test_a_sheet_on_a_desk_is_straightened(light):
  found = sheet.find_sheet(photograph(CORNERS, light=light))
  assert found is not None
  assert np.abs(corners_of(found) - CORNERS).max() < 0.02 * 500
  assert found.image.min(0).max() > 60  # No desk is left.


def test_a_sheet_that_is_partly_outside_of_the_picture_is_found():
  corners = CORNERS - [110, 0]
  found = sheet.find_sheet(photograph(corners))
  assert found is not None
  right = corners_of(found)[1:3]
  assert np.abs(right - corners[1:3]).max() < 0.02 * 500


def paper(size=(500, 360), vignette=0.0):
  """Nothing but paper."""
  y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
  return np.clip(200 * (1 - vignette * (x**2 + y**2) / 2), 0, 255).astype(np.uint8)


def with_frame(image):
  """A frame printed on paper."""
  picture = Image.fromarray(image)
  ImageDraw.Draw(picture).rectangle((80, 60, 420, 300), outline=60, width=4)
  return np.asarray(picture)


@pytest.mark.parametrize(
  'image',
  [paper(), paper(vignette=0.5), with_frame(paper()), photograph(CORNERS)[:150, :150]],
  ids=['paper', 'vignette', 'frame', 'small'],
)
def test_where_all_is_paper_no_sheet_is_sought(image):
  assert sheet.find_sheet(image) is None


def test_that_only_the_sheet_is_read_is_said():
  said = ('Only the sheet of paper was read, and nothing around it.',)
  assert prepare.find_page(photograph(CORNERS)).notes == said
  assert prepare.find_page(paper()).notes == ()


def test_the_ink_of_a_page_is_where_the_picture_has_it():
  page = prepare.find_page(photograph(CORNERS))
  rows, columns = np.nonzero(page.ink > 0.5)
  place = page.to_image @ [columns.mean() + 0.5, rows.mean() + 0.5, 1]
  assert np.abs(place[:2] / place[2] - CORNERS.mean(0)).max() < 4


@given(st.lists(st.floats(-20, 20), min_size=8, max_size=8))
def test_a_homography_takes_four_points_to_four_others(moves):
  source = np.array([[0, 0], [100, 0], [100, 80], [0, 80]], float)
  target = source + np.reshape(moves, (4, 2))
  forth, back = sheet.fit_homography(source, target), sheet.fit_homography(target, source)
  mapped = np.column_stack([source, np.ones(4)]) @ forth.T
  np.testing.assert_allclose(mapped[:, :2] / mapped[:, 2:], target, atol=1e-6)
  both = forth @ back
  np.testing.assert_allclose(both / both[2, 2], np.eye(3), atol=1e-6)
