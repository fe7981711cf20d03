import jax.numpy as jnp
import numpy as np
import optax
import pytest

import digits
from digits import errors
from digits.train import optim


@pytest.mark.parametrize(
  ('name', 'warmup', 'expected'),
  [
    ('constant', 0, {0: 1.0, 50: 1.0, 99: 1.0}),
    ('constant', 10, {0: 0.0, 5: 0.5, 10: 1.0, 99: 1.0}),
    ('cosine', 0, {0: 1.0, 50: 0.5, 100: 0.0}),
    ('cosine', 20, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.5, 100: 0.0}),
    ('onecycle', 20, {0: 0.04, 10: 0.52, 20: 1.0, 60: 0.5, 100: 0.0}),
    ('onecycle', 0, {0: 1.0, 50: 0.5, 100: 0.0}),
    ('onecycle', 100, {0: 0.04, 50: 0.52}),
  ],
)
def test_schedules(name, warmup, expected):
  config = digits.load_config('mlp', schedule=name, learning_rate=1.0, warmup_fraction=warmup / 100)
  schedule = optim.make_schedule(config, num_steps=100)
  for step, rate in expected.items():
    assert float(schedule(step)) == pytest.approx(rate, abs=1e-6)
  scaled = optim.make_schedule(config, num_steps=100, peak=0.3)
  assert float(scaled(7)) == pytest.approx(0.3 * float(schedule(7)))


@pytest.mark.parametrize('nesterov', [False, True])
@pytest.mark.parametrize('clip_norm', [0.0, 0.5])
def test_sgd_against_numpy(nesterov, clip_norm):
  rng = np.random.default_rng(0)
  kernel, bias = rng.standard_normal((3, 2)), rng.standard_normal(2)
  params = {'kernel': jnp.asarray(kernel, jnp.float32), 'bias': jnp.asarray(bias, jnp.float32)}
  config = digits.load_config(
    'mlp',
    learning_rate=0.1,
    schedule='cosine',
    warmup_fraction=0.0,
    nesterov=nesterov,
    weight_decay=0.01,
    clip_norm=clip_norm,
  )
  optimizer = optim.make_optimizer(config, num_steps=4)
  state = optimizer.init(params)
  velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
  for step in range(4):
    grads = [rng.standard_normal((3, 2)), rng.standard_normal(2)]
    tree = {'kernel': jnp.asarray(grads[0], jnp.float32), 'bias': jnp.asarray(grads[1], jnp.float32)}
    updates, state = optimizer.update(tree, state, params)
    params = optax.apply_updates(params, updates)

    norm = np.sqrt(sum((grad**2).sum() for grad in grads))
    if clip_norm and norm > clip_norm:
      grads = [grad * clip_norm / norm for grad in grads]
    grads[0] = grads[0] + 0.01 * kernel
    velocity = [0.9 * v + grad for v, grad in zip(velocity, grads, strict=True)]
    moves = [0.9 * v + grad if nesterov else v for v, grad in zip(velocity, grads, strict=True)]
    rate = 0.1 * (1 + np.cos(np.pi * step / 4)) / 2
    kernel, bias = kernel - rate * moves[0], bias - rate * moves[1]
  np.testing.assert_allclose(params['kernel'], kernel, rtol=1e-5, atol=1e-8)
  np.testing.assert_allclose(params['bias'], bias, rtol=1e-5, atol=1e-8)


_PARAMS = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}


def _updates(**fields):
  optimizer = digits.make_optimizer(digits.load_config('mlp', **fields), num_steps=10)
  grads = {'kernel': jnp.full((3, 2), 0.5), 'bias': jnp.full(2, -0.5)}
  return optimizer.update(grads, optimizer.init(_PARAMS), _PARAMS)[0]


_PLAIN = {'momentum': 0.0, 'nesterov': False, 'schedule': 'constant', 'warmup_fraction': 0.0, 'learning_rate': 0.1}


def test_adam_by_name_is_optaxs_adam():
  updates = _updates(**_PLAIN, weight_decay=0.0, optimizer={'name': 'adam', 'b1': 0.8})
  expected = optax.adam(0.1, b1=0.8)
  grads = {'kernel': jnp.full((3, 2), 0.5), 'bias': jnp.full(2, -0.5)}
  expected = expected.update(grads, expected.init(_PARAMS), _PARAMS)[0]
  for name in _PARAMS:
    np.testing.assert_allclose(updates[name], expected[name], rtol=1e-6)


def test_an_optimizers_own_weight_decay_takes_the_place_of_ours_and_spares_biases():
  without, decayed = (_updates(**_PLAIN, weight_decay=decay, optimizer={'name': 'adamw'}) for decay in (0.0, 0.3))
  np.testing.assert_allclose(decayed['kernel'] - without['kernel'], -0.1 * 0.3, rtol=1e-4)
  np.testing.assert_allclose(decayed['bias'], without['bias'])
  # In Adam the term in the gradient nearly vanishes in its first, normalized step.
  inside = _updates(**_PLAIN, weight_decay=0.3, optimizer={'name': 'adam'})
  np.testing.assert_allclose(inside['kernel'], without['kernel'], rtol=1e-4)


def test_a_registered_optimizer_is_known_to_configs(monkeypatch):
  monkeypatch.setitem(optim.OPTIMIZERS, 'half', None)  # So that it is gone afterwards.

  @digits.register_optimizer('half')
  def half(learning_rate, *, factor: float = 0.5):
    return optax.chain(optax.scale(factor), optax.sgd(learning_rate))

  updates = _updates(**_PLAIN, weight_decay=0.0, optimizer={'name': 'half', 'factor': 0.25})
  np.testing.assert_allclose(updates['kernel'], -0.1 * 0.25 * 0.5, rtol=1e-6)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'optimizer': {'name': 'adams'}}, "config.optimizer.name='adams' is not an optimizer of optax"),
    ({'optimizer': {'name': 'chain'}}, 'is not an optimizer of optax'),
    ({'optimizer': {'name': '__loader__.x'}}, 'is not an optimizer of optax'),
    ({'optimizer': {'name': 'adam', 'beta': 0.9}}, 'config.optimizer.beta is unknown'),
    ({'optimizer': {'name': 'sgd', 'momentum': 0.5}}, 'config.optimizer.momentum is a field of its own'),
    ({'optimizer': {'name': 'adam'}, 'momentum': 0.9}, 'config.momentum=0.9 does not go with adam, which has none'),
    ({'optimizer': {'name': 'adagrad'}, 'nesterov': True}, 'config.nesterov=True does not go with adagrad'),
  ],
)
def test_wrong_optimizers_are_one_sentence(fields, message):
  with pytest.raises(errors.UsageError, match=message):
    _updates(**{**_PLAIN, **fields})
