"""What JAX computes on."""

import contextlib
import os

import jax
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from digits import errors


def check_devices():
  """Raises DigitsError if the accelerator that `JAX_PLATFORMS` asks for is not there."""
  try:
    jax.devices()
  except RuntimeError as error:
    raise errors.DigitsError(
      f'JAX finds no device for JAX_PLATFORMS={os.environ.get("JAX_PLATFORMS", "")}: install the extra for it '
      '(cuda12, cuda13 or tpu), or unset JAX_PLATFORMS to use what there is.'
    ) from error


def use_all_cores():
  """Makes every CPU core a device of its own; has no effect once JAX has started, or if the user has set a number."""
  with contextlib.suppress(RuntimeError):  # JAX has started.
    if jax.config.jax_num_cpu_devices in (-1, None) and '--xla_force_host' not in os.environ.get('XLA_FLAGS', ''):
      jax.config.update('jax_num_cpu_devices', os.cpu_count())


def compiler_options():
  """Options for `jax.jit`: on a CPU, machine code that is made sooner and runs as fast."""
  return {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else None


def device_name():
  """What the run computes on: `cpu`, or the accelerator's name."""
  device = jax.devices()[0]
  return 'cpu' if device.platform == 'cpu' else device.device_kind


def make_data_mesh(batch_size, requested=0, *, all_by_default=False):
  """Makes the mesh over which the images of a batch are spread.

  Args:
    batch_size: images of a batch.
    requested: how many devices, of all processes; 0 for the default.
    all_by_default: whether that is all devices rather than one. Where there are several processes it always is.

  Returns:
    A `jax.sharding.Mesh` with the axis `data`.

  Raises:
    UsageError: there are not as many devices, or the batch does not divide by their number.
  """
  available = jax.devices()
  if jax.process_count() > 1 and requested not in (0, len(available)):
    raise errors.UsageError(
      f'config.mesh.data={requested} leaves devices idle: {jax.process_count()} processes have {len(available)}.'
    )
  if requested > len(available):
    raise errors.UsageError(
      f'config.mesh.data={requested} is more than the {len(available)} devices there are: '
      'make it smaller, or on a CPU set JAX_NUM_CPU_DEVICES.'
    )
  if not requested and jax.process_count() == 1 and not (all_by_default and batch_size % len(available) == 0):
    requested = 1
  num_devices = requested or len(available)
  if batch_size % num_devices:
    raise errors.UsageError(
      f'config.batch_size={batch_size} does not divide over {num_devices} devices: make it a multiple of that.'
    )
  return Mesh(np.array(available[:num_devices]), ('data',))


def everywhere(mesh):
  """The sharding of arrays that every device of a mesh holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def over_data(mesh, axis=0):
  """The sharding of arrays whose axis `axis` is spread over a mesh."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))


def replicate(tree, mesh):
  """Copies a tree of host arrays, the same in every process, to all devices of a mesh."""
  # The copy is the device's own: a NumPy array must not be overwritten where a compiled function takes it over.
  return jax.tree.map(
    lambda leaf: jax.make_array_from_callback(
      np.shape(leaf), everywhere(mesh), lambda index: np.array(np.asarray(leaf)[index])
    ),
    tree,
  )


def spread(tree, mesh, axis=0):
  """Spreads an axis of a tree of host arrays, the same in every process, over a mesh."""
  return jax.tree.map(
    lambda leaf: jax.make_array_from_callback(np.shape(leaf), over_data(mesh, axis), lambda index: leaf[index]), tree
  )


def local_rows(mesh, batch_size):
  """The slice of each batch that the devices of this process hold."""
  shape = (batch_size,)
  slices = [index[0] for index in over_data(mesh).addressable_devices_indices_map(shape).values()]
  bounds = [index.indices(batch_size)[:2] for index in slices]
  return slice(min(start for start, _ in bounds), max(stop for _, stop in bounds))
