"""Keras 3 on the JAX backend: the same models, recipe and data, with `compile`, `fit` and `evaluate`.

Keras multiplies the learning rate into the velocity: the same update where the rate is constant, and as much work.
"""

import argparse
import json
import math
import os
import pathlib
import time

os.environ['KERAS_BACKEND'] = 'jax'

import keras
from keras import layers, ops
import numpy as np

from benchmarks import protocol


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
  """The learning rate: a half cosine up from 1/25 of the peak, then one down to 0."""

  def __init__(self, num_steps, recipe):
    self._num_steps = num_steps
    self._rise = round(recipe['warmup_fraction'] * num_steps)
    self._peak = recipe['learning_rate']

  def __call__(self, step):
    """The rate after `step` updates."""
    step = ops.cast(step, 'float32')
    up = self._peak * (1 - (1 - 1 / 25) * 0.5 * (1 + ops.cos(math.pi * step / max(self._rise, 1))))
    fraction = ops.minimum((step - self._rise) / max(self._num_steps - self._rise, 1), 1.0)
    return ops.where(step < self._rise, up, self._peak * 0.5 * (1 + ops.cos(math.pi * fraction)))


def make_model(name, weight_decay):
  """The architecture of that name, from uint8[B, 28, 28, 1] to logits, initialised as ours is."""
  regularizer = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
  kernel = {'kernel_initializer': 'lecun_normal', 'kernel_regularizer': regularizer}
  model = keras.Sequential([keras.Input((28, 28, 1), dtype='uint8'), layers.Rescaling(1 / 255)])
  if name == 'cnn':
    for features in (16, 32, 64):
      model.add(layers.Conv2D(features, 5, padding='same', **kernel))
      model.add(layers.MaxPooling2D())
      model.add(layers.ReLU())
  model.add(layers.Flatten())
  if name != 'softmax':
    model.add(layers.Dense(100, activation='sigmoid', **kernel))
  model.add(layers.Dense(10, **kernel))
  return model


def compile_model(model, recipe, num_steps):
  """Gives the model its optimizer, loss and metric."""
  model.compile(
    optimizer=keras.optimizers.SGD(
      OneCycle(num_steps, recipe), momentum=recipe['momentum'], nesterov=recipe['nesterov']
    ),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=['accuracy'],
  )
  return model


class Peer:
  """The measurements, by name; see `benchmarks/run.py` and `benchmarks/ours.py`.

  Args:
    data: a directory with recipes.json and the arrays as NumPy files.
  """

  def __init__(self, data):
    data = pathlib.Path(data)
    self._recipes = json.loads((data / 'recipes.json').read_text())
    self._train = np.load(data / 'train_image.npy'), np.load(data / 'train_label.npy')
    self._test = np.load(data / 'test_image.npy'), np.load(data / 'test_label.npy')
    self._models = {}

  def _make_model(self, name, num_images=None, batch_size=None, epochs=None):
    recipe = self._recipes[name]
    steps_per_epoch = -(-(num_images or len(self._train[1])) // (batch_size or recipe['batch_size']))
    model = make_model(name, recipe['weight_decay'])
    return compile_model(model, recipe, (epochs or recipe['epochs']) * steps_per_epoch)

  def train(self, model, batch_size, num_images, epochs):
    """Trains on `num_images`; the time is that of one of several epochs."""
    key = model, batch_size, num_images
    if key not in self._models:
      self._models[key] = self._make_model(model, num_images, batch_size)
    image, label = (array[:num_images] for array in self._train)
    start = time.perf_counter()
    self._models[key].fit(image, label, batch_size, epochs, verbose=0)
    yield {'seconds': (time.perf_counter() - start) / epochs}

  def evaluate(self, model, batch_size, passes):
    """Measures loss and accuracy on the test split; the time is that of one of several passes."""
    key = model, batch_size
    if key not in self._models:
      self._models[key] = self._make_model(model)
    start = time.perf_counter()
    for _ in range(passes):
      self._models[key].evaluate(*self._test, batch_size, verbose=0)
    yield {'seconds': (time.perf_counter() - start) / passes}

  def start(self, model):
    """Does a first step, then an epoch."""
    batch_size = self._recipes[model]['batch_size']
    network = self._make_model(model)
    network.fit(*(array[:batch_size] for array in self._train), batch_size, verbose=0)
    yield {'reached': 'first_step'}
    network.fit(*self._train, batch_size, verbose=0)
    yield {'reached': 'epoch', 'max_rss': protocol.max_rss()}

  def describe(self):
    """Names the version."""
    yield {'versions': {'keras': keras.__version__}}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', required=True, help='a directory with recipes.json and the arrays')
  protocol.serve(Peer(parser.parse_args().data))
