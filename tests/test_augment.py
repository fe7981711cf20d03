import functools

import hypothesis
from hypothesis import strategies
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from digits import errors
from digits.train import augment


def _images(count=6):
  return jnp.asarray(np.random.default_rng(0).random((count, 28, 28, 1)), jnp.float32)


def test_shifts_by_no_pixels_change_nothing():
  np.testing.assert_array_equal(augment.random_shift(jax.random.key(0), _images(), max_pixels=0), _images())


def test_every_shift_is_within_bounds_and_fills_with_paper():
  image = jnp.zeros((1, 28, 28, 1)).at[0, 13, 13, 0].set(1.0)
  batch = jnp.tile(image, (2000, 1, 1, 1))
  shifted = np.asarray(jax.jit(lambda key: augment.random_shift(key, batch, max_pixels=2))(jax.random.key(3)))
  assert set(shifted.sum((1, 2, 3))) == {1.0}
  rows, columns = np.nonzero(shifted.sum((0, 3)))
  assert {*zip(rows.tolist(), columns.tolist(), strict=True)} == {
    (13 + y, 13 + x) for y in range(-2, 3) for x in range(-2, 3)
  }
  counts = shifted.sum((0, 3))[11:16, 11:16]
  assert counts.min() > 40  # 80 expected of each of 25; 40 is four and a half deviations off.


def test_what_leaves_the_frame_is_gone():
  shifted = np.asarray(augment.random_shift(jax.random.key(1), jnp.ones((200, 28, 28, 1)), max_pixels=3))
  assert {*np.unique(shifted).tolist()} == {0.0, 1.0}
  assert shifted.sum((1, 2, 3)).min() >= 25 * 25


def test_an_image_does_not_depend_on_the_part_of_the_batch_that_it_is_in():
  images, key = _images(), jax.random.key(7)
  whole = augment.augment_each(augment.random_shift, key, images)
  parts = [augment.augment_each(augment.random_shift, key, images[start : start + 2], start) for start in (0, 2, 4)]
  np.testing.assert_array_equal(whole, np.concatenate(parts))
  assert not np.array_equal(whole, images)


def test_a_registered_function_is_known_to_configs(monkeypatch):
  monkeypatch.setitem(augment.AUGMENTATIONS, 'dim', None)  # So that it is gone afterwards.

  @augment.register_augmentation('dim')
  def dim(key, images, *, by: float, times: int = 1):
    return images * by**times

  made = augment.make_augment({'name': 'dim', 'by': 0.5, 'times': 2})
  np.testing.assert_allclose(made(jax.random.key(0), _images()), 0.25 * _images())
  assert augment.make_augment({'name': 'none'}) is None


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ({'name': 'wiggle'}, "config.augment.name='wiggle' is not a registered augmentation"),
    (
      {'name': 'random_shift', 'max_pixels': 1.5},
      'config.augment.max_pixels=1.5 is not allowed: it must be an',
    ),
    ({'name': 'random_shift', 'pixels': 2}, 'config.augment.pixels is unknown'),
    ({'name': 'none', 'max_pixels': 2}, 'config.augment.max_pixels is unknown: the fields are none'),
  ],
)
def test_wrong_augmentations_are_one_sentence(spec, message):
  with pytest.raises(errors.UsageError, match=message):
    augment.make_augment(spec)


def _blob():
  """A smooth picture in the middle of the frame, far from its border."""
  rows, columns = np.mgrid[:28, :28]
  picture = np.exp(-((rows - 12) ** 2) / 18 - (columns - 15) ** 2 / 8) + np.exp(
    -((rows - 17) ** 2 + (columns - 11) ** 2) / 6
  )
  return jnp.asarray(picture / picture.max(), jnp.float32)


DISTORTIONS = {
  'affine': {'rotation': 0.0, 'scale': 0.0, 'shear': 0.0, 'shift': 0.0},
  'elastic': {'pixels': 0.0},
  'thickness': {'pixels': 0.0},
  'erase': {'side': 0},
  'distort': {},
}


@pytest.mark.parametrize('name', DISTORTIONS)
def test_nothing_changes_at_strength_0(name):
  unchanged = augment.make_augment({'name': name, **DISTORTIONS[name]})(jax.random.key(0), _images())
  np.testing.assert_array_equal(unchanged, _images())


@pytest.mark.parametrize('name', ['affine', 'elastic', 'thickness', 'erase'])
def test_each_image_is_changed_in_its_own_way_and_stays_within_0_and_1(name):
  change = augment.make_augment({'name': name})
  same = jnp.tile(_blob()[None, ..., None], (8, 1, 1, 1))
  changed = np.asarray(jax.jit(change)(jax.random.key(4), same))
  assert changed.shape == same.shape
  assert len({image.tobytes() for image in changed}) == 8
  assert changed.min() >= 0
  assert changed.max() <= 1
  np.testing.assert_array_equal(changed, jax.jit(change)(jax.random.key(4), same))
  assert not np.array_equal(changed, jax.jit(change)(jax.random.key(5), same))


def test_jit_vmap_and_parts_of_a_batch_agree():
  change = functools.partial(
    augment.distort, rotation=15.0, scale=0.1, shear=0.2, shift=2.0, elastic=1.0, thickness=0.5, erase_side=6
  )
  images, key = _images(), jax.random.key(7)
  whole = augment.augment_each(change, key, images)
  np.testing.assert_allclose(jax.jit(functools.partial(augment.augment_each, change))(key, images), whole, atol=1e-5)
  parts = [augment.augment_each(change, key, images[start : start + 3], start) for start in (0, 3)]
  np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


