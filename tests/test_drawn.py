"""What is drawn: digits in every style, pictures of no digit, and the dataset that they make with MNIST."""

import logging

import conftest
import numpy as np
import pytest

import digits
from digits import data, errors
from digits.data import arrays, drawn, outliers, pen, reading
from digits.handwriting import predict
from digits.train import recipe, runs

STYLES = [(digit, style) for digit in range(10) for style in drawn.styles_of(digit)]


def _is_like_mnist(images):
  """Ink of full strength, in a box of 20 pixels, with its centre of mass in the middle where the box allows that."""
  for image in images[..., 0]:
    rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
    assert image.max() == 255
    assert max(np.ptp(rows), np.ptp(columns)) < 20


@pytest.mark.parametrize(('digit', 'style'), STYLES)
def test_digits_of_every_style_are_ink_in_the_box(digit, style):
  images = pen.prepare(drawn.draw_digit(np.random.default_rng((digit, n)), digit, style) for n in range(3))
  assert (images.shape, images.dtype) == ((3, 28, 28, 1), np.uint8)
  _is_like_mnist(images)
  assert (images > 128).sum((1, 2, 3)).min() > 15
  assert not np.array_equal(images[0], images[1])


def test_digits_are_a_function_of_the_seed_and_their_number():
  one, more = drawn.draw_digits(3, 20), drawn.draw_digits(3, 25)
  assert one.label.tolist() == [*range(10), *range(10)]
  assert one.label.dtype == np.int32
  np.testing.assert_array_equal(one.image, more.image[:20])
  assert (drawn.draw_digits(4, 20).image != one.image).any((1, 2, 3)).all()


def test_no_style_is_left_out():
  drawn_styles = set()

  def note(rng, digit, style):
    drawn_styles.add((digit, style))
    return np.ones((pen.SIDE, pen.SIDE), np.float32)

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(drawn, 'draw_digit', note)
    drawn.draw_digits(0, 70)
  assert drawn_styles == set(STYLES)


def test_drawn_digits_are_read_by_a_network_that_has_seen_only_mnist(quick_run):
  split = drawn.draw_digits(0, 200)
  right = predict.apply_batched(quick_run, split.image).argmax(1) == split.label
  assert right.mean() > 0.8


@pytest.mark.parametrize('kind', outliers.KINDS)
def test_pictures_of_no_digit_of_every_kind(kind, mnist):
  inks = [outliers.draw_outlier(np.random.default_rng(n), kind, mnist.train) for n in range(4)]
  images = pen.prepare(inks)
  _is_like_mnist(images)
  np.testing.assert_array_equal(inks[0], outliers.draw_outlier(np.random.default_rng(0), kind, mnist.train))
  assert not np.array_equal(images[0], images[1])


def test_pictures_of_no_digit_say_so(mnist):
  split = outliers.draw_outliers(5, 12, mnist.train)
  assert (split.image.shape, split.image.dtype) == ((12, 28, 28, 1), np.uint8)
  assert split.label.tolist() == [-1] * 12
  assert split.label.dtype == np.int32
  np.testing.assert_array_equal(split.image, outliers.draw_outliers(5, 12, mnist.train).image)


def test_what_looks_like_a_one_is_drawn_again():
  upright = np.zeros((140, 140), np.float32)
  upright[20:120, 60:75] = 1
  assert outliers._is_upright_line(upright)
  assert not outliers._is_upright_line(upright.T)
  two = upright + np.roll(upright, 30, 1)
  assert not outliers._is_upright_line(two)
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setitem(outliers.KINDS, 'line', (1.0, lambda rng, digits: upright))
    ink = outliers.draw_outlier(np.random.default_rng(0), 'line', drawn.draw_digits(0, 1))
  assert not outliers._is_upright_line(ink)


@pytest.fixture
def few(monkeypatch):
  """Few pictures, so that the dataset is drawn in a moment."""
  monkeypatch.setattr(reading, 'NUM_DRAWN', 30)
  monkeypatch.setattr(reading, 'NUM_OUTLIERS', 20)


