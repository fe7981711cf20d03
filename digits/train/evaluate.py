"""Measuring a model on a split, each example counted once."""

import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import Mesh
import numpy as np

from digits import data
from digits.data import arrays
from digits.runtime import devices
from digits.train import compiled
from digits.train.metrics import Metrics
from digits.train.step import eval_step, Variables

# About how many images one call of the compiled evaluation measures.
_IMAGES_PER_CALL = 5000


@functools.cache
def _compile(model: nn.Module, mesh: Mesh | None) -> Any:
  """Compiles, once for a model, `(metrics, variables, batches, start, stop) -> metrics`, which adds some batches.

  The batches are stacked along a first axis.
  """
  # Nothing is kept for a backward pass, so that four times as many images fit.
  microbatch_size = 4 * compiled.choose_microbatch_size(model)
  measure = functools.partial(eval_step, model=model, microbatch_size=microbatch_size)

  def measure_batches(metrics, variables, batches, start, stop):
    def body(index, sums):
      return sums.merge(measure(variables, {name: array[index] for name, array in batches.items()}))

    # Without a loop where there is nothing to repeat: see `compiled.is_slow_in_loops`.
    if len(batches['label']) == 1:
      sums = body(0, Metrics.empty())
    else:
      sums = jax.lax.fori_loop(start, stop, body, Metrics.empty())
    if devices.data_axis(mesh):
      sums = jax.lax.psum(sums, devices.data_axis(mesh))
    return metrics.merge(sums)

  over = (devices.WHOLE, devices.WHOLE, devices.by_data(axis=1), devices.WHOLE, devices.WHOLE)
  return devices.jit_over_data(measure_batches, mesh, over, donate=False)


def evaluate_split(
  variables: Variables, split: arrays.Split, *, model: nn.Module, batch_size: int = 500, mesh: Mesh | None = None
) -> dict[str, Any]:
  """Measures a model on every example of a split, but for those that are labelled as no digit.

  Args:
    variables: the model's variables, such as `state.variables`.
    split: the split, on the host.
    model: an unbound module from images to logits.
    batch_size: images computed at once; changes speed and memory only.
    mesh: the mesh that the variables are on, to spread the images over; None for one device.

  Returns:
    dict of accuracy, a fraction; loss, the mean cross-entropy in nats; and examples.
  """
  known = split.label != arrays.NO_DIGIT
  if not known.all():
    split = arrays.Split(split.image[known], split.label[known])
  if mesh is not None:
    batch_size += -batch_size % mesh.size
  per_call = 1 if compiled.is_slow_in_loops(model) else max(1, _IMAGES_PER_CALL // batch_size)
  per_call = min(per_call, max(1, math.ceil(len(split.label) / batch_size)))
  evaluate, metrics = _compile(model, mesh), Metrics(*np.zeros(4, np.float32))
  for batches in data.host_batches(split, per_call * batch_size):
    counted = np.flatnonzero(batches['mask']) // batch_size
    batches = {name: array.reshape(per_call, batch_size, *array.shape[1:]) for name, array in batches.items()}
    if mesh is not None and devices.data_axis(mesh):
      batches = devices.spread(batches, mesh, axis=1)
    metrics = evaluate(metrics, variables, batches, counted[0], counted[-1] + 1)
  return metrics.compute()
