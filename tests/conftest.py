"""Fixtures: tiny synthetic digits that go through the real builder, the real cache and the real loop."""

import gzip
import hashlib
import os
import pathlib
import shutil
import signal
import tempfile

# Set before JAX starts: the tests are about results, which must not depend on what accelerator a machine has.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')
import jax
import jaxtyping
import ml_collections
import numpy as np
import pytest

# The annotations of digits are checked at every call, arrays' dtypes and shapes too. CHECK_TYPES=0 is for timing.
if os.environ.get('CHECK_TYPES') != '0':
  import support.typechecker  # noqa: F401  # The hook looks it up by its name.

  jaxtyping.install_import_hook('digits', 'support.typechecker.check')

from digits import config as config_lib

ROOT = pathlib.Path(__file__).parent.parent
NUM_TRAIN, NUM_TEST = 300, 100


def pytest_configure(config):
  """Lets a worker keep what takes a while to compile: the tests compile the same small programs again and again.

  Not in the environment, as the commands that tests start are killed now and then, in the middle of a file too.
  """
  config.compiled = tempfile.mkdtemp(prefix='compiled')
  jax.config.update('jax_compilation_cache_dir', config.compiled)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


def pytest_unconfigure(config):
  """Deletes what was compiled."""
  shutil.rmtree(config.compiled, ignore_errors=True)


def write_archives(directory, num_train=NUM_TRAIN, num_test=NUM_TEST):
  """Writes four IDX archives of ten easy patterns with noise, and returns their TFDS checksums by address."""
  from tensorflow_datasets.core.download import checksums

  rng = np.random.default_rng(0)
  patterns = rng.integers(0, 256, (10, 28, 28)) * (rng.random((10, 28, 28)) < 0.2)
  directory.mkdir(parents=True, exist_ok=True)
  infos = {}
  for prefix, count in (('train', num_train), ('t10k', num_test)):
    labels = np.arange(count) % 10
    images = np.clip(patterns[labels] + rng.integers(0, 40, (count, 28, 28)), 0, 255)
    for kind, array in (('images-idx3', images), ('labels-idx1', labels)):
      header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, '>u4').tobytes()
      content = gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)
      path = directory / f'{prefix}-{kind}-ubyte.gz'
      path.write_bytes(content)
      infos[f'https://storage.googleapis.com/cvdf-datasets/mnist/{path.name}'] = checksums.UrlInfo(
        size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=path.name
      )
  return infos


def use_archives(monkeypatch, directory, infos):
  """Makes the builder read the archives of a directory in place of the bundled ones."""
  from digits.data.mnist import builder

  monkeypatch.setattr(builder, 'ARCHIVES', directory)
  monkeypatch.setattr(builder.Builder, 'url_infos', infos)


@pytest.fixture(scope='session')
def archives(tmp_path_factory):
  """A directory of synthetic archives, and their checksums."""
  directory = tmp_path_factory.mktemp('archives')
  return directory, write_archives(directory)


@pytest.fixture
def synthetic_archives(archives, tmp_path, monkeypatch):
  """A copy of the synthetic archives, which a test may damage and from which the builder reads."""
  directory = tmp_path / 'archives'
  shutil.copytree(archives[0], directory)
  use_archives(monkeypatch, directory, archives[1])
  return directory


@pytest.fixture(scope='session')
def prepared_data_dir(archives, tmp_path_factory):
  """A data directory that the real builder and cache have filled; not to be written to."""
  from digits import data

  data_dir = tmp_path_factory.mktemp('data')
  with pytest.MonkeyPatch.context() as monkeypatch:
    use_archives(monkeypatch, *archives)
    data.load_dataset('mnist', data_dir, num_validation=0)
  return data_dir


@pytest.fixture
def data_dir(prepared_data_dir, tmp_path):
  """A copy of the prepared data directory, which a test may damage."""
  directory = tmp_path / 'data'
  shutil.copytree(prepared_data_dir, directory)
  return directory


@pytest.fixture
def tiny_config(prepared_data_dir):
  """Makes a shipped config small: `tiny_config('cnn', epochs=1)`."""

  def make(name, **overrides):
    architecture = {'cnn': {'features': (2, 3), 'hidden_units': 8}, 'mlp': {'hidden_units': 16}}.get(name, {})
    shipped = config_lib.to_dict(config_lib.load_config(ROOT / 'configs' / f'{name}.py'))
    small = {
      'architecture': shipped['architecture'] | architecture,
      'data_dir': str(prepared_data_dir),
      'num_validation': 60,
      'epochs': 3,
      'batch_size': 32,
      'eval_batch_size': 32,
      'warmup_fraction': 0.3,
      'log_every_steps': 3,
    }
    return config_lib.from_dict(ml_collections.ConfigDict(shipped | small | overrides))

  return make


@pytest.fixture
def interrupt_at(monkeypatch):
  """Makes the next run get SIGTERM when it reports a step: `interrupt_at(20)`."""
  from digits.runtime import progress

  def arrange(step):
    update = progress.Progress.update

    def interrupting(self, at, metrics):
      update(self, at, metrics)
      if at >= step:
        monkeypatch.setattr(progress.Progress, 'update', update)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(progress.Progress, 'update', interrupting)

  return arrange


@pytest.fixture
def subprocess_env(prepared_data_dir):
  """The environment of a command that is run as a user runs it, on the synthetic data."""
  return os.environ | {'TFDS_DATA_DIR': str(prepared_data_dir), 'PYTHONPATH': str(ROOT)}


@pytest.fixture(scope='session')
def mnist():
  """The real MNIST, from the bundled archives; 2,000 training images are the validation split."""
  from digits import data
  from digits.data.mnist import builder

  def split(prefix):
    image, label = (
      builder.read_idx(builder.ARCHIVES / f'{prefix}-{kind}-ubyte.gz') for kind in ('images-idx3', 'labels-idx1')
    )
    return data.Split(image[..., None], label.astype(np.int32))

  train, test = split('train'), split('t10k')
  return data.Dataset(
    train=data.Split(train.image[:-2000], train.label[:-2000]),
    valid=data.Split(train.image[-2000:], train.label[-2000:]),
    test=test,
  )


@pytest.fixture(scope='session')
def quick_run(mnist):
  """A `Run` of an MLP trained for two seconds on the real MNIST; right on about 97 % of its test split."""
  import functools

  import jax

  import digits

  config = config_lib.load_config(ROOT / 'configs' / 'mlp.py', epochs=2)
  model, num_examples, batch_size = config.make_model(), len(mnist.train.label), 128
  num_steps = config.epochs * -(-num_examples // batch_size)
  optimizer = digits.make_optimizer(config, num_steps)
  state = digits.init_state(jax.random.key(0), model=model, optimizer=optimizer)
  step = functools.partial(digits.train_step, model=model, optimizer=optimizer)

  @jax.jit
  def run_epoch(state, split, order):
    return jax.lax.scan(lambda state, rows: (step(state, digits.take_batch(split, rows))[0], None), state, order)[0]

  for epoch in range(config.epochs):
    state = run_epoch(state, mnist.train, digits.shuffled_order(0, epoch, num_examples, batch_size))
  return digits.Run(config, model, jax.device_get(state.variables), step=num_steps, history=[])
