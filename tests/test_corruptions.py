"""The corruptions of MNIST-C: literal values where there are any, and implementations written another way."""

import numpy as np
import pytest
from scipy import ndimage, stats

from digits.data import corruptions
from digits.data.corruptions import AFFINE, CORRUPTIONS

GREY = np.full((200, 28, 28, 1), 102, np.uint8)
SQUARE = np.zeros((1, 28, 28, 1), np.uint8)
SQUARE[:, 9:19, 8:20] = 255
# What draws nothing, and so does the same to every image.
FIXED = ('brightness', 'stripe', 'canny_edges')


def corrupt(name, images, severity=1.0, seed=0):
  return CORRUPTIONS[name](np.random.default_rng(seed), images, severity)


@pytest.fixture(scope='module')
def digits_(mnist):
  return mnist.test.image[:300]


def test_there_are_fifteen_and_four_are_affine():
  assert list(CORRUPTIONS) == [
    *('shot_noise', 'impulse_noise', 'glass_blur', 'motion_blur', 'shear', 'scale', 'rotate', 'brightness'),
    *('translate', 'stripe', 'fog', 'spatter', 'dotted_line', 'zigzag', 'canny_edges'),
  ]
  assert len(set(CORRUPTIONS.values())) == 15
  assert set(AFFINE) < set(CORRUPTIONS)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_severity_0_changes_nothing(digits_, name):
  noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1)).astype(np.uint8)
  empty = np.zeros((1, 28, 28, 1), np.uint8)
  for images in (digits_, noise, empty):
    np.testing.assert_array_equal(corrupt(name, images, severity=0.0), images)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_a_generator_decides_what_is_drawn(digits_, name):
  before = digits_.copy()
  corrupted = corrupt(name, digits_)
  np.testing.assert_array_equal(digits_, before)
  np.testing.assert_array_equal(corrupt(name, digits_), corrupted)
  assert (corrupted.dtype, corrupted.shape) == (np.uint8, digits_.shape)
  assert np.any(corrupted != digits_, (1, 2, 3)).mean() > 0.98
  if name != 'scale':
    assert np.array_equal(corrupt(name, digits_, seed=1), corrupted) == (name in FIXED)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_more_severity_changes_more(digits_, name):
  changes = [np.abs(corrupt(name, digits_, severity).astype(int) - digits_).mean() for severity in (0.3, 0.6, 1.0)]
  assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_any_number_of_images_will_do(name):
  assert corrupt(name, SQUARE).shape == (1, 28, 28, 1)
  assert corrupt(name, SQUARE[:0]).shape == (0, 28, 28, 1)


