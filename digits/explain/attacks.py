"""Adversarial images: changes of at most epsilon per pixel that turn a right answer into a wrong one.

Pixels are floats in [0, 1], and so is epsilon, the radius of a ball in the maximum norm around the image. The model's
variables stay fixed. Both attacks follow the sign of a gradient, that of the loss by the pixels. Instead of the
cross-entropy they climb the logarithm of the odds against the label, log((1 - p) / p), which rises with it and so has
the same sign: in float32 the probability p of a sure answer is rounded to 1, and the gradient of the cross-entropy then
lacks the label (Carlini and Wagner 2017, arXiv:1608.04644, show how such gradients make a network look robust).
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from digits.data import arrays
from digits.train.step import normalize, Variables

EPSILONS = (0.05, 0.1, 0.2, 0.3)

# What a search may walk in all, in units of epsilon: it crosses the ball, which is two wide, and still moves along the
# border. The same number as in section 5 of Madry et al. 2018.
_REACH = 2.5


class Attacked(NamedTuple):
  """What an attack made of images.

  Attributes:
    images: the changed images, in [0, 1].
    fooled: whether the model takes the changed image for another class than its label.
  """

  images: Float[Array, 'batch h w 1']
  fooled: Bool[Array, ' batch']


class _Search(NamedTuple):
  """Where a search is, and the best image that it has come upon: one that fools the model, then one of higher odds."""

  current: Float[Array, 'batch h w 1']
  best: Float[Array, 'batch h w 1']
  fooled: Bool[Array, ' batch']
  odds: Float[Array, ' batch']


def fgsm(
  model: nn.Module,
  variables: Variables,
  images: Float[Array, 'batch h w 1'],
  labels: Int[Array | np.ndarray, ' batch'],
  epsilon: float,
) -> Attacked:
  """The fast gradient sign method: one step of epsilon along the sign of the gradient.

  Goodfellow, Shlens and Szegedy 2015, arXiv:1412.6572.

  Args:
    model: an unbound module from images to logits.
    variables: the model's variables.
    images: the images, in [0, 1].
    labels: the classes that they show.
    epsilon: the change of each pixel; less where the pixel would leave [0, 1].
  """
  search = _climb(model, variables, images, labels, _start(images, images), epsilon, epsilon)
  search = _look(model, variables, labels, _start(images, search.current))
  return Attacked(search.best, search.fooled)


def pgd(
  model: nn.Module,
  variables: Variables,
  images: Float[Array, 'batch h w 1'],
  labels: Int[Array | np.ndarray, ' batch'],
  epsilon: float,
  *,
  rng: Key[Array, ''],
  num_steps: int = 40,
  num_restarts: int = 2,
) -> Attacked:
  """Projected gradient descent on the odds of the label, from random places in the ball.

  Madry, Makelov, Schmidt, Tsipras and Vladu 2018, arXiv:1706.06083. The step size is 2.5 epsilon / `num_steps`.

  Args:
    model: an unbound module from images to logits.
    variables: the model's variables.
    images: the images, in [0, 1].
    labels: the classes that they show.
    epsilon: the largest change of a pixel.
    rng: key of the random places, which are uniform in the ball and then clipped to [0, 1].
    num_steps: steps of one search.
    num_restarts: number of searches.

  Returns:
    Of the image itself and of what each step of each search ends in, the best: one that fools the model if there is
    any, and among equals the one with the highest loss.
  """
  search = _look(model, variables, labels, _start(images, images))
  rows = np.arange(len(images))
  for restart in range(num_restarts):
    search = _run_search(model, variables, images, labels, search, epsilon, rng, restart, rows, num_steps)
  return Attacked(search.best, search.fooled)


def accuracy_under_attack(
  model: nn.Module,
  variables: Variables,
  split: arrays.Split,
  epsilons: Sequence[float] = EPSILONS,
  *,
  num_steps: int = 40,
  num_restarts: int = 2,
  seed: int = 0,
  batch_size: int = 100,
) -> dict[str, list[float]]:
  """Measures the share of images that a model gets right, both as they are and attacked.

  With PGD an image that is fooled within a ball is fooled within every larger one, so only those that withstood the
  smaller ones are attacked, and only those that withstood one search get the next. FGSM is one step of exactly epsilon:
  its accuracy may rise with epsilon where the step goes too far.

  Args:
    model: an unbound module from images to logits.
    variables: the model's variables.
    split: images uint8 and their labels, on the host.
    epsilons: radii of the balls, from small to large.
    num_steps: see `pgd`.
    num_restarts: see `pgd`.
    seed: seed of the random places. Those of an image depend on its row in the split, not on the batches.
    batch_size: images attacked at once; changes speed and memory only.

  Returns:
    dict of `fgsm` and `pgd`, each the accuracies as fractions in the order of `epsilons`.

  Raises:
    ValueError: the epsilons do not ascend.
  """
  if list(epsilons) != sorted(epsilons):
    raise ValueError(f'epsilons={tuple(epsilons)} must ascend.')
  variables, rng = jax.device_put(variables), jax.random.key(seed)

  def look(images, labels, rows):
    return _look(model, variables, labels, _start(images, images))

  def step(images, labels, rows, *, epsilon):
    return fgsm(model, variables, images, labels, epsilon)

  def search(images, labels, rows, *, epsilon, restart):
    start = _start(images, images)
    return _run_search(model, variables, images, labels, start, epsilon, rng, restart, rows, num_steps)

  def withstand(rows, attack, **options):
    """Those of the rows whose images the attack does not fool."""
    kept = [rows[:0]]
    for start in range(0, len(rows), batch_size):
      part = rows[start : start + batch_size]
      padded = np.resize(part, batch_size)  # Repeats the rows, so that there is one shape to compile.
      attacked = attack(normalize(split.image[padded]), split.label[padded], padded, **options)
      kept.append(part[~np.asarray(attacked.fooled)[: len(part)]])
    return np.concatenate(kept)

  num_examples = len(split.label)
  right = withstand(np.arange(num_examples), look)
  accuracy: dict[str, list[float]] = {'fgsm': [], 'pgd': []}
  survivors = right
  for epsilon in epsilons:
    accuracy['fgsm'].append(len(withstand(right, step, epsilon=epsilon)) / num_examples)
    for restart in range(num_restarts):
      survivors = withstand(survivors, search, epsilon=epsilon, restart=restart)
    accuracy['pgd'].append(len(survivors) / num_examples)
  return accuracy


def _run_search(model, variables, images, labels, search, epsilon, rng, restart, rows, num_steps):
  """Goes on with a search from another random place, for `num_steps` steps."""
  search = search._replace(current=_draw_places(images, epsilon, rng, restart, rows))
  # Called step by step: XLA's CPU backend runs `lax.conv` three times slower in a loop of its own, and for other models
  # one is as fast as the other.
  for _ in range(num_steps):
    search = _climb(model, variables, images, labels, search, epsilon, _REACH * epsilon / num_steps)
  return _look(model, variables, labels, search)


@jax.jit
def _draw_places(images, epsilon, rng, restart, rows):
  """Uniform in the ball, then clipped, for each row with a key of its own."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(rng, restart), rows)
  change = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:], minval=-1.0, maxval=1.0))(keys)
  return jnp.clip(images + epsilon * change, *_bounds(images, epsilon))


