"""The devices that JAX computes on: checks, meshes, and arrays spread over them."""

from collections.abc import Callable, Sequence
import contextlib
import os
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
import numpy as np

from digits import errors


def check_devices() -> None:
  """Raises DigitsError if the accelerator that `JAX_PLATFORMS` asks for is not there."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # JAX asserts that some platform it knows is there.
    raise errors.DigitsError(
      f'JAX finds no device for JAX_PLATFORMS={os.environ.get("JAX_PLATFORMS", "")}: install the extra for it '
      '(cuda12, cuda13 or tpu), or unset JAX_PLATFORMS to use what there is.'
    ) from error


def use_all_cores() -> None:
  """Makes every CPU core a device of its own; has no effect once JAX has started, or if the user has set a number."""
  with contextlib.suppress(RuntimeError):  # JAX has started.
    num_devices = getattr(jax.config, 'jax_num_cpu_devices')  # noqa: B009  # No checker sees JAX's flags.
    if num_devices in (-1, None) and '--xla_force_host' not in os.environ.get('XLA_FLAGS', ''):
      jax.config.update('jax_num_cpu_devices', _num_cores())


def _num_cores() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def compiler_options() -> dict[str, Any] | None:
  """Options for `jax.jit`: on a CPU, machine code that is made sooner and runs as fast."""
  return {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else None


def device_name() -> str:
  """The name of the device that a run computes on: `cpu`, or the accelerator's."""
  device = jax.devices()[0]
  return 'cpu' if device.platform == 'cpu' else device.device_kind


def make_data_mesh(batch_size: int, requested: int = 0, *, least_images: int = 1) -> Mesh:
  """Makes the mesh over which the images of a batch are spread.

  Args:
    batch_size: images per batch.
    requested: how many devices, of all processes; 0 for the default.
    least_images: the default is as many devices as divide the batch and have at least this many images each; where
      there are several processes it is always all.

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
  num_devices = requested or len(available)
  if not requested and jax.process_count() == 1:
    most = max(1, min(num_devices, batch_size // least_images))
    num_devices = next(number for number in range(most, 0, -1) if batch_size % number == 0)
  if batch_size % num_devices:
    raise errors.UsageError(
      f'config.batch_size={batch_size} does not divide over {num_devices} devices: make it a multiple of that.'
    )
  return Mesh(np.array(available[:num_devices]), ('data',))


# An array that every device holds whole, in `jit_over_data`.
WHOLE = PartitionSpec()


def by_data(axis: int = 0) -> PartitionSpec:
  """An array whose axis `axis` is spread over a mesh, in `jit_over_data`."""
  return PartitionSpec(*[None] * axis, 'data')


def data_axis(mesh: Mesh | None) -> str | None:
  """The name of the axis to sum over in a function of `jit_over_data`; None where there is one device."""
  return 'data' if mesh is not None and mesh.size > 1 else None


def jit_over_data(
  function: Callable[..., Any],
  mesh: Mesh | None,
  in_specs: Sequence[PartitionSpec],
  *,
  donate: bool = True,
  is_mapped: bool = True,
) -> Any:
  """Compiles a function that each device of a mesh computes on its part of the images, with one result for all.

  Written as `jax.shard_map`, not left to the propagation of shardings: convolutions as matrix products mix images with
  places, so that XLA would gather the batch.

  Args:
    function: a function of arrays that returns sums over `data_axis`.
    mesh: a mesh from `make_data_mesh`; None for the device that the arguments are on.
    in_specs: `WHOLE` or `by_data(...)` for each argument.
    donate: whether the result may take the place of the first argument.
    is_mapped: whether each device computes on its part alone; if not, XLA spreads the function over the mesh by the
      shardings of its arguments, as if all devices were one.

  Returns:
    The function of `jax.jit`.
  """
  if is_mapped and data_axis(mesh):
    function = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=WHOLE, check_vma=False)
  return jax.jit(
    function,
    donate_argnums=0 if donate else (),
    out_shardings=mesh and everywhere(mesh),
    compiler_options=compiler_options(),
  )


def everywhere(mesh: Mesh) -> NamedSharding:
  """The sharding of arrays that every device of a mesh holds whole."""
  return NamedSharding(mesh, WHOLE)


def over_data(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """The sharding of arrays whose axis `axis` is spread over a mesh."""
  return NamedSharding(mesh, by_data(axis))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """Copies a tree of host arrays, the same in every process, to all devices of a mesh."""
  # The copy is the device's own: a NumPy array must not be overwritten where a compiled function takes it over.
  return jax.tree.map(
    lambda leaf: jax.make_array_from_callback(
      np.shape(leaf), everywhere(mesh), lambda index: np.array(np.asarray(leaf)[index])
    ),
    tree,
  )


def spread(tree: PyTree, mesh: Mesh, axis: int = 0) -> PyTree:
  """Spreads an axis of a tree of host arrays, the same in every process, over a mesh."""
  return jax.tree.map(
    lambda leaf: jax.make_array_from_callback(np.shape(leaf), over_data(mesh, axis), lambda index: leaf[index]), tree
  )


def local_rows(mesh: Mesh, batch_size: int) -> slice:
  """The slice of each batch that the devices of this process hold."""
  shape = (batch_size,)
  slices = [index[0] for index in over_data(mesh).addressable_devices_indices_map(shape).values() if index]
  bounds = [index.indices(batch_size)[:2] for index in slices]
  return slice(min(start for start, _ in bounds), max(stop for _, stop in bounds))
