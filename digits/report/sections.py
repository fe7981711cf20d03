"""The sections of the page about a comparison: numbers in, what the template shows out."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt8
import numpy as np

from digits import statistics
from digits.data import arrays
from digits.export import drawing_page
from digits.models import layers as layers_lib
from digits.models import registry
from digits.report import figures, findings
from digits.report.figures import Figure
from digits.report.summary import Comparison, disputed_images, ModelRuns
from digits.train import augment
from digits.train.step import normalize, Variables

Section = dict[str, Any]
Summary = Mapping[str, Any]  # As `summarize` returns it.

_NUM_HARDEST = 18
_IMAGES_PER_PANEL = 6
_TARGET_ACCURACIES = (0.99, 0.995, 0.999)
_MAX_HIDDEN_UNITS = 100
_NUM_AUGMENTED = 6


def make_sections(
  comparison: Comparison, summary: Summary, ensembles: Mapping[str, Any] | None = None
) -> dict[str, Any]:
  """All sections by name; each may have `findings`, which are sentences, and `figures`.

  Those that draw something for each model are left out where there are more models than looks, as nobody would read so
  many panels; `left_out` says so.
  """
  looks = figures.looks(list(comparison.models))
  is_few = len(comparison.models) <= len(figures.MODEL_COLORS)
  made: dict[str, Any] = {
    'results': _results(summary, looks, is_few),
    'differences': _differences(summary, is_few),
    'ensembles': _ensembles(ensembles or {}),
    'protocol': {'settings': _settings(comparison)},
  }
  if not is_few:
    return made | {'left_out': findings.left_out(len(comparison.models), len(figures.MODEL_COLORS))}
  return made | {
    'augmentation': _augmentation(comparison),
    'learning': _learning(comparison, looks),
    'errors': _errors(comparison, summary, looks),
    'hardest': _hardest(comparison, looks),
    'learned': _learned(comparison),
    'calibration': _calibration(comparison, summary, looks),
    'refusing': _refusing(comparison, looks),
    'drawing': _drawing(comparison, summary),
    'disputed': _disputed(comparison, summary),
  }


def _results(summary: Summary, looks: figures.Looks, is_few: bool) -> Section:
  models = summary['models']
  headline = [findings.best_model(models, summary['pairs'])]
  if not is_few:
    return {'headline': headline, 'figures': []}
  panels = [
    figures.seed_scores(
      name, model['test']['accuracy'], model['published'] and model['published']['accuracy'], looks[name]
    )
    for name, model in models.items()
  ]
  headline += [findings.against_published(name, model['test'], model['published']) for name, model in models.items()]
  if len(models) > 1:
    headline.append(findings.cost(models))
  return {
    'headline': headline,
    'figures': [Figure(panels, 'Test accuracy of every seed. The axes of the panels differ.')],
  }


def _differences(summary: Summary, is_few: bool) -> Section:
  pairs = summary['pairs']
  caption = 'Differences in test accuracy, with 95\u00a0% intervals: of the second model from the first, in points.'
  return {
    'findings': [findings.pair_difference(pair) for pair in pairs if is_few or findings.is_significant(pair)],
    'figures': [Figure([figures.differences(pairs)], caption)] if pairs else [],
  }


def _ensembles(ensembles: Mapping[str, Any]) -> Section:
  return {
    'rows': ensembles,
    'findings': [findings.ensemble(name, one) for name, one in ensembles.items()],
    'figures': [
      Figure(
        [figures.accuracy_by_size({name: one['accuracy_by_size'] for name, one in ensembles.items()})],
        'Accuracy against the number of members. Each value is the mean over random subsets of that size; no subset is '
        'chosen.',
      )
    ]
    if ensembles
    else [],
  }


def _augmentation(comparison: Comparison) -> Section:
  """What the networks of each recipe that augments saw: images as they are, and as four steps changed them."""
  images = comparison.valid.image if len(comparison.valid.label) else comparison.test.image
  images = normalize(images[:_NUM_AUGMENTED])
  panels = []
  for name, runs in comparison.models.items():
    change = augment.make_augment(runs.config.augment)
    if change is None:
      continue
    rows = [images, *(augment.augment_each(change, jax.random.key(step), images) for step in range(4))]
    panels.append(
      figures.tiles(
        f'augmentation-{name}',
        np.concatenate(rows)[..., 0],
        title=name,
        unit='Ink',
        alt=f'{len(images)} images in the first row; below each, the same image as four steps of {name} changed it.',
        columns=len(images),
      )
    )
  caption = (
    'Images of the validation split in the first row, and below each what four steps of training would make of it.'
  )
  return {'figures': [Figure(panels, caption)] if panels else []}


def _learning(comparison: Comparison, looks: figures.Looks) -> Section:
  losses, errors = {}, {}
  for name, runs in comparison.models.items():
    losses[name], accuracies = (
      [figures.learning_curve(runs.histories, split, key) for split in ('train', 'valid')]
      for key in ('loss', 'accuracy')
    )
    errors[name] = [curve and curve._replace(values=100 * (1 - curve.values)) for curve in accuracies]
  panels = []
  for draw, curves in ((figures.loss_curves, losses), (figures.accuracy_curves, errors)):
    limits = figures.curve_limits([curve for pair in curves.values() for curve in pair if curve is not None])
    if limits is not None:
      panels.append([draw(name, train, valid, limits, looks[name]) for name, (train, valid) in curves.items()])
  explained = (
    'Dotted lines show training, measured as it happens over the steps since the last record; solid lines show '
    'validation at the end of every epoch. Lines are means over seeds, and bands reach from the lowest seed to the '
    'highest. '
  )
  captions = [
    f'Loss against epochs, on a logarithmic axis that all models share. {explained}',
    'Accuracy against epochs, on an axis that is logarithmic in the errors; 100\u00a0% lies at the upper edge.',
  ]
  return {
    'findings': [
      findings.learning(name, train, valid, _objective(comparison.models[name]))
      for name, (train, valid) in losses.items()
    ],
    'figures': [Figure(*both) for both in zip(panels, captions, strict=False)],
  }


def _objective(runs: ModelRuns) -> str:
  """What the training loss is."""
  return next((record['objective'] for record in runs.histories[0] if record['split'] == 'train'), 'cross-entropy')


def _errors(comparison: Comparison, summary: Summary, looks: figures.Looks) -> Section:
  labels = comparison.test.label
  matrices, accuracies = {}, {}
  for name, runs in comparison.models.items():
    answers = runs.test_logits.argmax(-1)
    num_classes = runs.test_logits.shape[-1]
    matrices[name] = np.mean([statistics.confusion_matrix(a, labels, num_classes) for a in answers], axis=0)
    accuracies[name] = statistics.per_class_accuracy(answers == labels, labels, num_classes)
  return {
    'confusions': [findings.confusions(name, matrix) for name, matrix in matrices.items()],
    'digits': [findings.digits(name, model['per_class_accuracy']) for name, model in summary['models'].items()],
    'figures': [
      Figure(
        [figures.confusion(name, matrix, looks[name]) for name, matrix in matrices.items()],
        'Confusion matrices: images by label and answer, mean over seeds. Errors are shaded up to the most frequent '
        'one of the model; the grey diagonal is right.',
      ),
      Figure(
        [figures.per_digit(accuracies, looks)],
        'Accuracy on each digit, on an axis that is logarithmic in the errors. Marks are means over seeds; lines reach '
        'from the lowest seed to the highest.',
      ),
    ],
  }


def find_hardest(comparison: Comparison, limit: int = _NUM_HARDEST) -> tuple[list[figures.HardImage], int]:
  """Finds the test images whose label the models give the least probability.

  A model's probabilities are the means over its seeds, and its answer is the digit with the largest; among the images
  that at least one model answers wrongly, the hardest has the least probability for its label, mean over models.

  Returns:
    At most `limit` images, the hardest first, and how many images at least one model answers wrongly.
  """
  labels = comparison.test.label
  mean_probs = {name: statistics.probabilities(runs.test_logits).mean(0) for name, runs in comparison.models.items()}
  given = np.mean([probs[np.arange(len(labels)), labels] for probs in mean_probs.values()], axis=0)
  wrong = np.any([probs.argmax(-1) != labels for probs in mean_probs.values()], axis=0)
  candidates = np.flatnonzero(wrong)
  order = candidates[np.argsort(given[candidates], kind='stable')][:limit]
  disputed = disputed_images(comparison)
  return [
    figures.HardImage(
      number=int(i),
      image=comparison.test.image[i, ..., 0],
      label=int(labels[i]),
      disputed=disputed is not None and i in disputed,
      answers={name: (int(probs[i].argmax()), float(probs[i].max())) for name, probs in mean_probs.items()},
    )
    for i in order
  ], len(candidates)


def _hardest(comparison: Comparison, looks: figures.Looks) -> Section:
  images, num_wrong = find_hardest(comparison)
  known = disputed_images(comparison) is not None
  num_disputed = sum(image.disputed for image in images) if known else None
  parts = [images[start : start + _IMAGES_PER_PANEL] for start in range(0, len(images), _IMAGES_PER_PANEL)]
  panels = [figures.hardest_errors(part, number, looks) for number, part in enumerate(parts, start=1)]
  caption = (
    'The hardest errors: the test images whose label gets the least probability, mean over models. Below each, every '
    'model\u2019s answer and its probability, mean over seeds; wrong answers are bold.'
  )
  if num_disputed:
    caption += ' An asterisk marks a label that human raters did not uphold.'
  return {
    'findings': [findings.hardest(len(images), num_wrong, num_disputed)],
    'figures': [Figure(panels, caption)] if panels else [],
  }


def _drawing(comparison: Comparison, summary: Summary) -> Section:
  """The page to draw on, with the first seed of each model; None where the images are not of digits."""
  answerers, left_out = {}, []
  for name, runs in comparison.models.items():
    if layers_lib.layers_of(runs.model) is None:
      left_out.append(findings.undescribed(name))
      continue
    scores = summary['models'][name]
    temperature = scores['calibration']['temperature']
    answerers[name] = drawing_page.Answerer(
      runs.model,
      runs.variables['params'],
      title=registry.about(runs.config.model).title,
      temperature=temperature['per_seed'][0] if temperature else 1.0,
      accuracy=scores['test']['accuracy']['per_seed'][0],
    )
  is_of_digits = {runs.config.dataset for runs in comparison.models.values()} <= arrays.OF_MNIST
  page = drawing_page.to_html(answerers).decode() if answerers and is_of_digits else None
  return {'page': page, 'left_out': left_out}


def _learned(comparison: Comparison) -> Section:
  image, index = _example(comparison)
  label = int(comparison.test.label[index])
  sentences, dense, convolutional = [], [], []
  scale = 'Green is positive, pink negative; the 0.5\u00a0% largest numbers share the ends of the scale.'
  for name, runs in comparison.models.items():
    first = next(iter(layers_lib.layers_of(runs.model) or ()), None)
    if isinstance(first, layers_lib.Convolution):
      panels, said = _convolutions(name, runs, first, image, label)
      maps = f', and what its layers make of test image no. {index}, a {label}, after pooling and activation'
      caption = f'{name}, seed {runs.seeds[0]}: the filters of its first layer{maps if said else ""}. {scale}'
      convolutional.append(Figure(panels, caption))
    elif isinstance(first, layers_lib.Dense):
      panel, said = _dense_weights(name, runs, image.shape)
      dense.append(panel)
    else:
      said = [] if first else [findings.undescribed(name)]
    sentences += said
  drawn = convolutional
  if dense:
    caption = (
      'The weights from the pixels, laid out as the image, of the first seed of each model; hidden units are sorted by '
      f'the norm of their outgoing weights. {scale}'
    )
    drawn = [Figure(dense, caption), *convolutional]
  return {'findings': sentences, 'figures': drawn}


def _example(comparison: Comparison) -> tuple[UInt8[np.ndarray, 'height width'], int]:
  """The first test image that every model's first seed answers correctly, or the first, and its index."""
  right = [statistics.is_correct(runs.test_logits[0], comparison.test.label) for runs in comparison.models.values()]
  index = int(np.argmax(np.all(right, axis=0)))
  return comparison.test.image[index, ..., 0], index


