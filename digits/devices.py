"""What JAX computes on."""

import contextlib
import os

import jax

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
