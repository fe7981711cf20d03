"""docs/scale.md: its commands name what exists, and its arithmetic is that of the models."""

import json
import re

import conftest
import jax
import numpy as np
import pytest

from digits import models

SCALE = (conftest.ROOT / 'docs' / 'scale.md').read_text()
BATCH_SIZE = 128


def _flop_per_image(params, shape):
  """Multiplications and additions of a training step: forward, by weights, and by inputs but for the first layer.

  A layer's arithmetic is its kernel's size times the places where it is applied.
  """
  height, width = shape
  products = []
  for name in sorted(params, key=['conv1', 'conv2', 'conv3', 'hidden', 'logits'].index):
    kernel = params[name]['kernel']
    places = 1
    if kernel.ndim == 4:
      places = height * width
      height, width = height // 2, width // 2
    products.append(places * kernel.size)
  return 2 * (3 * sum(products) - products[0])


@pytest.mark.parametrize('name', models.MODELS)
def test_bytes_and_operations_are_those_of_the_models(name):
  model = models.MODELS[name]()
  params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))['params']
  gradient_bytes = 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
  operations = BATCH_SIZE * _flop_per_image(params, (28, 28))
  row = re.search(rf'\| `{name}` \| ([\d,]+) \| ([\d,.]+) \| ([\d,]+) \|', SCALE)
  stated = [float(number.replace(',', '')) for number in row.groups()]
  assert stated == pytest.approx([gradient_bytes, operations / 1e6, operations / gradient_bytes], rel=5e-3)


def test_the_cost_of_streaming_is_that_of_the_committed_runs():
  runs = json.loads((conftest.ROOT / 'results' / 'loaders.json').read_text())
  seconds = {loader: run['seconds']['train'] for loader, run in runs.items()}
  text = ' '.join(SCALE.split())
  assert f'in {seconds["grain"]:.1f} s with `grain` and {seconds["memory"]:.1f} s with `memory`' in text
  assert seconds['grain'] <= 1.5 * seconds['memory']