def _dense_weights(name: str, runs: ModelRuns, image_shape: tuple[int, ...]) -> tuple[figures.Panel, list[str]]:
  params = runs.variables['params']
  first, *later = [one for one in layers_lib.layers_of(runs.model) or () if isinstance(one, layers_lib.Dense)]
  kernels = np.asarray(params[first.name]['kernel']).reshape(-1, *image_shape)
  said = [findings.central_weights(name, kernels)]
  columns: int | None = 5
  titles, units = [str(digit) for digit in range(len(kernels))], 'each digit'
  if later:
    outgoing = np.linalg.norm(params[later[0].name]['kernel'], axis=0)
    kernels = kernels[np.argsort(-outgoing, kind='stable')][:_MAX_HIDDEN_UNITS]
    titles, columns, units = [], None, f'{len(kernels)} hidden units'
  panel = figures.tiles(
    f'weights-{name}',
    kernels,
    title=f'{name}: weights to {units}',
    unit='Weight',
    alt=f'Weight images of {name}. {said[0]}',
    titles=titles,
    columns=columns,
  )
  return panel, said


def _convolutions(
  name: str, runs: ModelRuns, first: layers_lib.Convolution, image: UInt8[np.ndarray, 'height width'], label: int
) -> tuple[list[figures.Panel], list[str]]:
  kernel = np.asarray(runs.variables['params'][first.name]['kernel'])  # [kh, kw, 1, features]
  filters = figures.tiles(
    f'filters-{name}',
    kernel[:, :, 0].transpose(2, 0, 1),
    title=f'{name}: filters of {first.name}',
    unit='Weight',
    alt=f'The {kernel.shape[-1]} filters of the first layer, {kernel.shape[0]} by {kernel.shape[1]} pixels each.',
  )
  panels: list[figures.Panel] = []
  said = []
  for layer, maps in feature_maps(runs.model, runs.variables, image).items():
    said.append(findings.silent_maps(f'{layer} of {name}', maps))
    title = f'{name}: {len(maps)} maps of {layer}'
    panels.append(figures.tiles(f'maps-{layer}-{name}', maps, title=title, unit='Activation', alt=said[-1]))
  if not panels:
    return [filters], said
  shown = figures.tiles(
    f'input-{name}', image[None] / 255.0, title='Input', unit='Pixel', alt=f'The image of a {label}.'
  )
  return [shown, filters, *panels], said


