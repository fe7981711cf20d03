"""Preparation: LeCun's size and place, ink on any paper, and files that are not what they say."""

import io
import os
import tracemalloc
import warnings

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
from PIL import Image
import pytest

from digits import errors
from digits.data import center
from digits.handwriting import image_files, prepare
from digits.train import step as step_lib
from measurements import handwriting


def _encode(image, kind='PNG', **options):
  file = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
  return file.getvalue()


def _seven(side=60, stroke=7):
  """A drawn 7, ink 255 on 0."""
  image = np.zeros((side, side), np.uint8)
  image[8 : 8 + stroke, 13:46] = 255
  for y in range(8, 54):
    x = 40 - (y - 8) // 3
    image[y, x : x + stroke] = 255
  return image


# LeCun's size and place.


def test_center_against_pillow_and_a_plain_centre_of_mass():
  rng = np.random.default_rng(0)
  for _ in range(20):
    height, width = rng.integers(10, 90, 2)
    ink = np.zeros((1, 100, 100), np.float32)
    ink[0, 5 : 5 + height, 7 : 7 + width] = rng.random((height, width)) * 0.8 + 0.1
    prepared = center.center(ink)[0]

    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = ink[0, 5 : 5 + height, 7 : 7 + width]
    # Pillow's box filter is an area average where it shrinks.
    if side >= 20 and side % 20 == 0:
      box = np.asarray(Image.fromarray(square).resize((20, 20), Image.Resampling.BOX))
      box = 255 * box / box.max()
      rows, columns = (np.flatnonzero(prepared.any(axis)) for axis in (1, 0))
      np.testing.assert_allclose(
        prepared[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].sum(), box.sum(), rtol=0.01
      )
    assert prepared.max() == 255
    y, x = ((np.arange(28) + 0.5) @ prepared.sum(axis) / prepared.sum() for axis in (1, 0))
    assert 14 <= y <= 15
    assert 14 <= x <= 15


def test_a_square_goes_to_twenty_pixels_in_the_middle():
  ink = np.zeros((2, 200, 200), np.float32)
  ink[0, 100:180, 10:90] = 0.5
  prepared = center.center(ink)
  expected = np.zeros((28, 28), np.uint8)
  expected[5:25, 5:25] = 255  # int(15 - 10): the centre of mass lies at 15 exactly.
  np.testing.assert_array_equal(prepared[0], expected)
  assert not prepared[1].any()


