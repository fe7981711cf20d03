import gzip
import logging
import multiprocessing
import resource

import conftest
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from digits import data, errors
from digits.data import views
from digits.data.mnist import builder as mnist


def test_bundled_archives_are_mnist():
  images = mnist.read_idx(mnist.ARCHIVES / 'train-images-idx3-ubyte.gz')
  labels = mnist.read_idx(mnist.ARCHIVES / 'train-labels-idx1-ubyte.gz')
  assert images.shape == (60000, 28, 28)
  assert images.mean() == pytest.approx(33.318421, abs=1e-6)
  assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
  assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_builder_keeps_values_and_order(prepared_data_dir, archives):
  dataset = data.load_dataset('mnist', prepared_data_dir, num_validation=60)
  images = mnist.read_idx(archives[0] / 'train-images-idx3-ubyte.gz')[..., None]
  labels = mnist.read_idx(archives[0] / 'train-labels-idx1-ubyte.gz')
  np.testing.assert_array_equal(np.concatenate([dataset.train.image, dataset.valid.image]), images)
  np.testing.assert_array_equal(np.concatenate([dataset.train.label, dataset.valid.label]), labels)
  assert len(dataset.valid.label) == 60
  assert len(dataset.test.label) == conftest.NUM_TEST
  assert (dataset.train.image.dtype, dataset.train.label.dtype) == (np.uint8, np.int32)


def test_splits_are_read_only_and_jax_computes_on_their_memory(prepared_data_dir):
  for split in data.load_dataset('mnist', prepared_data_dir, num_validation=61):
    with pytest.raises(ValueError, match='read-only'):
      split.image[0] = 0
    if jax.default_backend() == 'cpu':
      for array in split:
        assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_damaged_cache_is_noticed_or_harmless(prepared_data_dir, tmp_path_factory, seed):
  from digits.data import dataset

  good = dataset._read_cache(prepared_data_dir / 'digits_mnist' / 'arrays.npz', 'mnist')
  content = bytearray((prepared_data_dir / 'digits_mnist' / 'arrays.npz').read_bytes())
  rng = np.random.default_rng(seed)
  if rng.random() < 0.3:
    content = content[: rng.integers(len(content))]
  else:
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
  path = tmp_path_factory.mktemp('cache') / 'arrays.npz'
  path.write_bytes(content)
  read = dataset._read_cache(path, 'mnist')
  if read is not None:  # A bit of the zip file's own bookkeeping, such as a date.
    for split in good:
      np.testing.assert_array_equal(read[split].image, good[split].image)
      np.testing.assert_array_equal(read[split].label, good[split].label)


def test_damaged_cache_is_named_and_rebuilt(data_dir, synthetic_archives, caplog):
  path = data_dir / 'digits_mnist' / 'arrays.npz'
  good = path.read_bytes()
  path.write_bytes(good[:5000] + bytes([good[5000] ^ 4]) + good[5001:])
  with caplog.at_level(logging.WARNING):
    data.load_dataset('mnist', data_dir, num_validation=0)
  assert str(path) in caplog.text
  assert len(path.read_bytes()) == len(good)


def test_objects_in_a_cache_are_not_unpickled(data_dir, synthetic_archives, caplog):
  path = data_dir / 'digits_mnist' / 'arrays.npz'
  arrays = dict(np.load(path)) | {'test_label': np.array([object()])}
  np.savez(path, **arrays)
  with caplog.at_level(logging.WARNING):
    assert len(data.load_dataset('mnist', data_dir, num_validation=0).test.label) == conftest.NUM_TEST
  assert 'Object arrays cannot be loaded' in caplog.text


def test_a_home_directory_that_is_not_there(tmp_path):
  with pytest.raises(errors.UsageError, match='config.data_dir.*~nobody-here'):
    data.load_dataset('mnist', '~nobody-here/data')


def _flip(path, offset):
  content = bytearray(path.read_bytes())
  content[offset] ^= 16
  path.write_bytes(content)


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'delete', 'metadata', 'count', 'no_metadata'])
def test_damaged_prepared_dataset_is_named_and_prepared_again(data_dir, synthetic_archives, damage, caplog):
  good = data.load_dataset('mnist', data_dir, num_validation=0)
  directory = data_dir / 'digits_mnist'
  (directory / 'arrays.npz').unlink()
  (records,) = directory.glob('*/*train.array_record*')
  (metadata,) = directory.glob('*/dataset_info.json')
  if damage == 'flip':
    _flip(records, 40000)
  elif damage == 'truncate':
    records.write_bytes(records.read_bytes()[:10000])
  elif damage == 'delete':
    records.unlink()
  elif damage == 'count':
    content = metadata.read_text()
    assert '"300"' in content
    metadata.write_text(content.replace('"300"', '"100"'))
  elif damage == 'metadata':
    metadata.write_bytes(metadata.read_bytes()[:50])
  else:
    metadata.unlink()
  with caplog.at_level(logging.WARNING):
    again = data.load_dataset('mnist', data_dir, num_validation=0)
  assert f'The prepared dataset in {directory} is damaged' in caplog.text
  np.testing.assert_array_equal(again.train.image, good.train.image)


