"""Transforms against SciPy and closed forms, pictures of no digit, and linear probes."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, optimize, special

from digits import data
from digits.data import outliers
from digits.explain import probes, transforms, unknown
from digits.train import step as step_lib


@pytest.fixture(scope='module')
def pictures(mnist):
  return mnist.test.image[:60]


def generator(seed=0):
  return np.random.default_rng(seed)


def ways_taken(changed, expected):
  """How many images became each of the expected ones, after checking that every one became one of them."""
  distances = np.stack([np.abs(changed.astype(float) - way).max((1, 2, 3)) for way in expected])
  assert distances.min(0).max() <= 0.51  # Rounding.
  return np.bincount(distances.argmin(0), minlength=len(expected))


# Transforms.


def test_nothing_changes_at_the_least_strength(pictures):
  noise = generator().integers(0, 256, (20, 28, 28, 1)).astype(np.uint8)
  for images in (pictures, noise, noise[:0]):
    np.testing.assert_array_equal(transforms.shift(images, 0, generator()), images)
    np.testing.assert_array_equal(transforms.rotate(images, 0, generator()), images)
    np.testing.assert_array_equal(transforms.rescale(images, 1.0), images)
  assert transforms.SHIFTS[0] == transforms.ROTATIONS[0] == 0
  assert 1.0 in transforms.SCALES


@pytest.mark.parametrize('pixels', [1, 4, 6])
def test_a_shift_by_whole_pixels_is_a_roll_with_zeros(pixels):
  images = generator(1).integers(1, 256, (60, 28, 28, 1)).astype(np.uint8)  # Ink up to the edges.
  padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
  expected = [
    np.roll(padded, by, (1, 2))[:, pixels:-pixels, pixels:-pixels]
    for by in ((pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels))
  ]
  shifted = transforms.shift(images, pixels, generator())
  counts = ways_taken(shifted, expected)
  assert counts.min() > 5
  np.testing.assert_array_equal(shifted, transforms.shift(images, pixels, generator()))
  assert not np.array_equal(shifted, transforms.shift(images, pixels, generator(1)))


def test_a_shift_by_half_a_pixel_is_that_of_scipy(pictures):
  expected = [
    ndimage.shift(pictures.astype(float), (0, *by, 0), order=1, mode='grid-constant')
    for by in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
  ]
  assert ways_taken(transforms.shift(pictures, 0.5, generator()), expected).min() > 5


@pytest.mark.parametrize('degrees', [10, 37.5, 60])
def test_a_rotation_is_that_of_scipy_either_way(pictures, degrees):
  expected = [
    ndimage.rotate(pictures.astype(float), angle, axes=(1, 2), reshape=False, order=1, mode='grid-constant')
    for angle in (degrees, -degrees)
  ]
  assert ways_taken(transforms.rotate(pictures, degrees, generator()), expected).min() > 15


def test_a_quarter_turn_moves_pixels_to_pixels(pictures):
  expected = [np.rot90(pictures, times, axes=(1, 2)) for times in (1, 3)]
  assert ways_taken(transforms.rotate(pictures, 90, generator()), expected).min() > 15


@pytest.mark.parametrize('factor', [0.5, 0.8, 1.3])
def test_a_change_of_size_reads_at_the_inverse_distance_from_the_centre(pictures, factor):
  rows, columns = (np.mgrid[:28, :28] - 13.5) / factor + 13.5
  expected = [
    ndimage.map_coordinates(image[..., 0].astype(float), [rows, columns], order=1, mode='grid-constant')
    for image in pictures
  ]
  ways_taken(transforms.rescale(pictures, factor), [np.stack(expected)[..., None]])


def test_half_and_double_size_in_closed_form():
  square = np.zeros((1, 28, 28, 1), np.uint8)
  square[:, 10:18, 8:20] = 200
  small, large = transforms.rescale(square, 0.5)[0, ..., 0], transforms.rescale(square, 2.0)[0, ..., 0]
  assert np.argwhere(small == 200).tolist() == [[row, column] for row in range(12, 16) for column in range(11, 17)]
  assert np.count_nonzero(small) == 4 * 6
  assert large[7:21, 3:25].min() == 200  # From 6 to 22 and from 2 to 26, with soft edges.
  assert not large[[4, 23]].any()
  assert not large[:, [0, 27]].any()


# Pictures of no digit.


@pytest.mark.parametrize('kind', unknown.KINDS)
def test_pictures_are_a_function_of_the_seed_and_their_number(kind, mnist):
  drawn = unknown.draw_unknown(kind, 6, mnist.test, 3)
  assert (drawn.shape, drawn.dtype) == ((6, 28, 28, 1), np.uint8)
  np.testing.assert_array_equal(drawn[:4], unknown.draw_unknown(kind, 4, mnist.test, 3))
  assert (drawn != unknown.draw_unknown(kind, 6, mnist.test, 4)).any((1, 2, 3)).all()
  assert len({image.tobytes() for image in drawn}) == 6
  assert unknown.draw_unknown(kind, 0, mnist.test, 3).shape == (0, 28, 28, 1)


@pytest.mark.parametrize(('kind', 'source'), [('letters', 'letter'), ('signs', 'sign'), ('patches', 'slice')])
def test_each_kind_is_drawn_by_its_name(kind, source, mnist, monkeypatch):
  asked = []

  def note(rng, name, split):
    asked.append((name, split))
    return np.ones((140, 140), np.float32)

  monkeypatch.setattr(outliers, 'draw_outlier', note)
  unknown.draw_unknown(kind, 3, mnist.test, 0)
  assert [name for name, _ in asked] == [source] * 3
  assert all(split is mnist.test for _, split in asked)


def test_noise_has_the_histogram_of_the_split_and_no_form(mnist):
  noise, pixels = unknown.draw_unknown('noise', 500, mnist.test, 0), mnist.test.image
  for level in (0, 253, 254):
    share = (pixels == level).mean()
    assert (noise == level).mean() == pytest.approx(share, abs=5 * np.sqrt(share / noise.size))
  assert noise.mean() == pytest.approx(pixels.mean(), rel=0.02)
  assert noise.mean(0).std() < 0.1 * pixels.mean(0).std()  # Everywhere alike.
  neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
  assert neighbours == pytest.approx(0, abs=0.01)


def test_another_kind_is_refused(mnist):
  with pytest.raises(ValueError, match="'cats' is not one of the kinds letters, signs, noise, patches"):
    unknown.draw_unknown('cats', 1, mnist.test, 0)


def test_scores_by_hand():
  scores = unknown.scores(np.array([[0.0, np.log(3.0)], [1000.0, 1000.0], [-5.0, -5.0]], np.float32))
  np.testing.assert_allclose(scores.probability, [0.75, 0.5, 0.5])
  np.testing.assert_allclose(scores.energy, [np.log(4), 1000 + np.log(2), -5 + np.log(2)], rtol=1e-6)


# Probes.


class Inner(nn.Module):
  @nn.compact
  def __call__(self, x):
    self.sow('intermediates', 'half_active', x / 2)
    return x


class Talkative(nn.Module):
  """Sows in an order that is not that of the alphabet, in a layer within another, and what is no layer."""

  num_classes: int = 2

  @nn.compact
  def __call__(self, image):
    self.sow('intermediates', 'zeta_active', 3 * image[:, ::2])
    x = Inner(name='inner')(image)
    self.sow('intermediates', 'loss', jnp.sum(x))
    x = jnp.sum(x, (1, 2))
    self.sow('intermediates', 'alpha_active', x.astype(jnp.bfloat16))
    return jnp.tile(x, (1, 2))


def test_features_are_what_the_model_sows_in_the_order_of_its_layers():
  images = generator().integers(0, 256, (3, 4, 5, 1)).astype(np.uint8)
  features = probes.layer_features(Talkative(), {}, images)
  assert list(features) == ['pixels', 'zeta', 'inner.half', 'alpha']
  assert {values.dtype for values in features.values()} == {np.dtype(np.float32)}
  pixels = images / np.float32(255)
  np.testing.assert_allclose(features['pixels'], pixels.reshape(3, 20), rtol=1e-6)
  np.testing.assert_allclose(features['zeta'], 3 * pixels[:, ::2].reshape(3, 10), rtol=1e-6)
  np.testing.assert_allclose(features['inner.half'], pixels.reshape(3, 20) / 2, rtol=1e-6)
  np.testing.assert_allclose(features['alpha'], pixels.sum((1, 2)), rtol=0.01)


def test_features_of_many_batches_are_those_of_the_model(quick_run, mnist):
  images = mnist.test.image[:1100]  # Two whole batches, and a part of one.
  features = probes.layer_features(quick_run.model, quick_run.variables, images)
  pixels = step_lib.normalize(images)
  _, state = quick_run.model.apply(quick_run.variables, pixels, mutable='intermediates')
  assert [values.shape for values in features.values()] == [(1100, 784), (1100, 100)]
  np.testing.assert_array_equal(features['pixels'], np.reshape(pixels, (1100, 784)))
  (sown,) = jax.tree.leaves(state)
  np.testing.assert_allclose(list(features.values())[1], sown, atol=1e-5)


def _clouds(count, num_classes, distance, seed):
  rng = generator(seed)
  labels = rng.integers(0, num_classes, count).astype(np.int32)
  features = distance * np.eye(num_classes)[labels] + rng.normal(size=(count, num_classes))
  # Units differ widely, and one feature never changes.
  scaled = features * np.logspace(-2, 2, num_classes) + np.logspace(2, -2, num_classes)
  return np.column_stack([scaled, np.full(count, 7.0)]).astype(np.float32), labels


def test_a_probe_of_clouds_is_as_good_as_the_rule_of_bayes():
  train, test = _clouds(3000, 4, 2.0, 0), _clouds(3000, 4, 2.0, 1)
  features = (test[0][:, :4] - np.logspace(2, -2, 4)) / np.logspace(-2, 2, 4)
  best = features.argmax(1) == test[1]  # The nearest centre.
  assert 0.75 < best.mean() < 0.9
  assert probes.probe_accuracy(*train, *test, 4) == pytest.approx(best.mean(), abs=0.02)


def test_a_probe_is_the_minimum_of_its_loss(mnist):
  features, labels = mnist.train.image[:200].reshape(200, 784)[:, 300:500] / np.float32(255), mnist.train.label[:200]
  standard = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)

  def loss(flat):
    weights, bias = flat[:-10].reshape(-1, 10), flat[-10:]
    log_probs = special.log_softmax(standard @ weights + bias, axis=-1)
    error = (np.exp(log_probs) - np.eye(10)[labels]) / len(labels)
    gradient = [standard.T @ error + 0.01 * weights, error.sum(0)]
    value = -log_probs[np.arange(200), labels].mean() + 0.005 * np.sum(weights**2)
    return value, np.concatenate([part.ravel() for part in gradient])

  least = optimize.minimize(loss, np.zeros(2010), jac=True, method='L-BFGS-B').fun
  weights, bias = probes._fit(standard.astype(np.float32), labels, 10)
  found, _ = loss(np.concatenate([np.ravel(weights), bias]).astype(np.float64))
  assert least <= found + 1e-6 <= 1.01 * least


def test_the_probe_of_a_layer_is_better_than_that_of_the_pixels(quick_run, mnist):
  train, test = (data.Split(split.image[:1500], split.label[:1500]) for split in (mnist.train, mnist.test))
  features = [probes.layer_features(quick_run.model, quick_run.variables, split.image) for split in (train, test)]
  pixels, layer = (
    probes.probe_accuracy(features[0][name], train.label, features[1][name], test.label, 10) for name in features[0]
  )
  assert 0.78 < pixels < 0.88
  assert layer > 0.93