def test_area_weights_are_shares_of_pixels():
  weights = center._area_weights(np.array([1]), np.array([30]), 32)[0]
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
  np.testing.assert_allclose(weights[0, :4], [0, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_a_small_digit_is_not_blown_up_to_the_whole_box():
  ink = np.zeros((1, 28, 28), np.float32)
  ink[0, 10:15, 10:13] = 1
  prepared = center.center(ink)[0]
  assert (prepared.any(1).sum(), prepared.any(0).sum()) == (10, 6)


def test_images_of_mnist_come_out_nearly_as_they_went_in(mnist):
  image = mnist.test.image
  prepared = prepare.prepare(image[..., 0])
  assert prepared.shape == image.shape
  difference = np.abs(prepared.astype(int) - image).max((1, 2, 3))
  assert (difference <= 3).mean() > 0.97
  np.testing.assert_array_equal(prepared[:50], prepare.prepare(list(image[:50, ..., 0])))


def _answers(run, prepared):
  apply = jax.jit(step_lib.apply_model, static_argnums=0)
  return np.concatenate([apply(run.model, run.variables, batch) for batch in np.split(prepared, 10)]).argmax(1)


def test_preparing_the_test_images_does_not_change_the_accuracy(mnist, quick_run):
  before = _answers(quick_run, mnist.test.image) == mnist.test.label
  after = _answers(quick_run, prepare.prepare(mnist.test.image[..., 0])) == mnist.test.label
  assert before.mean() > 0.95
  assert abs(before.mean() - after.mean()) <= 0.002


def test_scale_place_polarity_brightness_and_rotation_do_not_change_the_answer(mnist, quick_run):
  rng = np.random.default_rng(0)
  digits = mnist.test.image[:150]
  before = _answers(quick_run, digits)
  pasted = [image_files.decode(handwriting.paste(rng, digit[..., 0])) for digit in digits]
  after = _answers(quick_run, prepare.prepare(pasted))
  assert (before == after).mean() >= 0.95


# Ink and paper.


@settings(max_examples=25, deadline=None)
@given(
  scale=st.integers(1, 4),
  pad=st.tuples(*[st.integers(0, 40)] * 4),
  paper=st.integers(0, 255),
  pen=st.integers(0, 255),
)
def test_flat_paper_of_any_brightness_gives_the_same_picture(scale, pad, paper, pen):
  if abs(paper - pen) < 12:
    return
  ink = np.pad(np.kron(_seven(), np.ones((scale, scale))), (pad[:2], pad[2:])) / 255
  image = np.where(ink > 0, pen, paper).astype(np.uint8)
  np.testing.assert_array_equal(prepare.prepare([image]), prepare.prepare([_seven()]))


@pytest.mark.parametrize('negative', [False, True])
@pytest.mark.parametrize('uneven', ['gradient', 'shadow', 'texture'])
def test_uneven_paper_gives_nearly_the_same_picture(uneven, negative):
  rng = np.random.default_rng(0)
  ink = np.pad(np.kron(_seven(), np.ones((6, 6))), 60) / 255
  y, x = np.mgrid[: len(ink), : len(ink)] / len(ink)
  light = {
    'gradient': 1 - 0.3 * x - 0.3 * y,
    'shadow': np.where(x + 0.5 * y > 1.05, 0.6, 1),
    'texture': 1 + 0.03 * rng.standard_normal(ink.shape),
  }[uneven]
  image = 230 * light * (1 - 0.6 * ink) + rng.normal(0, 3, ink.shape)
  image = np.clip(255 - image if negative else image, 0, 255).astype(np.uint8)
  prepared, clean = (prepare.prepare([picture])[0].astype(int) for picture in (image, (255 * ink).astype(np.uint8)))
  assert np.abs(prepared - clean).mean() < 4


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (2, 3), (28, 28), (300, 200)])
def test_blank_paper_has_no_ink(shape):
  rng = np.random.default_rng(0)
  for image in (np.full(shape, 255), np.full(shape, 90), np.clip(rng.normal(200, 4, shape), 0, 255)):
    assert not prepare.prepare([image.astype(np.uint8)]).any() or min(shape) < 28


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99), levels=st.integers(2, 256))
def test_any_picture_gives_a_picture(height, width, seed, levels):
  image = np.random.default_rng(seed).integers(0, levels, (1, height, width)).astype(np.uint8)
  prepared = prepare.prepare(image)
  assert (prepared.shape, prepared.dtype) == ((1, 28, 28, 1), np.uint8)
  assert prepared.max() in (0, 255)


def test_no_pictures_give_no_pictures():
  assert prepare.prepare([]).shape == (0, 28, 28, 1)
  assert prepare.prepare(np.zeros((0, 28, 28), np.uint8)).shape == (0, 28, 28, 1)


def test_specks_are_dropped_and_broken_strokes_are_not():
  image = _seven()
  image[24:26] = 0  # The stroke is broken in two.
  clean = prepare.prepare([image])
  image[2:4, 2:4] = image[57, 50] = 255
  np.testing.assert_array_equal(prepare.prepare([image]), clean)
  assert clean[0, 24:].any()


@pytest.mark.parametrize('slope', [0, 0.05])
def test_ruled_lines_are_dropped(slope):
  ink = np.pad(np.kron(_seven(), np.ones((4, 4), np.uint8)), 40)
  ruled = ink.copy()
  for column in range(ruled.shape[1]):
    for row in (20, 150, 290):
      y = int(row + slope * column)
      ruled[y : y + 3, column] = 255
  difference = prepare.prepare([ruled]).astype(int) - prepare.prepare([ink])
  assert np.abs(difference).mean() < 2


# Files.


def _colour(grey):
  return Image.fromarray(grey).convert('RGB')


def test_every_format_and_mode_gives_the_same_picture():
  dark = 255 - _seven()
  expected = prepare.prepare([dark])
  transparent = Image.fromarray(np.stack([np.zeros_like(dark)] * 3 + [_seven()], -1))
  light_on_transparent = Image.fromarray(np.stack([np.full_like(dark, 255)] * 3 + [_seven()], -1))
  phone = io.BytesIO()
  _colour(dark).save(phone, 'MPO', save_all=True, append_images=[_colour(dark)], quality=95)
  contents = {
    'png grey': _encode(dark),
    'png colour': _encode(_colour(dark)),
    'png palette': _encode(_colour(dark).convert('P')),
    'png 1 bit': _encode(Image.fromarray(dark).convert('1')),
    'png 16 bit': _encode(dark.astype(np.uint16) * 100 + 300),
    'png alpha': _encode(transparent),
    'png light ink on alpha': _encode(light_on_transparent),
    'png grey and alpha': _encode(transparent.convert('LA')),
    'tiff 16 bit': _encode(dark.astype(np.uint16) * 257, 'TIFF'),
    'tiff float': _encode(dark.astype(np.float32) / 255, 'TIFF'),
    'tiff cmyk': _encode(_colour(dark).convert('CMYK'), 'TIFF'),
    'bmp': _encode(_colour(dark), 'BMP'),
    'gif': _encode(dark, 'GIF'),
    'webp': _encode(_colour(dark), 'WEBP', lossless=True),
  }
  for name, content in contents.items():
    np.testing.assert_array_equal(prepare.prepare([image_files.decode(content)]), expected, err_msg=name)
  for content in (_encode(dark, 'JPEG', quality=95), phone.getvalue()):
    assert np.abs(prepare.prepare([image_files.decode(content)]).astype(int) - expected).mean() < 2