@hypothesis.given(
  angle=strategies.floats(-180, 180),
  scale=strategies.tuples(strategies.floats(0.7, 1.4), strategies.floats(0.7, 1.4)),
  shear=strategies.floats(-0.4, 0.4),
  shift=strategies.tuples(strategies.floats(-4, 4), strategies.floats(-4, 4)),
)
@hypothesis.settings(max_examples=30, deadline=None)
def test_affine_maps_agree_with_scipy(angle, scale, shear, shift):
  turn = np.deg2rad(angle)
  # From an image to what becomes of it, each map as its definition has it: scale, then slant, then turn. Rows go down.
  stretch = np.diag(scale)
  slant = np.array([[1, 0], [-shear, 1]])  # A row further up, with a smaller number, is moved to the right.
  rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
  matrix = np.linalg.inv(rotate @ slant @ stretch)
  centre = np.array([13.5, 13.5])
  expected = ndimage.affine_transform(
    np.pad(np.asarray(_blob(), np.float64), 1), matrix, centre + 1 - matrix @ (centre + 1 + np.array(shift)), order=1
  )[1:-1, 1:-1]
  rows, columns = augment.affine_source(28, 28, angle=turn, scale=scale, shear=shear, shift=shift)
  np.testing.assert_allclose(augment.sample_bilinear(_blob(), rows, columns), expected, atol=2e-5)


def test_a_quarter_turn_is_counterclockwise_and_a_shift_goes_down_and_right():
  image = np.zeros((28, 28), np.float32)
  image[3, 20] = 1
  turned = augment.sample_bilinear(jnp.asarray(image), *augment.affine_source(28, 28, angle=np.pi / 2))
  np.testing.assert_allclose(turned, np.rot90(image), atol=1e-5)
  moved = augment.sample_bilinear(jnp.asarray(image), *augment.affine_source(28, 28, shift=(2.0, 5.0)))
  np.testing.assert_allclose(moved, np.roll(image, (2, 5), (0, 1)), atol=1e-6)


def test_sampling_between_pixels_agrees_with_scipy_and_is_paper_outside():
  rng = np.random.default_rng(1)
  image = rng.random((28, 28)).astype(np.float32)
  places = rng.uniform(-6, 34, (2, 28, 28)).astype(np.float32)
  expected = ndimage.map_coordinates(np.pad(image, 10), places + 10, order=1)
  np.testing.assert_allclose(augment.sample_bilinear(jnp.asarray(image), *jnp.asarray(places)), expected, atol=1e-5)


def test_the_field_passes_through_the_nodes_and_keeps_constants():
  nodes = jax.random.normal(jax.random.key(0), (2, 7, 7))
  field = augment.smooth_field(nodes, 28, 28)
  assert field.shape == (2, 28, 28)
  # Nodes lie in the middle of cells of 4x4 pixels, so that the four pixels around each surround its value.
  around = np.asarray(field).reshape(2, 7, 4, 7, 4)[:, :, 1:3, :, 1:3].mean((2, 4))
  np.testing.assert_allclose(around, nodes, atol=0.25)
  np.testing.assert_allclose(augment.smooth_field(jnp.ones((1, 5, 5)), 28, 28), 1, atol=1e-5)


def test_no_ink_is_lost_inside_the_frame():
  many = jnp.tile(_blob()[None, ..., None], (200, 1, 1, 1))
  before = float(_blob().sum())
  for change in (
    functools.partial(augment.affine, rotation=15.0, scale=0.0, shear=0.2, shift=2.0),
    functools.partial(augment.elastic, pixels=0.9),
  ):
    ink = np.asarray(change(jax.random.key(0), many)).sum((1, 2, 3))
    assert abs(ink.mean() / before - 1) < 0.03
  rigid = augment.affine(jax.random.key(0), many, rotation=180.0, scale=0.0, shear=0.0, shift=2.0)
  np.testing.assert_allclose(np.asarray(rigid).sum((1, 2, 3)), before, rtol=0.01)


def test_strokes_grow_and_shrink_by_a_pixel():
  image = np.zeros((28, 28), np.float32)
  image[8:20, 12:15] = 1
  expected = {1.0: ndimage.grey_dilation, -1.0: ndimage.grey_erosion}
  cross = ndimage.generate_binary_structure(2, 1)
  for pixels, function in expected.items():
    np.testing.assert_array_equal(
      augment.change_thickness(jnp.asarray(image), pixels), function(image, footprint=cross, mode='constant')
    )
  half = augment.change_thickness(jnp.asarray(image), 0.5)
  np.testing.assert_allclose(half, (image + ndimage.grey_dilation(image, footprint=cross, mode='constant')) / 2)


def test_a_patch_is_erased_in_the_share_of_images_that_is_asked_for():
  ones = jnp.ones((2000, 28, 28, 1))
  erased = np.asarray(augment.erase(jax.random.key(2), ones, side=5, probability=0.3))[..., 0]
  holes = (erased == 0).sum((1, 2))
  assert abs((holes > 0).mean() - 0.3) < 0.05
  assert holes.max() == 25
  assert (holes[holes > 0] >= 6).all()  # A corner of it is inside at least: 2 by 3 pixels of 5 by 5, or more.
  rows, columns = np.nonzero((erased == 0).any(0))
  assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 27, 0, 27)
