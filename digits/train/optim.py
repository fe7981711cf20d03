"""Stochastic gradient descent and its learning-rate schedules."""

import jax
import optax

SCHEDULES = ('constant', 'cosine', 'onecycle')


def make_schedule(name, learning_rate, num_steps, warmup_steps=0):
  """Makes the learning rate a function of the number of updates done.

  Args:
    name: `constant`, after the warm-up; `cosine`, a half cosine from the peak to 0; or `onecycle`, a half cosine up
      from 1/25 of the peak and one down to 0 (Smith and Topin 2017, arXiv:1708.07120, annealed with cosines).
    learning_rate: the peak; a number or float32[].
    num_steps: how many updates the run has.
    warmup_steps: how many of them go up to the peak, linearly but in `onecycle`.

  Returns:
    A function of int32[] that gives float32[].
  """
  if name == 'onecycle':
    rise = optax.cosine_decay_schedule(1.0, max(warmup_steps, 1))
    fall = optax.cosine_decay_schedule(learning_rate, max(num_steps - warmup_steps, 1))
    return optax.join_schedules(
      [lambda step: learning_rate * (1 - (1 - 1 / 25) * rise(step)), fall], boundaries=[warmup_steps]
    )
  after = {
    'constant': optax.constant_schedule(learning_rate),
    'cosine': optax.cosine_decay_schedule(learning_rate, max(num_steps - warmup_steps, 1)),
  }[name]
  if not warmup_steps:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup_steps), after], [warmup_steps])


def make_optimizer(schedule, momentum=0.0, nesterov=False, weight_decay=0.0, clip_norm=0.0):
  """Makes SGD: clip the gradient, add the weight decay, then the momentum step.

  Args:
    schedule: the learning rate, a number or a function of the step.
    momentum: decay of the velocity, in [0, 1); a number or float32[].
    nesterov: whether to look ahead along the velocity (Sutskever et al. 2013).
    weight_decay: L2 coefficient, added to the gradients of kernels and not of biases; a number or float32[].
    clip_norm: the largest global norm of the gradient; 0 for no limit.

  Returns:
    An `optax.GradientTransformation`.
  """
  return optax.chain(
    optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
    optax.add_decayed_weights(weight_decay, mask=_is_kernel),
    optax.sgd(schedule, momentum=momentum, nesterov=nesterov),
  )


def _is_kernel(params):
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
