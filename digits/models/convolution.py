"""Convolution with max-pooling, written as matrix products: twice as fast on a CPU as XLA's own.

There `lax.conv_general_dilated` reaches about 40 % of the speed of matrix products, and the gradient of a maximum over
windows costs as much again. Here a convolution is a few matrix products, in one of two ways:

*Spectral*, for several input channels. By the convolution theorem a convolution is, at each frequency, one product with
a channels x channels matrix (Mathieu, Henaff and LeCun 2013, arXiv:1312.5851). The images are so small that the Fourier
transform itself is a product with a dense matrix, which is faster than an FFT and lets any length do. A 5x5 convolution
of 14x14 images takes a third of the direct method's arithmetic; and unlike the transforms of Winograd (Lavin and Gray
2015, arXiv:1509.09308) Fourier matrices are orthogonal up to scale: the result is accurate to about 1e-6.

*Blocks*, for one or a few input channels. A 2x2 block of outputs depends on (kh+1) x (kw+1) inputs, so the convolution
is one product of these patches with a matrix of four times as many rows as outputs. It comes out sorted by the corners
of the block, and pooling is the maximum of four arrays.

The functions take and return the usual layout, images NHWC and kernels HWIO. Inside, the batch is the last axis (HWCN):
transforms then act on leading axes, where no data moves, and every loop runs over long contiguous rows. Between two
layers XLA cancels the transpositions.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def conv_pool(
  x: Float[Array | np.ndarray, 'batch height width channels'],
  kernel: Float[Array | np.ndarray, 'kh kw channels features'],
  method: str = 'auto',
  between: Callable[[jax.Array, int], jax.Array] = lambda y, axis: y,
) -> Float[Array, 'batch h w features']:
  """Convolves with stride 1 and zero padding to the same size, then takes the maximum over windows of 2x2.

  Of equal values in a window the first gets the gradient, as in `flax.linen.max_pool`.

  Args:
    x: images or feature maps.
    kernel: one kernel for each pair of a channel and a feature.
    method: `lax` for XLA's convolution; `matmul` for matrix products where they are less work; `auto` for `matmul` in
      float32 on a CPU, and `lax` otherwise.
    between: what is applied to the convolution before the maximum; it gets the values and the axis of the features.

  Returns:
    Maps of half the height and width; an odd last row or column is dropped.
  """
  _, height, width, _ = x.shape
  h, w = height // 2, width // 2
  way = _choose(x, kernel, method)
  if way == 'lax':
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    y = lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    y = between(y, 3)
    y = y[:, : 2 * h, : 2 * w].reshape(x.shape[0], h, 2, w, 2, -1)  # Not len(x): jax.export leaves it a symbol.
    return _first_max((2, 4), y)
  x = x.transpose(1, 2, 3, 0)
  if way == 'blocks':
    y = _first_max((0, 1), between(_block_conv(x, kernel), 2)).transpose(1, 2, 0, 3)
  else:
    # What the pool drops is not computed.
    sizes = _Sizes(height, width, 2 * h, 2 * w, *kernel.shape[:2])
    y = between(_spectral_conv(sizes, x, kernel), 2)
    y = _first_max((1, 3), y.reshape(h, 2, w, 2, *y.shape[2:]))
  return y.transpose(3, 0, 1, 2)


def _choose(x, kernel, method):
  """Chooses `lax`, `blocks` or `spectral` by arithmetic per image."""
  num_images, height, width, _ = x.shape
  kh, kw, channels, outputs = kernel.shape
  if method == 'auto':
    method = 'matmul' if jax.default_backend() == 'cpu' else 'lax'
  if method == 'lax' or num_images < 16 or kh * kw < 4 or min(height, width) < 2 or x.dtype == jnp.bfloat16:
    return 'lax'
  if channels * (kh + 1) * (kw + 1) <= 128:
    return 'blocks'
  # Multiplications: 4 real ones for a complex one, over half of the frequencies; and the transforms, along both axes.
  rows, columns = height + kh // 2, width + kw // 2
  transforms = (channels + outputs) * rows * width * (height + 2 * columns)
  spectral = 2 * rows * columns * channels * outputs + transforms
  direct = height * width * kh * kw * channels * outputs
  return 'spectral' if 2 * spectral < direct else 'lax'


# Spectral convolution.


class _Sizes(NamedTuple):
  """Rows and columns of input, output and kernel."""

  height: int
  width: int
  out_height: int
  out_width: int
  kh: int
  kw: int


@functools.lru_cache
def _fourier(sizes):
  """Matrices of the discrete Fourier transforms, real, float64.

  With u and v the frequencies along rows and columns and an axis of size 2 for
  (real, imaginary), a real image h x w becomes

    rows @ image           [(u 2), h] x [h, w]       only u >= 0, by symmetry,
    columns @ that         [(v 2), (2 w)] x [(2 w), ...] for each u.

  Returns:
    rows, columns, their inverses to the output's size, and the kernel's
    transform [(u v 2), (kh kw)].
  """
  height, width, out_height, out_width, kh, kw = sizes
  top, left = (kh - 1) // 2, (kw - 1) // 2
  # The transform is periodic; this length lets a kernel that sticks out on
  # one side meet zeros and never the image's other side.
  m = max(height + top, out_height + kh - 1 - top)
  n = max(width + left, out_width + kw - 1 - left)
  u, v = np.arange(m // 2 + 1), np.arange(n)

  def turns(frequency, position, length):
    return np.exp(-2j * np.pi / length * np.outer(frequency, position))

  def from_real(z):  # complex [f, x] to real [(f 2), x]
    return np.stack([z.real, z.imag], 1).reshape(-1, z.shape[1])

  def from_complex(z):  # complex [f, x] to real [(f 2), (2 x)]
    return from_real(np.concatenate([z, 1j * z], 1))

  rows = from_real(turns(u, np.arange(height), m))
  columns = from_complex(turns(v, np.arange(width), n))
  # A Fourier matrix's inverse is its adjoint over the length, in real numbers
  # its transpose.  Frequencies left out are conjugates of others: those count
  # twice.
  twice = np.where((u == 0) | (2 * u == m), 1, 2)[:, None]
  inverse_rows = from_real(twice * turns(u, np.arange(out_height), m)).T / m
  inverse_columns = from_complex(turns(v, np.arange(out_width), n)).T / n
  # Correlation instead of convolution: the conjugate, from the kernel's centre.
  kernel = np.einsum('ui,vj->uvij', turns(u, np.arange(kh) - top, m), turns(v, np.arange(kw) - left, n)).conj()
  kernel = from_real(kernel.reshape(u.size * v.size, kh * kw))
  return rows, columns, inverse_rows, inverse_columns, kernel


def _apply(matrix, x):
  """Multiplies: matrix [m, k] times each of x [b, k, l], float[b, m, l].

  The matrix is repeated because XLA's CPU backend runs a batched product two
  to five times faster than one that it has to transpose into shape.
  """
  matrix = jnp.asarray(matrix, x.dtype)
  return lax.batch_matmul(jnp.broadcast_to(matrix, (len(x), *matrix.shape)), x)


def _transform(rows, columns, x):
  """Real [h, w, c, n] to half spectrum [(u v), (2 c), n]."""
  height, width, channels, images = x.shape
  x = jnp.asarray(rows, x.dtype) @ x.reshape(height, -1)
  x = _apply(columns, x.reshape(-1, 2 * width, channels * images))
  return x.reshape(-1, 2 * channels, images)


def _transform_back(rows, columns, x):
  """Half spectrum [(u v), (2 c), n] to real [h, w, c, n]."""
  channels, images = x.shape[1] // 2, x.shape[2]
  x = x.reshape(rows.shape[1] // 2, columns.shape[1], channels * images)
  x = jnp.asarray(rows, x.dtype) @ _apply(columns, x).reshape(rows.shape[1], -1)
  return x.reshape(len(rows), -1, channels, images)


def _kernel_spectrum(matrix, kernel):
  """[kh, kw, c, o] to complex products as real ones, [(u v), (2 c), (2 o)]."""
  kh, kw, channels, outputs = kernel.shape
  k = jnp.asarray(matrix, kernel.dtype) @ kernel.reshape(kh * kw, -1)
  k = k.reshape(-1, 2, channels, outputs)
  real, imag = k[:, 0], k[:, 1]
  return jnp.concatenate([jnp.concatenate([real, imag], 2), jnp.concatenate([-imag, real], 2)], 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _spectral_conv(sizes, x, kernel):
  """float[h, w, c, n], float[kh, kw, c, o] -> float[out_h, out_w, o, n]."""
  return _spectral_forward(sizes, x, kernel)[0]


def _spectral_forward(sizes, x, kernel):
  rows, columns, inverse_rows, inverse_columns, to_spectrum = _fourier(sizes)
  x = _transform(rows, columns, x)
  kernel = _kernel_spectrum(to_spectrum, kernel)
  # Of the four ways to store the factors, XLA is fastest with this one.
  y = lax.dot_general(kernel, x, (((1,), (1,)), ((0,), (0,))))
  return _transform_back(inverse_rows, inverse_columns, y), (x, kernel)


def _spectral_backward(sizes, residuals, dy):
  # All maps are linear: the gradients are the transposed matrices, in reverse.
  # Written by hand because the derivatives that JAX derives have operands in
  # orders that XLA multiplies several times more slowly.
  rows, columns, inverse_rows, inverse_columns, to_spectrum = _fourier(sizes)
  x, kernel = residuals  # [(u v), (2 c), n], [(u v), (2 c), (2 o)]
  channels, outputs = kernel.shape[1] // 2, kernel.shape[2] // 2
  dy = _transform(inverse_rows.T, inverse_columns.T, dy)
  dx = _transform_back(rows.T, columns.T, lax.batch_matmul(kernel, dy))
  dk = lax.dot_general(x, dy, (((2,), (2,)), ((0,), (0,))))
  c, o = channels, outputs
  dk = jnp.stack([dk[:, :c, :o] + dk[:, c:, o:], dk[:, :c, o:] - dk[:, c:, :o]], 1)
  dk = jnp.asarray(to_spectrum.T, dk.dtype) @ dk.reshape(-1, c * o)
  return dx, dk.reshape(sizes.kh, sizes.kw, c, o)


_spectral_conv.defvjp(_spectral_forward, _spectral_backward)


# Convolution by blocks.


def _block_conv(x, kernel):
  """x[H, W, c, n] to outputs in 2x2 blocks, [2, 2, o, H//2, W//2, n]."""
  height, width, channels, images = x.shape
  kh, kw, _, outputs = kernel.shape
  h, w = height // 2, width // 2
  # A patch covers a x b blocks of 2x2 inputs.
  a, b = (kh + 2) // 2, (kw + 2) // 2
  top, left = (kh - 1) // 2, (kw - 1) // 2
  x = lax.pad(
    x,
    jnp.zeros((), x.dtype),
    ((top, 2 * (h + a - 1) - height - top, 0), (left, 2 * (w + b - 1) - width - left, 0), (0, 0, 0), (0, 0, 0)),
  )
  x = x.reshape(h + a - 1, 2, w + b - 1, 2, channels, images)
  x = x.transpose(1, 3, 4, 0, 2, 5)
  patches = jnp.concatenate(
    [x[:, :, :, i : i + h, j : j + w].reshape(4 * channels, h * w * images) for i in range(a) for j in range(b)]
  )
  # The kernel placed at each corner: [(2 2), (a b 2 2), (kh kw)] of 0 and 1.
  place = np.einsum('pait,qbju->pqabijtu', _places(a, kh), _places(b, kw))
  place = place.reshape(4, 4 * a * b, kh * kw)
  kernel = jnp.einsum('pst,tco->posc', jnp.asarray(place, x.dtype), kernel.reshape(kh * kw, channels, outputs))
  y = kernel.reshape(4 * outputs, -1) @ patches
  return y.reshape(2, 2, outputs, h, w, images)


def _places(blocks, size):
  """Is input 2 i + j under tap t at corner p?  bool [p 2, i, j 2, t]."""
  p, i, j, t = np.ogrid[:2, :blocks, :2, :size]
  return (2 * i + j == p + t).astype(float)


# Pooling.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _first_max(axes, y):
  """Maximum over two axes of size 2; the first of equals gets the gradient.

  JAX's own derivative of a maximum counts the equal values, and that of a
  slice adds arrays of zeros; this one reads and writes everything once.
  """
  a, b, c, d = _corners(axes, y)
  return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _corners(axes, y):
  i, j = axes
  return [lax.index_in_dim(lax.index_in_dim(y, q, j, False), p, i, False) for p in range(2) for q in range(2)]


def _first_max_backward(axes, y, g):
  i, j = axes
  largest, free, gradients = _first_max(axes, y), True, []
  for corner in _corners(axes, y):
    here = free & (corner == largest)
    gradients.append(jnp.where(here, g, 0))
    free = free & ~here
  rows = [jnp.stack(gradients[:2], j - 1), jnp.stack(gradients[2:], j - 1)]
  return (jnp.stack(rows, i),)


_first_max.defvjp(lambda axes, y: (_first_max(axes, y), y), _first_max_backward)
