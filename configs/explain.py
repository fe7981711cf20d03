"""What is said about why the models differ, each claim with measurements that could have refuted it.

python launch.py --config=configs/explain.py

38 recipes with five seeds each. Of 32 claims 24 are supported, 5 contradicted and 3 undecided (jax 0.10.2).
"""

import itertools

from flax import linen as nn
import jax.numpy as jnp
import ml_collections

import digits
from digits.data.corruptions import CORRUPTIONS

_WIDTHS = (1, 3, 10, 30, 100, 300, 1000)
_SIZES = (100, 300, 1000, 3000, 10000, 30000)


class StridedConv(nn.Module):
  """A convolution by 5x5 that computes every second output in both directions, as a product of matrices, and a ReLU.

  Attributes:
    features: channels out.
    local: whether each place has a kernel of its own, in place of one that all share.
  """

  features: int
  local: bool

  @nn.compact
  def __call__(self, x):
    """Maps images to feature maps of half the height and width."""
    height, width = (side // 2 for side in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = itertools.product(range(5), repeat=2)
    patches = jnp.concatenate([padded[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for i, j in places], -1)
    where = (height, width) if self.local else ()
    init = nn.initializers.lecun_normal(batch_axis=tuple(range(len(where))))
    kernel = self.param('kernel', init, (*where, patches.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (*where, self.features))
    return nn.relu(jnp.einsum('bhwk,hwkf->bhwf' if self.local else 'bhwk,kf->bhwf', patches, kernel) + bias)


@digits.register_model('strided_cnn', title='convolutions with strides in place of pooling')
class StridedCNN(nn.Module):
  """The CNN with convolutions that compute every second output only, in place of the largest of four.

  Attributes:
    features: channels of each convolution.
    local: see `StridedConv`.
    hidden_units: width of the hidden layer.
    num_classes: number of classes.
  """

  features: tuple[int, ...] = (16, 32, 64)
  local: bool = False
  hidden_units: int = 100
  num_classes: int = 10

  @nn.compact
  def __call__(self, image):
    """Maps images to logits."""
    x = image
    for i, features in enumerate(self.features, 1):
      x = StridedConv(features, self.local, name=f'conv{i}')(x)
    x = x.reshape(x.shape[0], -1)
    x = nn.sigmoid(nn.Dense(self.hidden_units, name='hidden')(x))
    return nn.Dense(self.num_classes, name='logits')(x)


def _recipe(name, rate=None, **architecture):
  recipe = digits.get_config(name)
  recipe.architecture.update(architecture)
  if rate:
    recipe.learning_rate = rate
  return recipe


def _strided(features, local=False):
  recipe = digits.get_config('cnn')
  recipe.model = 'strided_cnn'
  recipe.architecture = ml_collections.ConfigDict({'features': features, 'local': local, 'hidden_units': 100})
  return recipe


def _recipes():
  recipes = {name: _recipe(name) for name in ('softmax', 'mlp', 'cnn')}
  recipes['mlp_linear'] = _recipe('mlp', activation='identity', rate=0.1)
  recipes |= {f'mlp_{width}': _recipe('mlp', hidden_units=width) for width in _WIDTHS if width != 100}
  recipes['mlp_same_size'] = _recipe('mlp', hidden_units=155)
  recipes['mlp_ten_times'] = _recipe('mlp', hidden_units=1550)
  recipes['cnn_one_layer'] = _recipe('cnn', features=(6,))
  recipes['cnn_two_layers'] = _recipe('cnn', features=(16, 23))
  recipes['cnn_strided'] = _strided((16, 32, 64))
  recipes['one_shared'] = _strided((6,))
  recipes['one_local'] = _strided((6,), local=True)
  return recipes


def _section(heading, text, figures, *claims):
  return {'heading': heading, 'text': text, 'figures': figures, 'claims': claims}


def _sections():
  sections = {}
  sections['nonlinearity'] = _section(
    'A hidden layer helps because it is nonlinear',
    'Without a nonlinearity in between, two layers are one: a product of two matrices is a matrix. So the MLP is '
    'trained once more with the identity as its activation. It has ten times the parameters of softmax regression, and '
    'can represent nothing that softmax regression cannot.',
    (('recipes', 'accuracy', ('softmax', 'mlp_linear', 'mlp')),),
    ('One hidden layer of 100 sigmoid units beats softmax regression.', 'mlp.accuracy > softmax.accuracy'),
    (
      'Without its nonlinearity it is no better: within half a point of softmax regression.',
      'mlp_linear.accuracy ~ softmax.accuracy within 0.005',
    ),
  )
  chain = ['mlp_1', 'mlp_3', 'mlp_10', 'mlp_30', 'mlp', 'mlp_300', 'mlp_1000']
  sections['width'] = _section(
    'More complexity, better accuracy?',
    'The MLP with 1 to 1,000 hidden units, everything else alike. The gap is the accuracy on training images less that '
    'on test images: what is learned of the training images only.',
    (('parameters', tuple(chain)),),
    (
      'Up to 100 hidden units, every step in width makes the MLP more accurate.',
      *(f'{b}.accuracy > {a}.accuracy' for a, b in itertools.pairwise(chain[:5])),
    ),
    ('Beyond that it still does: 1,000 units are better than 100.', 'mlp_1000.accuracy > mlp.accuracy'),
    (
      'A network of more parameters than training images generalises worse: with 1,000 units the loss on test images '
      'is higher than with 100.',
      'mlp_1000.loss > mlp.loss',
    ),
    (
      'The gap between training and test accuracy is wider with 1,000 units than with 10.',
      'mlp_1000.gap > mlp_10.gap',
    ),
  )
  sections['structure'] = _section(
    'Is it the size of the CNN, or its structure?',
    'The CNN has 123,222 parameters, the MLP 79,510. Here are an MLP of as many as the CNN and one of ten times as '
    'many; and one layer of kernels that slide over the image, beside one that has a kernel of its own at each place, '
    'and so loses only what sharing gives.',
    (
      ('recipes', 'accuracy', ('mlp', 'mlp_same_size', 'mlp_ten_times', 'cnn')),
      ('recipes', 'accuracy', ('one_local', 'one_shared')),
    ),
    (
      'The CNN wins by its structure and not by its size: it beats an MLP of as many parameters.',
      'cnn.accuracy > mlp_same_size.accuracy',
    ),
    ('It beats even one of ten times as many.', 'cnn.accuracy > mlp_ten_times.accuracy'),
    (
      'A layer whose kernel all places share is better than one with a kernel for each place.',
      'one_shared.accuracy > one_local.accuracy',
    ),
  )
  sections['images'] = _section(
    'Is the CNN made for images?',
    'One permutation of the 784 pixels, drawn once, is applied to all images, of training and of test. It destroys no '
    'information and all neighbourhoods. A model that uses no neighbourhoods must not notice.',
    (
      ('recipes', 'accuracy', ('softmax', 'softmax_permuted', 'mlp', 'mlp_permuted')),
      ('recipes', 'accuracy', ('mlp', 'mlp_permuted', 'cnn', 'cnn_permuted')),
    ),
    (
      'Softmax regression and the MLP do not notice: within 0.5 points.',
      'softmax.accuracy ~ softmax_permuted.accuracy within 0.005',
      'mlp.accuracy ~ mlp_permuted.accuracy within 0.005',
    ),
    ('The CNN is worse on permuted images.', 'cnn.accuracy > cnn_permuted.accuracy'),
    ('It loses its whole lead over the MLP.', 'mlp_permuted.accuracy > cnn_permuted.accuracy'),
  )
  sections['hierarchy'] = _section(
    'Do convolution and pooling extract features in a hierarchy?',
    'One, two and three convolutions with about as many parameters in all (118,866, 123,449 and 123,222); three with '
    'strides in place of pooling; and a probe of each layer: softmax regression on what the layer makes of 10,000 '
    'training images, scored on the test images. If layers build on each other, each makes the classes easier to part.',
    (
      ('recipes', 'accuracy', ('cnn_one_layer', 'cnn_two_layers', 'cnn', 'cnn_strided')),
      ('probes',),
    ),
    (
      'With equal parameters, each further convolution makes it more accurate.',
      'cnn_two_layers.accuracy > cnn_one_layer.accuracy',
      'cnn.accuracy > cnn_two_layers.accuracy',
    ),
    ('Pooling is better than computing every second output only.', 'cnn.accuracy > cnn_strided.accuracy'),
    (
      'Each layer of the CNN makes the digits easier to part by a line than the one before.',
      'cnn.probe_conv1 > cnn.probe_pixels',
      'cnn.probe_conv2 > cnn.probe_conv1',
      'cnn.probe_conv3 > cnn.probe_conv2',
      'cnn.probe_hidden > cnn.probe_conv3',
    ),
  )
  sections['tolerance'] = _section(
    'Do its features tolerate shift, rotation and scale?',
    'Test images moved by 0 to 6 pixels along one of the four axes, turned by 0 to 60 degrees either way, and scaled '
    'by 0.5 to 1.5. The networks have seen no such images: the recipes have no augmentation.',
    (('moved',),),
    (
      'The CNN tolerates a shift of 2 pixels better than the others.',
      'cnn.shift_2 > mlp.shift_2',
      'cnn.shift_2 > softmax.shift_2',
    ),
    (
      'It is invariant to shifts: 4 pixels, a seventh of the image, cost it less than 2 points.',
      'cnn.shift_0 ~ cnn.shift_4 within 0.02',
    ),
    (
      'It tolerates a rotation by 30 degrees better than the others.',
      'cnn.rotate_30 > mlp.rotate_30',
      'cnn.rotate_30 > softmax.rotate_30',
    ),
    (
      'It tolerates digits of 0.7 times the size better than the others.',
      'cnn.rescale_0.7 > mlp.rescale_0.7',
      'cnn.rescale_0.7 > softmax.rescale_0.7',
    ),
  )
  sections['data'] = _section(
    'Does it need less data?',
    'Class-balanced subsets of 100 to 30,000 training images, each within the next; every seed draws its own. Each run '
    'has at least 500 updates. On logarithmic axes a power law is a line; its slope says how much more data help.',
    (('sizes',),),
    (
      'The CNN is better than the MLP with any number of images.',
      *(f'cnn_of_{count}.accuracy > mlp_of_{count}.accuracy' for count in _SIZES),
    ),
    ('With a tenth of the images it is better than the MLP with all.', 'cnn_of_3000.accuracy > mlp_of_30000.accuracy'),
    (
      'With 100 images, softmax regression is as good as the CNN: within 2 points.',
      'softmax_of_100.accuracy ~ cnn_of_100.accuracy within 0.02',
    ),
  )
  sections['paper'] = _section(
    'Is it robust to what paper and cameras do?',
    'The fifteen corruptions of MNIST-C (Mu and Gilmer 2019), made by a program with the published parameters. They '
    'are not bit-exact copies of the published files. The relative error is the mean error over the fifteen, over the '
    'error on clean images.',
    (('corruptions',),),
    (
      'On average over the fifteen the CNN is more accurate than the others.',
      'cnn.corrupted > mlp.corrupted',
      'cnn.corrupted > softmax.corrupted',
    ),
    (
      'On none of the fifteen is it less accurate than the MLP.',
      *(f'cnn.corrupted_{name} > mlp.corrupted_{name}' for name in CORRUPTIONS),
    ),
    (
      'It loses less than the others: its errors grow by a smaller factor.',
      'mlp.relative > cnn.relative',
      'softmax.relative > cnn.relative',
    ),
    (
      'Its probabilities stay the most honest: its calibration error on corrupted images is the lowest.',
      'mlp.corrupted_calibration > cnn.corrupted_calibration',
      'softmax.corrupted_calibration > cnn.corrupted_calibration',
    ),
  )
  sections['unknown'] = _section(
    'Does it know what it does not know?',
    'Letters and signs drawn from fonts, noise with the histogram of digits, and parts of digits, 2,000 of each. AUROC '
    'is the probability that a digit gets a higher score than such a picture: 0.5 is a coin, 1 is perfect. The score '
    'is the highest probability, or the energy of the logits. The answer "unsure" goes to what is less probable than '
    '99 % of the validation digits.',
    (('unknown',),),
    (
      'The more accurate a model, the better its highest probability tells digits from other pictures.',
      'mlp.probability > softmax.probability',
      'cnn.probability > mlp.probability',
    ),
    ('For the CNN the energy tells them better than the highest probability.', 'cnn.energy > cnn.probability'),
    ('The CNN answers "unsure" to most of these pictures.', 'cnn.unsure > 0.5'),
  )
  sections['fooled'] = _section(
    'Can it be fooled?',
    'The first 500 test images, changed by at most 0.05, 0.1, 0.2 or 0.3 in each pixel: by one step along the sign of '
    'the gradient (FGSM), and by 40 steps from two random starts (PGD).',
    (('attacks',),),
    ('Changes of 0.1 in each pixel make the CNN wrong on most images.', '0.5 > cnn.pgd_0.1'),
    (
      'A more accurate model is also harder to fool.',
      'mlp.pgd_0.1 > softmax.pgd_0.1',
      'cnn.pgd_0.1 > mlp.pgd_0.1',
    ),
    ('Forty steps fool the CNN more often than one does.', 'cnn.fgsm_0.1 > cnn.pgd_0.1'),
  )
  return sections


def get_config():
  config = digits.get_config('compare')
  config.experiment = 'explain'
  config.recipes = ml_collections.ConfigDict(_recipes(), sort_keys=False)
  config.permuted = config.sized = config.measured = ('softmax', 'mlp', 'cnn')
  config.sizes = _SIZES
  config.least_updates = 500
  config.num_attacked = 500
  config.probed = ('mlp', 'cnn')
  config.num_probed = 10_000
  config.sections = ml_collections.ConfigDict(_sections(), sort_keys=False)
  config.num_seeds = 5
  return config
