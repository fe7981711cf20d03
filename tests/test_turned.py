"""Pages that lie on their side or upside down, and what is left out of a picture and said."""

import numpy as np
import pytest

from digits.handwriting import fields, predict, prepare


def _row(split, digits):
  """A photograph of a line of digits, and the digits."""
  ink = np.zeros((52, 32 * len(digits) + 24), np.float32)
  for i, digit in enumerate(digits):
    # The middle one of its kind by ink, which is an ordinary one.
    rows = np.flatnonzero(split.label == digit)
    image = split.image[rows[np.argsort(split.image[rows].sum((1, 2, 3)))[len(rows) // 2]], ..., 0]
    ink[12:40, 12 + 32 * i : 40 + 32 * i] = image / np.float32(255)
  noise = np.random.default_rng(0).normal(0, 2, (3 * ink.shape[0], 3 * ink.shape[1]))
  return np.clip(210 * (1 - 0.7 * np.kron(ink, np.ones((3, 3)))) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('turns', [1, 3])
def test_a_page_on_its_side_is_read_with_boxes_where_the_digits_are(turns, mnist, quick_run):
  upright = _row(mnist.test, [2, 3, 4, 5])
  (line,) = fields.read(upright, quick_run).lines
  turned = np.ascontiguousarray(np.rot90(upright, turns))
  (found,) = fields.read(turned, quick_run).lines
  assert found.text == line.text == '2345'
  for before, after in zip(line.tokens, found.tokens, strict=True):
    corners = []
    for box in (before.box, after.box):
      mask = np.zeros(upright.shape if box is before.box else turned.shape, bool)
      mask[box[1] : box[3], box[0] : box[2]] = True
      corners.append(mask)
    wanted = np.rot90(corners[0], turns)
    assert (wanted & corners[1]).sum() > 0.8 * (wanted | corners[1]).sum()


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_a_turned_page_knows_where_its_pixels_were(turns):
  ink = np.arange(12, dtype=np.float32).reshape(3, 4)
  page = fields._turn(prepare.Page(ink, np.eye(3), ()), turns)
  for row, column in np.ndindex(page.ink.shape):
    x, y, _ = page.to_image @ [column + 0.5, row + 0.5, 1]
    assert ink[int(y), int(x)] == page.ink[row, column]


def test_a_rim_is_left_out_and_named(mnist, quick_run):
  image = _row(mnist.test, [2, 3, 4])
  plain = fields.read(image, quick_run)
  rim = image.copy()
  rim[:, :14] = 25
  read = fields.read(rim, quick_run)
  assert plain.notes == ()
  assert [line.text for line in read.lines] == [line.text for line in plain.lines] == ['234']
  assert read.notes == ('What is dark along its left edge was left out.',)


def test_a_part_of_a_neighbour_is_left_out_and_that_is_said(mnist):
  image = _row(mnist.test, [3, 2])
  alone, cut = image[:, :135], image[:, :170]
  prepared = predict.prepare_images([alone, cut])
  assert prepared.left_out.tolist() == [False, True]
  assert np.abs(prepared.image[0].astype(int) - prepared.image[1]).mean() < 12