def test_large_pictures_are_reduced():
  large = np.kron(255 - _seven(), np.ones((60, 60), np.uint8))
  for content in (_encode(large), _encode(large.astype(np.uint16) * 257), _encode(large, 'JPEG')):
    grey = image_files.decode(content)
    assert max(grey.shape) <= 2 * 1600
    assert np.abs(prepare.prepare([grey]).astype(int) - prepare.prepare([_seven()])).mean() < 2


def test_large_pictures_of_16_bits_take_little_memory():
  content = _encode(np.kron(255 - _seven(), np.ones((60, 60))).astype(np.uint16) * 257, compress_level=1)
  tracemalloc.start()
  image_files.decode(content)
  _, peak = tracemalloc.get_traced_memory()  # Of NumPy; Pillow's own is four bytes a pixel.
  tracemalloc.stop()
  assert peak < 6 * 3600**2


def _bomb(width, height):
  """A PNG whose header promises more than its few bytes hold."""
  content = bytearray(_encode(np.zeros((4, 4), np.uint8)))
  content[16:24] = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
  import zlib

  content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, 'big')
  return bytes(content)


def _animation(kind):
  frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (0, 255)]
  return _encode(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'x is empty'),
    (b'GIF', 'x is not an image'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'x is not an image'),
    (_encode(_seven())[:100], 'x is damaged'),
    (_encode(_seven(), 'JPEG')[:300], 'x is damaged'),
    (_bomb(20_000, 20_000), 'x has too many pixels: reduce it to at most 64,000,000.'),
    (_bomb(9_000, 9_000), 'It has 9,000 x 9,000.'),
    (_animation('GIF'), 'x has 2 frames or pages'),
    (_animation('WEBP'), 'x has 2 frames or pages'),
    (_animation('PNG'), 'x has 2 frames or pages'),
    (_animation('TIFF'), 'x has 2 frames or pages'),
  ],
)
def test_what_is_no_picture_is_one_sentence(content, message):
  with pytest.raises(errors.DigitsError) as caught:
    image_files.decode(content, name='x')
  assert message in str(caught.value)
  assert '\n' not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
  for path, message in ((tmp_path, 'Is a directory'), (tmp_path / 'none.png', 'No such file'), ('a\0b', 'null')):
    with pytest.raises(errors.DigitsError, match=message):
      image_files.read(path)
  path = tmp_path / 'a name, with ünicode.png'
  path.write_bytes(_encode(_seven()))
  np.testing.assert_array_equal(image_files.read(path).image, _seven())
  monkeypatch.setattr(image_files, 'MAX_BYTES', 10)
  with pytest.raises(errors.DigitsError, match='too large'):
    image_files.read(path)


def test_mutated_files_give_a_picture_or_one_sentence(capfd):
  """DIGITS_FUZZ=1000 makes it longer."""
  rng = np.random.default_rng(0)
  originals = [_encode(_colour(_seven()), kind) for kind in ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF', 'GIF')] + [
    _encode(_seven(), 'TIFF', compression='tiff_lzw'),
    _encode(_colour(_seven()).convert('P')),
  ]
  refused = 0
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for i in range(int(os.environ.get('DIGITS_FUZZ', '160'))):
      content = bytearray(originals[i % len(originals)])
      for position in rng.integers(0, min(len(content), 400) if i % 2 else len(content), rng.integers(1, 8)):
        content[position] = rng.integers(256)
      if i % 5 == 0:
        del content[rng.integers(len(content)) :]
      try:
        prepare.prepare([image_files.decode(bytes(content))])
      except errors.DigitsError as error:
        refused += 1
        assert '\n' not in str(error)
  assert refused > 10
  assert 'Traceback' not in capfd.readouterr().err
