from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from digits import models
from digits.models import dense


@pytest.mark.parametrize(('name', 'count'), [('softmax', 7850), ('mlp', 79510), ('cnn', 123222)])
def test_parameter_counts(name, count):
  params = jax.eval_shape(models.MODELS[name]().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_softmax_regression_is_a_matrix_product():
  image = jnp.asarray(np.random.default_rng(0).random((3, 28, 28, 1), np.float32))
  model = models.SoftmaxRegression()
  params = model.init(jax.random.key(0), image)
  kernel, bias = params['params']['logits']['kernel'], params['params']['logits']['bias']
  np.testing.assert_allclose(
    model.apply(params, image), image.reshape(3, 784) @ np.asarray(kernel).T + np.asarray(bias), rtol=1e-4, atol=1e-5
  )


def test_cnn_against_a_plain_numpy_forward_pass():
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.random((2, 28, 28, 1), np.float32))
  model = models.CNN(features=(2, 3))
  params = model.init(jax.random.key(1), image)['params']
  params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32), params)

  x = np.asarray(image, np.float64)
  for name in ('conv1', 'conv2'):
    kernel, bias = (np.asarray(params[name][key], np.float64) for key in ('kernel', 'bias'))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    x = np.maximum(np.einsum('bijchw,hwco->bijo', windows, kernel) + bias, 0)
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
  x = x.reshape(2, -1) @ np.asarray(params['hidden']['kernel']).T + np.asarray(params['hidden']['bias'])
  x = 1 / (1 + np.exp(-x))
  expected = x @ np.asarray(params['logits']['kernel']).T + np.asarray(params['logits']['bias'])
  np.testing.assert_allclose(model.apply({'params': params}, image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['softmax', 'mlp', 'cnn'])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(name):
  image = jnp.ones((2, 28, 28, 1))
  model = models.MODELS[name](dtype='bfloat16')
  params = jax.jit(model.init)(jax.random.key(0), image)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  logits = model.apply(params, image)
  assert logits.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    logits.astype(jnp.float32), models.MODELS[name]().apply(params, image), rtol=0.1, atol=0.05
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_dense_is_that_of_flax_with_the_kernel_transposed(dtype):
  rng = np.random.default_rng(0)
  x, dy = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in ((6, 40), (6, 10)))
  ours, theirs = dense.Dense(10, dtype), nn.Dense(10, dtype=dtype)
  params = ours.init(jax.random.key(0), x)['params'] | {'bias': rng.standard_normal(10, np.float32)}
  transposed = params | {'kernel': params['kernel'].T}

  def value_and_gradients(module, params):
    y, pull = jax.vjp(lambda params, x: module.apply({'params': params}, x), params, x)
    return y, pull(dy.astype(y.dtype))

  y, (dparams, dx) = value_and_gradients(ours, params)
  expected_y, (expected_dparams, expected_dx) = value_and_gradients(theirs, transposed)
  assert y.dtype == expected_y.dtype
  tolerance = {'rtol': 1e-5, 'atol': 1e-5} if dtype == 'float32' else {'rtol': 1e-2, 'atol': 1e-2}
  np.testing.assert_allclose(y.astype(np.float32), expected_y.astype(np.float32), **tolerance)
  np.testing.assert_allclose(dx, expected_dx, **tolerance)
  np.testing.assert_allclose(dparams['kernel'].T, expected_dparams['kernel'], **tolerance)
  np.testing.assert_allclose(dparams['bias'], expected_dparams['bias'], **tolerance)


def test_dense_starts_with_the_variance_of_one_over_its_inputs():
  kernel = dense.Dense(100, 'float32').init(jax.random.key(0), jnp.zeros((1, 784)))['params']['kernel']
  assert kernel.shape == (100, 784)
  assert float(kernel.std()) == pytest.approx(784**-0.5, rel=0.02)
