"""A TFDS builder of MNIST that reads the four official archives without TensorFlow."""

import gzip
import os
import pathlib
import urllib.parse

from jaxtyping import UInt8
import numpy as np
import tensorflow_datasets as tfds

ARCHIVES = pathlib.Path(__file__).parent / 'archives'

# The address that TFDS registers for its own `mnist`; it is asked only for archives that are not bundled.
_URL = 'https://storage.googleapis.com/cvdf-datasets/mnist/'
FILES = {
  'train': ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'),
  'test': ('t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'),
}
_IDX_UINT8 = 0x08


def read_idx(path: str | os.PathLike[str]) -> UInt8[np.ndarray, '...']:
  """Reads a gzipped IDX file of unsigned bytes.

  Returns:
    An array of the shape that the file's header states.

  Raises:
    ValueError: the content is not IDX of unsigned bytes, or not as long as its header says.

  Source: the format is described at the end of http://yann.lecun.com/exdb/mnist/.
  """
  with gzip.open(path) as file:
    content = file.read()
  zeros, dtype, num_axes = int.from_bytes(content[:2], 'big'), *content[2:4]
  if zeros != 0 or dtype != _IDX_UINT8:
    raise ValueError(f'{path} is not an IDX file of unsigned bytes.')
  shape = np.frombuffer(content, '>u4', count=num_axes, offset=4)
  array = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes)
  if array.size != shape.prod():
    raise ValueError(f'{path} holds {array.size} values where its header says {shape.prod()}.')
  return array.reshape(shape)


# Not registered: TFDS keeps the name `mnist` for its own builder, which needs TensorFlow.
class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
  """MNIST in its original order: image uint8[28, 28, 1] and label 0 to 9."""

  name = 'digits_mnist'
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return self.dataset_info_from_configs(
      description='The MNIST database of handwritten digits, in the order of the original files.',
      homepage='http://yann.lecun.com/exdb/mnist/',
      # A Tensor and not an Image: PNG would cost 7 s of the 18 s that preparing takes, and saves nothing.
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8),
          'label': tfds.features.ClassLabel(num_classes=10),
        }
      ),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    urls = {split: [urllib.parse.urljoin(_URL, file) for file in files] for split, files in FILES.items()}
    paths = dl_manager.download(urls)
    return {split: self._generate_examples(*paths[split]) for split in FILES}

  def _generate_examples(self, image_path, label_path):
    images, labels = read_idx(image_path), read_idx(label_path)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield index, {'image': image[..., None], 'label': int(label)}