@pytest.mark.parametrize('damage', ['altered', 'truncated'])
def test_wrong_archive_is_refused(synthetic_archives, tmp_path, damage):
  path = synthetic_archives / 'train-images-idx3-ubyte.gz'
  if damage == 'altered':
    _flip(path, 2000)
  else:
    path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(errors.DigitsError, match='train-images-idx3-ubyte.gz is not the registered archive'):
    data.load_dataset('mnist', tmp_path / 'new')
  assert not (tmp_path / 'new' / 'digits_mnist' / 'arrays.npz').exists()


def test_missing_archive_without_network_is_one_sentence(synthetic_archives, tmp_path, monkeypatch):
  import requests

  def refuse(*args, **kwargs):
    raise requests.exceptions.ConnectionError('no network')

  monkeypatch.setattr(requests.Session, 'get', refuse)
  (synthetic_archives / 't10k-labels-idx1-ubyte.gz').unlink()
  with pytest.raises(errors.DigitsError, match=r'could not be downloaded \(ConnectionError\): it needs a network'):
    data.load_dataset('mnist', tmp_path / 'new')


def test_idx_with_a_wrong_header_is_refused(tmp_path):
  path = tmp_path / 'x.gz'
  path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + b'12345678'))
  with pytest.raises(ValueError, match='holds 8 values where its header says 9'):
    mnist.read_idx(path)


def _load_in_process(archives, data_dir, queue):
  with pytest.MonkeyPatch.context() as monkeypatch:
    conftest.use_archives(monkeypatch, *archives)
    queue.put(int(data.load_dataset('mnist', data_dir, num_validation=0).train.image.sum()))


def test_two_processes_prepare_at_once(archives, tmp_path, prepared_data_dir):
  context = multiprocessing.get_context('spawn')
  queue = context.Queue()
  processes = [context.Process(target=_load_in_process, args=(archives, tmp_path / 'data', queue)) for _ in range(2)]
  for process in processes:
    process.start()
  sums = [queue.get(timeout=120) for _ in processes]
  for process in processes:
    process.join()
  good = int(data.load_dataset('mnist', prepared_data_dir, num_validation=0).train.image.sum())
  assert sums == [good, good]
  assert not list((tmp_path / 'data').glob('**/incomplete*'))


def _load_with_small_files(archives, data_dir, queue):
  resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
  import signal

  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:
    _load_in_process(archives, data_dir, queue)
  except errors.DigitsError as error:
    queue.put(str(error))


def test_full_disk_is_one_sentence_and_mends(archives, tmp_path):
  context = multiprocessing.get_context('spawn')
  queue = context.Queue()
  process = context.Process(target=_load_with_small_files, args=(archives, tmp_path / 'data', queue))
  process.start()
  message = queue.get(timeout=120)
  process.join()
  assert 'digits_mnist' in message
  assert '\n' not in message
  with pytest.MonkeyPatch.context() as monkeypatch:
    conftest.use_archives(monkeypatch, *archives)
    assert len(data.load_dataset('mnist', tmp_path / 'data', num_validation=0).train.label)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('nope', 'is not a dataset that TFDS knows'),
    ('0', 'is not a dataset that TFDS knows'),
    ('fashion_mnist/nope', 'is not a dataset that TFDS knows'),
    ('cifar10', 'does not fit'),
    ('../mnist', 'is not the name of a TFDS dataset'),
  ],
)
def test_unknown_datasets_write_nothing(tmp_path, name, message):
  with pytest.raises(errors.UsageError, match=message):
    data.load_dataset(name, tmp_path / 'data')
  assert not (tmp_path / 'data').exists()


