import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