@functools.partial(jax.jit, static_argnums=0)
def _climb(model, variables, images, labels, search, epsilon, step_size):
  """Looks at the current images, then moves them by one step along the sign of the gradient."""

  def total(current):
    odds, fooled = _measure(model, variables, current, labels)
    return jnp.sum(odds), (odds, fooled)

  gradient, measured = jax.grad(total, has_aux=True)(search.current)
  moved = jnp.clip(search.current + step_size * jnp.sign(gradient), *_bounds(images, epsilon))
  return _keep_best(search, *measured)._replace(current=moved)


@functools.partial(jax.jit, static_argnums=0)
def _look(model, variables, labels, search):
  return _keep_best(search, *_measure(model, variables, search.current, labels))


def _start(images, current):
  """A search that has not looked at anything."""
  return _Search(current, images, jnp.zeros(len(images), bool), jnp.full(len(images), -jnp.inf))


def _measure(model, variables, images, labels):
  """The logarithm of the odds against the label, and whether another class is the answer."""
  logits = model.apply(variables, images).astype(jnp.float32)
  is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  others = jax.nn.logsumexp(logits, axis=-1, where=~is_label)
  return others - jnp.sum(logits, axis=-1, where=is_label), jnp.argmax(logits, axis=-1) != labels


def _keep_best(search, odds, fooled):
  better = (fooled & ~search.fooled) | ((fooled == search.fooled) & (odds > search.odds))
  return search._replace(
    best=jnp.where(better[:, None, None, None], search.current, search.best),
    fooled=search.fooled | fooled,
    odds=jnp.where(better, odds, search.odds),
  )


def _bounds(images, epsilon):
  """The lowest and the highest value of each pixel in the ball."""
  return jnp.maximum(images - epsilon, 0.0), jnp.minimum(images + epsilon, 1.0)