def feature_maps(
  model: nn.Module, variables: Variables, image: UInt8[np.ndarray, 'height width']
) -> dict[str, Float[np.ndarray, 'features h w']]:
  """What the convolutional layers that sow their values make of an image, by the layer's name."""
  _, state = model.apply(variables, normalize(jnp.asarray(image)[None, ..., None]), mutable='intermediates')
  sown = state.get('intermediates', {})
  layers = [one for one in layers_lib.layers_of(model) or () if isinstance(one, layers_lib.Convolution)]
  return {
    layer.name: np.asarray(sown[f'{layer.name}_active'][0], np.float32)[0].transpose(2, 0, 1)
    for layer in layers
    if f'{layer.name}_active' in sown
  }


def _calibration(comparison: Comparison, summary: Summary, looks: figures.Looks) -> Section:
  labels = comparison.test.label
  sentences, panels = [], []
  for name, runs in comparison.models.items():
    scores = summary['models'][name]['calibration']
    correct = statistics.is_correct(runs.test_logits, labels)

    def bins(logits, correct=correct):
      return statistics.reliability(statistics.probabilities(logits).max(-1).ravel(), correct.ravel())

    before, after = bins(runs.test_logits), None
    if scores['temperature'] is not None:
      after = bins(runs.test_logits / np.array(scores['temperature']['per_seed'])[:, None, None])
    panels.append(figures.calibration(name, before, after, len(runs.seeds), looks[name]))
    confidence = float(statistics.probabilities(runs.test_logits).max(-1).mean())
    sentences.append(findings.calibration(name, scores, confidence, float(correct.mean())))
  caption = (
    f'Accuracy against confidence on the test split, in {statistics.NUM_BINS} bins of equal width, the answers of all '
    f'seeds together; bins with fewer than {figures.MIN_ANSWERS_IN_BIN} answers are left out. The line is perfect '
    'calibration. Intervals are Wilson\u2019s at 95\u00a0%, counting images and not answers.'
  )
  return {'findings': sentences, 'figures': [Figure(panels, caption)]}