def test_shot_noise_keeps_the_mean_and_counts_as_poisson_does():
  noisy = corrupt('shot_noise', GREY // 2) / 255
  assert set(np.unique(noisy * 3).round(2)) == {0, 1, 2, 3}  # More counts than at full ink are clipped, and rare.
  assert noisy.mean() == pytest.approx(0.2, abs=0.005)
  shares = [(noisy == count / 3).mean() for count in range(3)]
  np.testing.assert_allclose(shares, stats.poisson.pmf(range(3), 0.6), atol=0.005)
  assert not corrupt('shot_noise', np.zeros_like(GREY)).any()


@pytest.mark.parametrize('severity', [0.5, 1.0])
def test_impulse_noise_changes_its_share_of_the_pixels(severity):
  noisy = corrupt('impulse_noise', GREY, severity)
  assert (noisy != GREY).mean() == pytest.approx(0.17 * severity, abs=0.005)
  assert (noisy == 0).mean() == pytest.approx((noisy == 255).mean(), abs=0.005)


def test_glass_blur_moves_ink_but_a_few_pixels():
  blurred = corrupt('glass_blur', np.tile(SQUARE, (100, 1, 1, 1)))
  assert blurred.mean() == pytest.approx(SQUARE.mean(), rel=0.01)
  assert blurred[:, 13:16, 12:17].mean() > 230
  assert blurred[:, :3].mean() < 1
  even = corrupt('glass_blur', GREY)
  np.testing.assert_array_equal(even, GREY)


def test_motion_blur_draws_a_point_out_and_keeps_its_ink():
  point = np.zeros((100, 28, 28, 1), np.uint8)
  point[:, 14, 20] = 255
  trails = corrupt('motion_blur', point)
  totals = trails.sum((1, 2, 3), dtype=int)
  assert np.abs(totals - 255).max() <= 6  # Eleven rounded values.
  assert trails[:, 14, 20, 0].tolist() == [60] * 100  # 255 over the sum of exp(-(i / 3)**2 / 2), i from 0 to 10.
  _, rows, columns, _ = np.nonzero(trails)
  assert (columns.min(), columns.max()) == (11, 20)  # The last of the ten pixels has less than half a grey level.
  assert (np.abs(rows - 14) <= 20 - columns).all()


def test_a_rotation_by_a_quarter_turn_moves_pixels_to_pixels(digits_):
  turned = corrupt('rotate', digits_, severity=np.pi / 2 / 0.4)
  either_way = [np.rot90(digits_, times, axes=(1, 2)).astype(int) for times in (1, 3)]
  distance = np.min([np.abs(turned - turn).max((1, 2, 3)) for turn in either_way], 0)
  assert distance.max() <= 1
  assert 100 < sum(np.array_equal(a, b) for a, b in zip(turned, either_way[0], strict=True)) < 200


def sampled(image, source):
  """Reads an image where `source` says for each pixel; rows and columns are counted from the centre."""
  rows, columns = np.mgrid[:28, :28] - 13.5
  places = np.stack(source(rows, columns)) + 13.5
  return ndimage.map_coordinates(image[..., 0] / 255, places, order=1, mode='grid-constant') * 255


@pytest.mark.parametrize(
  ('name', 'sources'),
  [
    (
      'rotate',
      [lambda y, x, a=angle: (np.cos(a) * y + np.sin(a) * x, np.cos(a) * x - np.sin(a) * y) for angle in (-0.4, 0.4)],
    ),
    ('shear', [lambda y, x, a=angle: (np.cos(a) * y, x - np.sin(a) * y) for angle in (-0.4, 0.4)]),
    ('scale', [lambda y, x: (y / 0.7, x / 0.7)]),
    (
      'translate',
      [lambda y, x, down=down, right=right: (y + down, x + right) for down in (-3, 3) for right in (-3, 3)],
    ),
  ],
)
def test_affine_corruptions_are_those_of_another_implementation(digits_, name, sources):
  corrupted = corrupt(name, digits_[:60])
  counts = np.zeros(len(sources), int)
  for image, result in zip(digits_, corrupted, strict=False):
    distances = [np.abs(sampled(image, source) - result[..., 0]).max() for source in sources]
    assert min(distances) < 0.51
    counts[np.argmin(distances)] += 1
  assert counts.min() > 30 / len(sources)


def test_translation_moves_a_square_by_three_pixels():
  moved = corrupt('translate', np.tile(SQUARE, (40, 1, 1, 1)))
  expected = {np.roll(SQUARE[0], (y, x), (0, 1)).tobytes() for y in (-3, 3) for x in (-3, 3)}
  assert {image.tobytes() for image in moved} == expected


def test_brightness_adds_half_of_full_ink():
  images = np.arange(784, dtype=np.uint8).reshape(1, 28, 28, 1)
  np.testing.assert_array_equal(corrupt('brightness', images), np.minimum(images.astype(int) + 128, 255))


def test_stripe_inverts_seven_columns_at_either_side(digits_):
  expected = digits_.copy()
  expected[:, :, :7] = 255 - expected[:, :, :7]
  expected[:, :, 21:] = 255 - expected[:, :, 21:]
  np.testing.assert_array_equal(corrupt('stripe', digits_), expected)


def test_fog_veils_evenly_and_keeps_within_the_old_maximum(digits_):
  fogged = corrupt('fog', digits_).astype(int)
  assert (fogged.max((1, 2, 3)) <= digits_.max((1, 2, 3))).all()
  # A quarter of the contrast is left; the veil itself is smooth.
  veil = fogged - digits_ / 4
  assert np.abs(np.diff(veil, axis=1)).mean() < 8
  assert 64 < veil.mean() < 128


def test_plasma_fractals_are_rougher_where_the_noise_decays_less():
  rough, smooth = (corruptions._plasma(np.random.default_rng(0), 300, decay) for decay in (1.4, 2.0))
  for plasma in (rough, smooth):
    assert plasma.min() >= 0
    assert plasma.max() <= 1
    assert plasma.mean() == pytest.approx(0.5, abs=0.05)
  assert np.abs(np.diff(rough, 2)).mean() > 2 * np.abs(np.diff(smooth, 2)).mean()


def test_spatter_covers_with_dark_grey():
  spattered = corrupt('spatter', np.full_like(GREY, 255))
  assert set(np.unique(spattered)) <= {255, *range(62, 103)}  # A cover of 0.8 leaves 0.2 * 255 + 0.8 * 63 = 101.4.
  assert 0.03 < (spattered < 255).mean() < 0.4


def test_a_dotted_line_adds_only_ink_to_every_second_pair_of_columns(digits_):
  added = corrupt('dotted_line', digits_).astype(int) - digits_
  assert added.min() == 0
  has_ink = corrupt('dotted_line', np.zeros_like(digits_)).any((0, 1, 3))
  assert np.flatnonzero(has_ink).tolist() == [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26]


def test_a_zigzag_adds_only_ink_and_swings(digits_):
  assert (corrupt('zigzag', digits_) >= digits_).all()
  drawn = corrupt('zigzag', np.zeros((200, 28, 28, 1), np.uint8))[..., 0]
  assert not drawn[:, :, :1].any()
  assert not drawn[:, :, 27:].any()
  inside = drawn[[bool(image[5:-5].any() and not image[:2].any() and not image[-2:].any()) for image in drawn]]
  assert len(inside) > 50
  heights = np.argmax(inside, axis=1)[:, 4:23]  # Where each column has most ink.
  turns = np.count_nonzero(np.diff(np.sign(np.diff(heights[:, ::2], axis=1)), axis=1), axis=1)
  assert np.median(turns) >= 3


def test_canny_edges_of_a_square_are_its_outline():
  square = SQUARE[0, ..., 0] > 0
  edges = corrupt('canny_edges', SQUARE)[0, ..., 0] == 255
  # On either side of the step, for both are equally steep.
  assert not edges[~ndimage.binary_dilation(square)].any()
  assert not edges[ndimage.binary_erosion(square)].any()
  assert ndimage.label(edges, np.ones((3, 3)))[1] == 1
  assert not ndimage.binary_fill_holes(edges)[[0, -1]].any()
  assert ndimage.binary_fill_holes(edges)[10:18, 9:19].all()


def test_canny_edges_drop_what_is_faint_unless_it_joins_what_is_strong():
  # The gradient at an upright step is 2.5 times its height: from 0.04 ink it is 0.1, from 0.08 ink 0.2.
  def edges(upper, lower):
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[:, :14, 14:], image[:, 14:, 14:] = upper, lower
    return corrupt('canny_edges', image)[0, 2:-2, 13:15, 0].any(1)

  assert not edges(8, 8).any()
  assert not edges(15, 15).any()
  assert edges(25, 25).all()
  assert edges(15, 25).all()
  assert edges(8, 25).tolist() != [True] * 24
