import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import digits
from digits import models
from digits.train import augment
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


class _Noisy(nn.Module):
  """Batch normalization and dropout, and nothing of the package."""

  num_classes: int = 10

  @nn.compact
  def __call__(self, image, train=False):
    x = image.reshape(image.shape[0], -1)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(6)(x))
    x = nn.Dropout(0.5, deterministic=not train)(x)
    return nn.Dense(self.num_classes)(x)


def _noisy(**options):
  model, optimizer = _Noisy(), optax.sgd(0.1)
  state = step_lib.init_state(jax.random.key(0), model=model, optimizer=optimizer, ema='ema_decay' in options)
  return state, functools.partial(step_lib.train_step, model=model, optimizer=optimizer, **options)


def test_randomness_is_a_function_of_seed_and_step():
  state, step = _noisy(rng=jax.random.key(1))
  first, again = step(state, _batch(8))[1].loss, step(state, _batch(8))[1].loss
  assert first == again
  assert step(state.replace(step=state.step + 1), _batch(8))[1].loss != first
  assert _noisy(rng=jax.random.key(2))[1](state, _batch(8))[1].loss != first


def test_batch_statistics_move_in_training_and_stay_in_evaluation():
  state, step = _noisy(rng=jax.random.key(1))
  after, _ = step(state, _batch(8))
  (mean,) = (leaf for path, leaf in jax.tree.leaves_with_path(after.collections) if 'mean' in str(path))
  hidden = (_batch(8)['image'].reshape(8, -1) / 255.0) @ state.params['Dense_0']['kernel']
  np.testing.assert_allclose(mean, 0.5 * hidden.mean(0), rtol=1e-4, atol=1e-5)
  one, two = (step_lib.eval_step(after.variables, _batch(8), model=_Noisy()).compute() for _ in range(2))
  assert one == two


def test_the_average_follows_parameters_and_statistics():
  state, step = _noisy(rng=jax.random.key(1), ema_decay=0.75)
  after, _ = step(state, _batch(8))
  latest = {'params': after.params, **after.collections}
  expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state.ema, latest)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), after.ema, expected)
  assert after.variables is after.ema


def test_an_augmentation_without_a_key_is_refused():
  state, kwargs = _setup()
  with pytest.raises(ValueError, match='give train_step the argument rng'):
    step_lib.train_step(state, _batch(4), augment=lambda key, images: images, **kwargs)


def test_another_loss_and_an_augmentation_are_arguments():
  state, kwargs = _setup()
  batch = _batch(8)
  black = {**batch, 'image': np.zeros_like(batch['image'])}
  loss = lambda logits, labels: jnp.square(logits).sum(1)
  erased, _ = step_lib.train_step(
    state, batch, augment=lambda key, images: 0 * images, rng=jax.random.key(0), loss=loss, **kwargs
  )
  expected, _ = step_lib.train_step(state, black, loss=loss, **kwargs)
  jax.tree.map(np.testing.assert_array_equal, erased.params, expected.params)


def test_augmented_microbatches_add_up():
  state, kwargs = _setup('mlp')
  options = {'augment': augment.random_shift, 'rng': jax.random.key(3), **kwargs}
  whole, parts = (step_lib.train_step(state, _batch(8), microbatch_size=size, **options)[0] for size in (0, 3))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), whole.params, parts.params)


class _Scaled(nn.Module):
  """A collection that nothing changes, and no argument `train`."""

  num_classes: int = 10

  @nn.compact
  def __call__(self, image):
    scale = self.variable('constants', 'scale', lambda: jnp.ones(()))
    return nn.Dense(self.num_classes)(scale.value * image.reshape(image.shape[0], -1))


def test_microbatches_leave_collections_alone():
  optimizer = optax.sgd(0.1)
  state = step_lib.init_state(jax.random.key(0), model=_Scaled(), optimizer=optimizer)
  after, _ = step_lib.train_step(state, _batch(8), model=_Scaled(), optimizer=optimizer, microbatch_size=4)
  assert after.collections == {'constants': {'scale': 1.0}}
  state, step = _noisy(rng=jax.random.key(1), microbatch_size=4)
  with pytest.raises(ValueError, match='needs the whole batch at once'):
    step(state, _batch(8))


def test_padding_is_filled_with_different_images():
  split = digits.Split(np.arange(8 * 784, dtype=np.int32).reshape(8, 28, 28, 1), np.arange(8, dtype=np.int32))
  batch = digits.take_batch(split, np.array([5, 7, -1, -1], np.int32))
  assert batch['label'].tolist() == [5, 7, 2, 3]
  assert batch['mask'].tolist() == [1, 1, 0, 0]