def test_dataset_that_needs_tensorflow_says_so(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  def fail(self, *args, **kwargs):
    raise ModuleNotFoundError("No module named 'tensorflow'")

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(errors.DigitsError, match='TFDS needs TensorFlow to prepare fashion_mnist'):
    data.load_dataset('fashion_mnist', tmp_path)


def test_too_large_a_validation_split(prepared_data_dir):
  with pytest.raises(errors.UsageError, match=f'config.num_validation={conftest.NUM_TRAIN} leaves nothing'):
    data.load_dataset('mnist', prepared_data_dir, num_validation=conftest.NUM_TRAIN)


def test_data_dir_that_is_a_file(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(errors.DigitsError, match='Not a directory'):
    data.load_dataset('mnist', tmp_path / 'file')


def test_data_dir_from_environment(prepared_data_dir, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(prepared_data_dir))
  assert len(data.load_dataset('mnist', num_validation=0).train.label) == conftest.NUM_TRAIN


@given(st.sampled_from([1, 31, 64]), st.sampled_from([1, 16, 64]), st.integers(0, 2**31 - 1))
@settings(max_examples=12, deadline=None)
def test_an_epoch_has_every_example_once(num_examples, batch_size, seed):
  order = np.asarray(data.shuffled_order(seed, 0, num_examples, batch_size))
  assert order.shape == (-(-num_examples // batch_size), batch_size)
  flat = order.ravel()
  assert sorted(flat[:num_examples]) == list(range(num_examples))
  assert (flat[num_examples:] == -1).all()


def test_take_batch_masks_padding(prepared_data_dir):
  split = data.load_dataset('mnist', prepared_data_dir, num_validation=0).train
  batch = data.take_batch(jax.device_put(split), np.array([7, 3, -1], np.int32))
  assert batch['mask'].tolist() == [1, 1, 0]
  assert batch['label'].tolist()[:2] == split.label[[7, 3]].tolist()
  np.testing.assert_array_equal(batch['image'][:2], split.image[[7, 3]])


@given(st.integers(1, 40), st.integers(1, 16))
@settings(max_examples=25, deadline=None)
def test_host_batches_count_every_example_once(num_examples, batch_size):
  split = data.Split(np.zeros((num_examples, 28, 28, 1), np.uint8), np.arange(num_examples, dtype=np.int32))
  batches = list(data.host_batches(split, batch_size))
  assert {batch['image'].shape for batch in batches} == {(batch_size, 28, 28, 1)}
  labels = np.concatenate([batch['label'][batch['mask'] == 1] for batch in batches])
  assert labels.tolist() == list(range(num_examples))


def test_a_permuted_dataset_has_the_same_pixels_in_one_other_order(prepared_data_dir):
  plain = data.load_dataset('mnist', prepared_data_dir, num_validation=60)
  permuted = data.load_dataset('permuted:mnist', prepared_data_dir, num_validation=60)
  flat, mixed = (split.image.reshape(len(split.image), -1) for split in (plain.train, permuted.train))
  np.testing.assert_array_equal(np.sort(flat, 1), np.sort(mixed, 1))
  assert (flat != mixed).any(1).all()
  # Where two pixels of the one are alike in all images, so are those two places of the other.
  order = np.lexsort(mixed)[np.argsort(np.lexsort(flat))]
  for before, after in zip(plain, permuted, strict=True):
    np.testing.assert_array_equal(before.label, after.label)
    flat, mixed = (split.image.reshape(len(split.image), -1) for split in (before, after))
    np.testing.assert_array_equal(flat, mixed[:, order])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(0, 2**31), st.data())
def test_a_subset_is_balanced_and_within_every_larger_one(labels, draw, choose):
  labels = np.array(labels)
  count = choose.draw(st.integers(1, len(labels)))
  rows = views.draw_subset(labels, count, draw)
  assert len(set(rows.tolist())) == count
  assert rows.tolist() == sorted(rows.tolist())
  assert set(rows) <= set(views.draw_subset(labels, len(labels), draw))
  smaller = views.draw_subset(labels, max(1, count // 2), draw)
  assert set(smaller) <= set(rows)
  # No class has two more than another that has some left.
  taken, there = (np.bincount(some, minlength=10) for some in (labels[rows], labels))
  assert taken.max() <= 1 + taken[taken < there].min(initial=len(labels))


def test_a_subset_is_drawn_by_its_number(prepared_data_dir):
  plain = data.load_dataset('mnist', prepared_data_dir, num_validation=60)
  first, again, other = (
    data.load_dataset(f'subset/40/{draw}:mnist', prepared_data_dir, num_validation=60) for draw in (0, 0, 1)
  )
  assert np.bincount(first.train.label).tolist() == [4] * 10
  np.testing.assert_array_equal(first.train.image, again.train.image)
  assert (first.train.image != other.train.image).any()
  twice = data.load_dataset('repeated/2:subset/40/0:mnist', prepared_data_dir, num_validation=60)
  np.testing.assert_array_equal(twice.train.image, np.concatenate([first.train.image] * 2))
  np.testing.assert_array_equal(twice.train.label, np.concatenate([first.train.label] * 2))
  for name in ('valid', 'test'):
    np.testing.assert_array_equal(getattr(first, name).image, getattr(plain, name).image)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('turned:mnist', "'turned' in config.dataset is no view"),
    ('subset/0/0:mnist', 'is no view'),
    ('repeated/0:mnist', 'is no view'),
    ('subset/9999/0:mnist', 'a subset of 9999 training images, and there are 240'),
    ('permuted:', "config.dataset='' is not the name"),
  ],
)
def test_a_view_that_there_is_not(prepared_data_dir, name, message):
  with pytest.raises(errors.UsageError, match=message):
    data.load_dataset(name, prepared_data_dir, num_validation=60)