def test_the_dataset_is_drawn_pictures_and_then_mnist(few, data_dir):
  dataset = data.load_dataset('reading', data_dir, num_validation=60)
  mnist = data.load_dataset('mnist', data_dir, num_validation=60)
  assert len(dataset.train.label) == 50 + conftest.NUM_TRAIN - 60
  assert dataset.train.label[:30].tolist() == [*range(10)] * 3
  assert dataset.train.label[30:50].tolist() == [arrays.NO_DIGIT] * 20
  np.testing.assert_array_equal(dataset.train.image[50:], mnist.train.image)
  np.testing.assert_array_equal(dataset.train.label[50:], mnist.train.label)
  for split, same in ((dataset.valid, mnist.valid), (dataset.test, mnist.test)):
    np.testing.assert_array_equal(split.image, same.image)
    np.testing.assert_array_equal(split.label, same.label)


def test_it_is_drawn_once_and_again_where_the_cache_is_damaged(few, data_dir, caplog, monkeypatch):
  good = data.load_dataset('reading', data_dir, num_validation=60)
  path = data_dir / 'digits_reading' / 'arrays.npz'
  content = path.read_bytes()
  with monkeypatch.context() as patch:
    patch.setattr(reading, 'make_splits', None)
    np.testing.assert_array_equal(
      data.load_dataset('reading', data_dir, num_validation=60).train.image, good.train.image
    )
  path.write_bytes(content[:5000] + bytes([content[5000] ^ 4]) + content[5001:])
  with caplog.at_level(logging.WARNING):
    again = data.load_dataset('reading', data_dir, num_validation=60)
  assert str(path) in caplog.text
  for split, same in zip(again, good, strict=True):
    np.testing.assert_array_equal(split.image, same.image)
    np.testing.assert_array_equal(split.label, same.label)
  assert len(path.read_bytes()) == len(content)


def test_it_is_validated_by_mnist_only(few, data_dir):
  with pytest.raises(errors.UsageError, match='config.num_validation=301 is more than the images of MNIST'):
    data.load_dataset('reading', data_dir, num_validation=301)


@pytest.mark.parametrize(('dataset', 'split', 'message'), [('mnist', 'train', 'train'), ('reading', 'test', 'test')])
def test_no_digit_is_a_label_of_its_training_images_alone(dataset, split, message):
  digit, none = (arrays.Split(np.zeros((1, 28, 28, 1), np.uint8), np.array([n], np.int32)) for n in (0, -1))
  arrays.check_splits({'train': none, 'test': digit}, 'reading')
  with pytest.raises(ValueError, match=f'the {message} labels are not int32 digits'):
    arrays.check_splits({'train': digit, 'test': digit, split: none}, dataset)


def test_a_run_on_it_trains_and_is_tested_on_digits(few, data_dir, tiny_config, tmp_path):
  config = tiny_config('mlp', dataset='reading', data_dir=str(data_dir), label_smoothing=0.1)
  results = digits.run(config, tmp_path / 'run')
  assert (results['dataset'], results['test']['examples']) == ('reading', conftest.NUM_TEST)
  assert results['test']['accuracy'] > 0.9
  dataset, run = data.load_dataset('reading', data_dir, num_validation=60), runs.load_run(tmp_path / 'run')
  scores = digits.evaluate_split(run.variables, dataset.train, model=run.model)
  assert scores['examples'] == 30 + conftest.NUM_TRAIN - 60  # Of the others no answer is right.


def test_streaming_it_is_refused(few, data_dir, tiny_config):
  config = tiny_config('mlp', dataset='reading', data_dir=str(data_dir), loader='grain')
  dataset = data.load_dataset('reading', data_dir, num_validation=60)
  with pytest.raises(errors.UsageError, match="config.loader='grain' reads the records of TFDS, and reading has none"):
    recipe.check_recipe(config, dataset)
