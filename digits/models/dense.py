"""The product of a dense layer with few outputs, with a derivative that a CPU computes three times faster."""

import jax


def few_outputs_dot(x, kernel, dimension_numbers=None, precision=None):
  """A `dot_general` for `nn.Dense` with fewer outputs than there are images in a batch.

  The gradient of the kernel is x.T @ dy. For 784 inputs and 10 outputs XLA computes that at 70 GFLOP/s on a CPU, and
  its transpose, dy.T @ x, at 220 (Zen 5, 2 cores); but it takes the one for the other unless it is held back.

  Args:
    x: float[B, I].
    kernel: float[I, O].
    dimension_numbers: what flax gives, those of a matrix product.
    precision: what flax gives, None.

  Returns:
    float[B, O].
  """
  del dimension_numbers, precision
  return _dot(x, kernel)


@jax.custom_vjp
def _dot(x, kernel):
  return x @ kernel


def _backward(residuals, dy):
  x, kernel = residuals
  return dy @ kernel.T, jax.lax.optimization_barrier(dy.T @ x).T


_dot.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _backward)
