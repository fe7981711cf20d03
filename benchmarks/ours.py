"""The side of this project: the pieces that `launch.py` uses, on data that is ready."""

import argparse
import dataclasses
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import protocol
import digits
from digits.runtime import devices
from digits.train import compiled, population
from digits.train.recipe import make_recipe

_CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'


class Trainer:
  """A model in training on a split, compiled and at its start.

  Args:
    model: a key of `digits.MODELS`; its config is the recipe.
    split: `digits.Split` of NumPy arrays.
    **overrides: config fields.
  """

  def __init__(self, model, split, **overrides):
    self.config = digits.load_config(_CONFIGS / f'{model}.py', **overrides)
    self.model = self.config.make_model()
    self.num_steps = -(-len(split.label) // self.config.batch_size)
    recipe = make_recipe(self.config, self.num_steps)
    self.mesh = compiled.make_mesh(self.model, self.config.batch_size)
    jit = functools.partial(jax.jit, out_shardings=devices.everywhere(self.mesh))
    carry = jit(lambda: compiled.init_carry(recipe), compiler_options=devices.compiler_options())()
    self._training = compiled.InMemory(self.config, split, carry, self.mesh, recipe)
    self._epoch = 0

  @property
  def variables(self):
    """The variables of now."""
    return self._training.carry.state.variables

  def train_epoch(self, num_steps=None):
    """Trains for an epoch, or its first `num_steps`, and waits for the device."""
    start = self._epoch * self.num_steps
    self._training.advance(start, start + (num_steps or self.num_steps))
    jax.block_until_ready(self._training.carry)
    self._epoch += num_steps is None


class Peer:
  """The measurements, by name; see `benchmarks/run.py`.

  Args:
    data: where prepared data lives; None for the default.
  """

  def __init__(self, data=None):
    devices.use_all_cores()
    self._dataset = digits.load_dataset('mnist', data)
    self._trainers, self._models = {}, {}

  def _first_images(self, num_images):
    return digits.Split(*(array[:num_images] for array in self._dataset.train))

  def train(self, model, batch_size, num_images, epochs):
    """Trains on `num_images`; the time is that of one of several epochs."""
    key = model, batch_size, num_images
    if key not in self._trainers:
      self._trainers[key] = Trainer(model, self._first_images(num_images), batch_size=batch_size)
    start = time.perf_counter()
    for _ in range(epochs):
      self._trainers[key].train_epoch()
    yield {'seconds': (time.perf_counter() - start) / epochs}

  def evaluate(self, model, batch_size, passes):
    """Measures loss and accuracy on the test split; the time is that of one of several passes."""
    if model not in self._models:
      config = digits.load_config(_CONFIGS / f'{model}.py')
      module, blank = config.make_model(), np.zeros((1, 28, 28, 1), np.float32)
      mesh = compiled.make_mesh(module, config.batch_size)
      variables = jax.device_get(module.init(jax.random.key(config.seed), blank))
      self._models[model] = module, devices.replicate(variables, mesh), mesh
    module, variables, mesh = self._models[model]
    start = time.perf_counter()
    for _ in range(passes):
      digits.evaluate_split(variables, self._dataset.test, model=module, batch_size=batch_size, mesh=mesh)
    yield {'seconds': (time.perf_counter() - start) / passes}

  def matmul(self, size):
    """Multiplies matrices with JAX, and with NumPy."""
    host = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    device = jnp.asarray(host)
    product = jax.jit(jnp.matmul)
    yield {'library': 'jax', 'gflops': protocol.best_gflops(lambda: product(device, device).block_until_ready(), size)}
    yield {'library': 'numpy', 'gflops': protocol.best_gflops(lambda: host @ host, size)}

  def start(self, model):
    """Does a first step, then an epoch."""
    trainer = Trainer(model, self._dataset.train)
    trainer.train_epoch(num_steps=1)
    yield {'reached': 'first_step'}
    trainer.train_epoch()
    yield {'reached': 'epoch', 'max_rss': protocol.max_rss()}

  def target(self, model, seed, epochs, accuracy):
    """Trains until the test accuracy is reached, measured after every epoch."""
    trainer = Trainer(model, self._dataset.train, seed=seed, epochs=epochs)
    for epoch in range(epochs):
      trainer.train_epoch()
      scores = digits.evaluate_split(trainer.variables, self._dataset.test, model=trainer.model, mesh=trainer.mesh)
      yield {'epoch': epoch + 1, 'accuracy': scores['accuracy']}
      if scores['accuracy'] >= accuracy:
        return

  def growth(self, model, times):
    """Trains for an epoch of the training images repeated."""
    split = digits.Split(*(np.concatenate([array] * times) for array in self._dataset.train))
    start = time.perf_counter()
    trainer = Trainer(model, split)
    compiled = time.perf_counter()
    trainer.train_epoch()
    yield {
      'compile_seconds': compiled - start,
      'seconds': time.perf_counter() - compiled,
      'max_rss': protocol.max_rss(),
    }

  def seeds(self, model, num_seeds):
    """Trains a population for an epoch and validates it."""
    recipe = digits.load_config(_CONFIGS / f'{model}.py', epochs=1)
    members = population.train_population(
      [dataclasses.replace(recipe, seed=seed) for seed in range(num_seeds)], self._dataset
    )
    yield {'seconds': num_seeds * members[0].seconds['train'], 'max_rss': protocol.max_rss()}

  def describe(self):
    """Names the versions and the device."""
    yield {'versions': {'jax': jax.__version__}, 'device': jax.devices()[0].device_kind}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', help='where prepared data lives')
  protocol.serve(Peer(parser.parse_args().data))
