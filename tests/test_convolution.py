"""Convolution by matrix products against `lax.conv_general_dilated`, `reduce_window` and their gradients."""

import jax
from jax import lax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest

from digits.models import convolution

# Images, height, width, channels, outputs, kh, kw, and the way that arithmetic chooses.
SHAPES = {
  (32, 28, 28, 1, 16, 5, 5): 'blocks',
  (32, 14, 14, 16, 32, 5, 5): 'spectral',
  (32, 7, 7, 32, 64, 5, 5): 'spectral',  # These are the network's three layers.
  (16, 9, 12, 1, 4, 5, 5): 'blocks',
  (16, 13, 10, 3, 5, 3, 4): 'blocks',
  (17, 11, 8, 8, 8, 5, 5): 'spectral',  # Odd and even sides,
  (20, 8, 9, 8, 12, 6, 5): 'spectral',  # an even kernel,
  (16, 3, 3, 16, 8, 5, 5): 'spectral',  # and one that is larger than the image.
  (3, 8, 8, 4, 6, 5, 5): 'lax',
  (16, 8, 8, 8, 8, 1, 1): 'lax',
}


@pytest.fixture
def x64():
  jax.config.update('jax_enable_x64', True)
  yield
  jax.config.update('jax_enable_x64', False)


def _oracle(x, kernel):
  y = lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest'
  )
  return lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')


def _inputs(shape, dtype):
  images, height, width, channels, outputs, kh, kw = shape
  rng = np.random.default_rng(sum(shape))
  sizes = (images, height, width, channels), (kh, kw, channels, outputs)
  return [jnp.asarray(rng.standard_normal(size), dtype) for size in sizes]


def _value_and_gradients(function, *args):
  """Of a smooth, lopsided function of the result."""

  def scalar(*args):
    y = function(*args)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)), y

  (_, y), gradients = jax.jit(jax.value_and_grad(scalar, (0, 1), has_aux=True))(*args)
  return y, *gradients


def _assert_near(actual, expected, tolerance):
  """Relative error in the Euclidean norm."""
  for a, e in zip(actual, expected, strict=True):
    assert (a.shape, a.dtype) == (e.shape, e.dtype)
    assert np.linalg.norm(np.asarray(a) - np.asarray(e)) <= tolerance * np.linalg.norm(e)


def _matmul(x, kernel):
  return convolution.conv_pool(jnp.asarray(x), jnp.asarray(kernel), 'matmul')  # `check_grads` gives NumPy arrays.


@pytest.mark.parametrize(('shape', 'way'), SHAPES.items(), ids=str)
def test_values_and_gradients_in_float64(shape, way, x64):
  # In float64 no two values are so near that rounding could let the gradient pass through another one.
  args = _inputs(shape, 'float64')
  assert convolution._choose(*args, 'matmul') == way
  _assert_near(_value_and_gradients(_matmul, *args), _value_and_gradients(_oracle, *args), 1e-12)


@pytest.mark.parametrize('shape', list(SHAPES)[:3], ids=str)
def test_the_networks_layers_in_float32(shape):
  args = _inputs(shape, 'float32')
  _assert_near([_matmul(*args)], [_oracle(*args)], 1e-5)


def test_numerical_gradients(x64):
  check_grads(_matmul, _inputs((16, 4, 4, 8, 8, 5, 5), 'float64'), 1, ['rev'])


@pytest.mark.parametrize('method', ['lax', 'matmul'])
def test_the_first_of_equal_values_gets_the_gradient(method):
  x, kernel = _inputs((16, 8, 8, 1, 4, 5, 5), 'float32')

  def total(bias):
    return jnp.sum(convolution.conv_pool(0 * x, kernel, method) + bias)

  assert jax.grad(total)(jnp.zeros(())) == 16 * 4 * 4 * 4
  y, dx, _ = _value_and_gradients(lambda x, k: convolution.conv_pool(jnp.round(x), jnp.round(k), method), x, kernel)
  expected = _value_and_gradients(lambda x, k: _oracle(jnp.round(x), jnp.round(k)), x, kernel)
  _assert_near([y, dx], expected[:2], 1e-5)


def test_vmap_over_kernels():
  x, kernel = _inputs((17, 11, 8, 8, 8, 5, 5), 'float32')
  kernels = jnp.stack([kernel, 2 * kernel, -kernel])

  def gradient(function):
    return jax.vmap(jax.grad(lambda k: jnp.sum(function(x, k) ** 2)))(kernels)

  _assert_near([gradient(_matmul)], [gradient(_oracle)], 1e-4)


def test_auto_is_matmul_on_a_cpu_and_lax_in_bfloat16():
  args = _inputs((32, 14, 14, 16, 32, 5, 5), 'float32')
  assert convolution._choose(*args, 'auto') == ('spectral' if jax.default_backend() == 'cpu' else 'lax')
  assert convolution._choose(*(arg.astype(jnp.bfloat16) for arg in args), 'auto') == 'lax'
