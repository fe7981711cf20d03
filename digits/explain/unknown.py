"""Pictures that show no digit, and scores by which a network may tell them from those that do.

The pictures are of four kinds:

- `letters`, printed, bent and slanted, prepared as MNIST's digits are; without those that look like a digit, upright or
  in some hand: B b D e f G g I i J j l O o Q q r S s t Y y Z z;
- `signs` such as # % & ? + =, likewise; without the slash, the bar, the dollar and the comma;
- `noise`, each pixel drawn on its own from the histogram of all pixels of a split: the ink of digits without a form;
- `patches`, parts of a split's digits, enlarged as digits are; only such cuts as leave no other digit.

`digits.data.outliers` draws all but the noise and says what is allowed. Networks trained on the dataset `reading` have
seen such pictures, drawn with other random numbers.
"""

from typing import NamedTuple

from jaxtyping import Float, UInt8
import numpy as np
from scipy import special

from digits.data import arrays, outliers, pen

# By name, which of `outliers.KINDS` is drawn; None for what is made here.
_DRAWN = {'letters': 'letter', 'signs': 'sign', 'noise': None, 'patches': 'slice'}
KINDS = tuple(_DRAWN)


class Scores(NamedTuple):
  """How much an image looks like what the network was trained on; higher for what it knows.

  Attributes:
    probability: the highest probability of a class (Hendrycks and Gimpel 2017, arXiv:1610.02136).
    energy: the logarithm of the sum of the exponentials of the logits, in nats. It is the energy of Liu, Wang, Owens
      and Li 2020, arXiv:2010.03759, at a temperature of 1 with its sign changed.
  """

  probability: Float[np.ndarray, ' examples']
  energy: Float[np.ndarray, ' examples']


def draw_unknown(kind: str, count: int, split: arrays.Split, seed: int) -> UInt8[np.ndarray, 'count 28 28 1']:
  """Draws pictures of no digit.

  Args:
    kind: a name in `KINDS`.
    count: number of pictures.
    split: digits, whose parts make the patches, and whose pixels make the noise.
    seed: seed of all randomness; of a longer series with the same seed, the first pictures are the same.

  Raises:
    ValueError: there is no such kind.
  """
  if kind not in KINDS:
    raise ValueError(f'{kind!r} is not one of the kinds {", ".join(KINDS)}.')
  drawn, number = _DRAWN[kind], KINDS.index(kind)
  if drawn is None:
    histogram = np.bincount(split.image.ravel(), minlength=256) / split.image.size
    rng = np.random.default_rng((seed, number))
    return rng.choice(256, (count, *arrays.IMAGE_SHAPE), p=histogram).astype(np.uint8)
  rngs = (np.random.default_rng((seed, number, index)) for index in range(count))
  return pen.prepare(outliers.draw_outlier(rng, drawn, split) for rng in rngs)


def scores(logits: Float[np.ndarray, 'examples classes']) -> Scores:
  """Scores of images by their logits, in float64."""
  logits = logits.astype(np.float64)
  return Scores(special.softmax(logits, axis=-1).max(-1), special.logsumexp(logits, axis=-1))