def _refusing(comparison: Comparison, looks: figures.Looks) -> Section:
  risks = {}
  for name, runs in comparison.models.items():
    correct = statistics.is_correct(runs.test_logits, comparison.test.label)
    confidence = statistics.probabilities(runs.test_logits).max(-1)
    risks[name] = np.array([statistics.risk_coverage(*answers) for answers in zip(confidence, correct, strict=True)])
  means = {name: risk.mean(0) for name, risk in risks.items()}
  coverage = {
    name: [statistics.coverage_at_risk(mean, 1 - target) for target in _TARGET_ACCURACIES]
    for name, mean in means.items()
  }
  return {
    'targets': _TARGET_ACCURACIES,
    'coverage': coverage,
    'findings': [
      findings.refusing(name, float(mean[-1]), coverage[name][-1], _TARGET_ACCURACIES[-1])
      for name, mean in means.items()
    ],
    'figures': [
      Figure(
        [figures.risk_against_coverage(risks, looks)],
        'Error rate among the images that are answered when the least certain are refused, mean over seeds and, '
        'shaded, from the lowest seed to the highest. The axis is logarithmic: a line starts at its first error.',
      )
    ],
  }


def _disputed(comparison: Comparison, summary: Summary) -> Section:
  disputed = disputed_images(comparison)
  if disputed is None:
    return {'indices': None}
  return {
    'indices': disputed.tolist(),
    'num_wrong': len(statistics.WRONG_LABELS),
    'num_unclear': len(statistics.UNCLEAR_LABELS),
    'findings': [
      findings.disputed(
        name, model['test']['accuracy']['mean'], model['without_disputed']['accuracy']['mean'], len(disputed)
      )
      for name, model in summary['models'].items()
    ],
  }


def _settings(comparison: Comparison) -> dict[str, list[str]]:
  """The fields of the configs, one row per field, for the table of the protocol."""
  fields = (
    'architecture', 'dataset', 'num_validation', 'epochs', 'batch_size', 'optimizer', 'learning_rate', 'schedule',
    'warmup_fraction', 'momentum', 'nesterov', 'weight_decay', 'clip_norm', 'label_smoothing', 'augment', 'distill',
    'select', 'ema_decay', 'dtype',
  )  # fmt: skip
  rows = {'seeds': [', '.join(map(str, runs.seeds)) for runs in comparison.models.values()]}
  for field in fields:
    rows[field] = [_setting(getattr(runs.config, field)) for runs in comparison.models.values()]
  return rows


def _setting(value: Any) -> str:
  if isinstance(value, Mapping):
    parts = [('' if key == 'name' else f'{key.replace("_", " ")} ') + _setting(part) for key, part in value.items()]
    return ', '.join(parts) or 'none'
  if isinstance(value, tuple | list):
    return '-'.join(map(str, value))
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  return f'{value:g}' if isinstance(value, float) else str(value)
