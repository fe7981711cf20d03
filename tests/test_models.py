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
  image = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
  model = models.SoftmaxRegression()
  params = model.init(jax.random.key(0), image)
  kernel, bias = params['params']['logits']['kernel'], params['params']['logits']['bias']
  np.testing.assert_allclose(
    model.apply(params, image), image.reshape(3, 784) @ np.asarray(kernel) + np.asarray(bias), rtol=1e-4, atol=1e-5
  )


def test_cnn_against_a_plain_numpy_forward_pass():
  rng = np.random.default_rng(0)
  image = rng.random((2, 28, 28, 1), np.float32)
  model = models.CNN(features=(2, 3))
  params = model.init(jax.random.key(1), image)['params']
  params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32), params)

  x = image.astype(np.float64)
  for name in ('conv1', 'conv2'):
    kernel, bias = (np.asarray(params[name][key], np.float64) for key in ('kernel', 'bias'))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    x = np.maximum(np.einsum('bijchw,hwco->bijo', windows, kernel) + bias, 0)
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
  x = x.reshape(2, -1) @ np.asarray(params['hidden']['kernel']) + np.asarray(params['hidden']['bias'])
  x = 1 / (1 + np.exp(-x))
  expected = x @ np.asarray(params['logits']['kernel']) + np.asarray(params['logits']['bias'])
  np.testing.assert_allclose(model.apply({'params': params}, image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', list(models.MODELS))
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


@pytest.mark.parametrize('outputs', [1, 10])
@pytest.mark.parametrize('transform', [lambda function: function, jax.jit])
def test_the_product_of_few_outputs_has_the_derivatives_of_a_product(outputs, transform):
  rng = np.random.default_rng(0)
  x, kernel, dy = (rng.standard_normal(shape, np.float32) for shape in ((6, 40), (40, outputs), (6, outputs)))
  y, pull = jax.vjp(transform(dense.few_outputs_dot), x, kernel)
  dx, dkernel = pull(dy)
  np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dx, dy @ kernel.T, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dkernel, x.T @ dy, rtol=1e-5, atol=1e-5)
  batched = jax.vmap(jax.grad(lambda kernel, x: dense.few_outputs_dot(x, kernel).sum(), argnums=1), (None, 0))
  np.testing.assert_allclose(
    batched(kernel, np.stack([x, 2 * x])), np.broadcast_to(kernel.sum(1), (2, 6, 40)), rtol=1e-4, atol=1e-5
  )
