import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from digits import models
from digits.train import step as step_lib


def _batch(size, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': rng.integers(0, 256, (size, 28, 28, 1)).astype(np.uint8),
    'label': rng.integers(0, 10, size).astype(np.int32),
    'mask': np.ones(size, np.float32),
  }


def _setup(name='softmax'):
  small = {'mlp': {'hidden_units': 8}, 'cnn': {'features': (2, 3), 'hidden_units': 8}}
  model = models.MODELS[name](**small.get(name, {}))
  optimizer = optax.sgd(0.1, momentum=0.9)
  state = step_lib.init_state(jax.random.key(0), model=model, optimizer=optimizer)
  return state, {'model': model, 'optimizer': optimizer}


def test_one_update_of_softmax_regression_in_closed_form():
  state, kwargs = _setup()
  batch = _batch(16)
  after, metrics = step_lib.train_step(state, batch, **kwargs)

  x = batch['image'].reshape(16, 784) / 255.0
  kernel = np.asarray(state.params['logits']['kernel'], np.float64).T
  logits = x @ kernel
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  error = (probabilities - np.eye(10)[batch['label']]) / 16
  np.testing.assert_allclose(after.params['logits']['kernel'], (kernel - 0.1 * x.T @ error).T, atol=1e-6)
  np.testing.assert_allclose(after.params['logits']['bias'], -0.1 * error.sum(0), atol=1e-6)
  loss = -np.log(probabilities[np.arange(16), batch['label']]).sum()
  assert float(metrics.loss) == pytest.approx(loss, rel=1e-5)
  assert float(metrics.grad_norm) == pytest.approx(
    np.sqrt(((x.T @ error) ** 2).sum() + (error.sum(0) ** 2).sum()), rel=1e-5
  )
  assert int(after.step) == 1


@pytest.mark.parametrize('name', list(models.MODELS))
def test_padding_changes_nothing(name):
  state, kwargs = _setup(name)
  batch = _batch(8)
  padded = {key: np.concatenate([value, value[:3]]) for key, value in batch.items()}
  padded['mask'][8:] = 0
  train_step = jax.jit(functools.partial(step_lib.train_step, **kwargs))
  plain_state, plain = train_step(state, batch)
  padded_state, masked = train_step(state, padded)
  assert plain.compute() == pytest.approx(masked.compute(), rel=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), plain_state.params, padded_state.params
  )


@pytest.mark.parametrize('name', list(models.MODELS))
def test_jit_changes_nothing_and_loss_falls(name):
  state, kwargs = _setup(name)
  batch = _batch(8)
  train_step = jax.jit(functools.partial(step_lib.train_step, **kwargs))
  plain, _ = step_lib.train_step(state, batch, **kwargs)
  jitted, first = train_step(state, batch)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), plain.params, jitted.params)
  for _ in range(60):
    jitted, last = train_step(jitted, batch)
  assert float(last.loss) < 0.7 * float(first.loss)


@pytest.mark.parametrize('name', list(models.MODELS))
@pytest.mark.parametrize('microbatch_size', [1, 4, 5, 8, 100])
def test_microbatches_of_any_size_add_up(name, microbatch_size):
  state, kwargs = _setup(name)
  batch = _batch(8)
  batch['mask'][6:] = 0
  whole, parts = (
    jax.jit(functools.partial(step_lib.train_step, **kwargs, microbatch_size=size))(state, batch)
    for size in (0, microbatch_size)
  )
  assert parts[1].compute() == pytest.approx(whole[1].compute(), rel=1e-5)
  assert float(parts[1].grad_norm) == pytest.approx(float(whole[1].grad_norm), rel=1e-5)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, parts[0].params, whole[0].params)


def test_gradient_against_finite_differences():
  state, kwargs = _setup('mlp')  # Smooth; a max-pool has kinks.
  batch = _batch(3)
  after, _ = step_lib.train_step(state, batch, **kwargs)
  moved = jax.tree.map(lambda new, old: (old - new) / 0.1, after.params, state.params)
  direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), state.params)

  def loss(scale):
    params = jax.tree.map(lambda leaf, d: leaf + scale * d, state.params, direction)
    metrics = step_lib.eval_step({'params': params}, batch, model=kwargs['model'])
    return float(metrics.loss) / 3

  slope = sum(jnp.vdot(grad, d) for grad, d in zip(*map(jax.tree.leaves, (moved, direction)), strict=True))
  assert (loss(1e-2) - loss(-1e-2)) / 2e-2 == pytest.approx(float(slope), rel=0.01)


def test_eval_step_measures_what_train_step_measures():
  state, kwargs = _setup('mlp')
  batch = _batch(8)
  _, metrics = step_lib.train_step(state, batch, **kwargs)
  assert step_lib.eval_step(state.variables, batch, model=kwargs['model']).compute() == pytest.approx(metrics.compute())


def test_state_holds_nothing_but_arrays():
  state, _ = _setup('cnn')
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
