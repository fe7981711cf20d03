"""Image files as grey arrays: any format a phone or a scanner writes, and one sentence for what cannot be read."""

import io
import pathlib
import sys
from typing import NamedTuple
import warnings

from jaxtyping import Num, UInt8
import numpy as np
from PIL import Image, ImageFile, ImageOps

from digits import errors

# And no others: some of what Pillow opens by default, such as EPS, starts another program.
FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'TIFF', 'WEBP')
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000  # Of four bytes each, and a copy or two: well under 1 GiB.
# Larger pictures are reduced to about this many pixels along the longer side, which shows a digit well enough.
_LONG_SIDE = 1600


class Picture(NamedTuple):
  """An image file as grey.

  Attributes:
    image: as `decode` gives it.
    size: width and height of the picture in the file, upright, in pixels; those of `image` may be fewer.
  """

  image: UInt8[np.ndarray, 'height width']
  size: tuple[int, int]


def read(source: str | pathlib.Path) -> Picture:
  """Reads an image file as grey; see `decode`.

  Args:
    source: a path, or `-` for standard input.

  Raises:
    DigitsError: it cannot be read, or `decode` refuses it.
  """
  try:
    if source == '-':
      content = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
      with pathlib.Path(source).open('rb') as file:
        content = file.read(MAX_BYTES + 1)
  except OSError as error:
    raise errors.DigitsError(f'{source} cannot be read: {error.strerror}.') from error
  except ValueError as error:  # A null byte in the name.
    raise errors.DigitsError(f'{source!r} is not a file name: {error}.') from error
  return _decode(content, name='standard input' if source == '-' else str(source))


def decode(content: bytes, name: str = 'image') -> UInt8[np.ndarray, 'height width']:
  """Decodes an image to grey: as a person holding it upright sees it, on an opaque backdrop, in 8 bits.

  Pictures of more than 1,600 pixels along a side are reduced.

  Args:
    content: bytes of a BMP, GIF, JPEG, PNG, TIFF or WebP file.
    name: what to call it in an error.

  Raises:
    DigitsError: it is empty, damaged, animated, too large or no image.
  """
  return _decode(content, name).image


def _decode(content: bytes, name: str) -> Picture:
  if not content:
    raise errors.DigitsError(f'{name} is empty: it has 0 bytes.')
  if len(content) > MAX_BYTES:
    raise errors.DigitsError(f'{name} is too large: give an image file of at most {MAX_BYTES >> 20} MiB.')
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Whatever Pillow warns about either decodes or raises.
      with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _check(image, name)
        size = image.size
        grey = _to_grey(image)
        is_turned = (size[0] > size[1]) != (grey.shape[1] > grey.shape[0])
        return Picture(grey, size[::-1] if is_turned else size)
  except errors.DigitsError:
    raise
  except Image.UnidentifiedImageError as error:
    raise errors.DigitsError(f'{name} is not an image: give a PNG, JPEG, WebP, BMP, TIFF or GIF file.') from error
  except Image.DecompressionBombError as error:
    raise errors.DigitsError(_too_many_pixels(name)) from error
  except Exception as error:  # What damage raises depends on the format and on where it is.
    raise errors.DigitsError(f'{name} is damaged: its image cannot be decoded ({type(error).__name__}).') from error


def _check(image: Image.Image, name: str) -> None:
  """Refuses, before anything is decoded, what would take too much memory or has no single picture."""
  if image.width * image.height > MAX_PIXELS:
    raise errors.DigitsError(f'{_too_many_pixels(name)} It has {image.width:,} x {image.height:,}.')
  frames = getattr(image, 'n_frames', 1)
  if frames > 1 and image.format != 'MPO':  # A phone's JPEG, with a second picture for depth or brightness.
    raise errors.DigitsError(f'{name} has {frames} frames or pages: save one of them as an image of its own.')


def _too_many_pixels(name: str) -> str:
  return f'{name} has too many pixels: reduce it to at most {MAX_PIXELS:,}.'


def _to_grey(file: ImageFile.ImageFile) -> UInt8[np.ndarray, 'height width']:
  file.draft('L', (_LONG_SIDE, _LONG_SIDE))  # Lets the JPEG decoder skip what is reduced anyway.
  file.load()
  image: Image.Image = file
  orientation = image.getexif().get(0x0112, 1)  # Read after loading, because Pillow turns a TIFF upright itself.
  if image.mode.startswith(('I', 'F')):
    # Reduced first: as float32 arrays, a large picture would need more memory than is promised.
    image = _reduce(image.convert('I') if image.mode.startswith('I;') else image)
    image = Image.fromarray(_stretch(np.asarray(image)))
  elif image.has_transparency_data:
    image = _reduce(image.convert('RGBA'))
    image = Image.fromarray(_on_backdrop(np.asarray(image.convert('LA'))))
  image = _reduce(image.convert('L'))
  image.getexif()[0x0112] = orientation
  return np.asarray(ImageOps.exif_transpose(image))


def _reduce(image: Image.Image) -> Image.Image:
  factor = max(image.size) // _LONG_SIDE
  return image.reduce(factor) if factor > 1 else image


def _stretch(image: Num[np.ndarray, 'height width']) -> UInt8[np.ndarray, 'height width']:
  """Maps more than 8 bits to 8, from the darkest pixel to the lightest: scanners use some part of the range."""
  image = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
  low, high = image.min(), image.max()
  return (255 * ((image - low) / max(high - low, np.finfo(np.float32).tiny))).astype(np.uint8)


def _on_backdrop(image: UInt8[np.ndarray, 'height width 2']) -> UInt8[np.ndarray, 'height width']:
  """Lays grey and alpha on a backdrop: on more of the same where most is opaque, else on contrast."""
  grey, alpha = image[..., 0].astype(np.float32), image[..., 1].astype(np.float32) / 255
  opaque = alpha > 0.5
  if not opaque.any():
    backdrop = 255.0
  elif opaque.mean() > 0.5:
    backdrop = float(np.median(grey[opaque]))
  else:
    backdrop = 255.0 if grey[opaque].mean() < 128 else 0.0
  return (alpha * grey + (1 - alpha) * backdrop + 0.5).astype(np.uint8)
