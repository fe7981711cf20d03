"""The page about a comparison: one file that needs no network, and its figures as PNG and SVG."""

import io
import pathlib
from typing import NamedTuple

import jinja2
import numpy as np

from digits import statistics
from digits.export import drawing_page as page_lib
from digits.report import figures
from digits.report import findings
from digits.report import summary as comparison_lib
from digits.report import svg as svg_lib
from digits.runtime import files
from digits.train.step import normalize

_NUM_HARDEST = 18
_IMAGES_A_PANEL = 6
_TARGET_ACCURACIES = (0.99, 0.995, 0.999)
_MAX_HIDDEN_UNITS = 100
_PNG_DPI = 200


class Figure(NamedTuple):
  """A numbered figure of the page: its inlined panels and its caption."""

  panels: list
  caption: str


def write_report(comparison, directory):
  """Writes report.html and figures/ about a comparison.

  Args:
    comparison: a `comparison.Comparison`.
    directory: where to, made if need be. `figures/` holds every panel as PNG and SVG.

  Returns:
    The path of report.html.

  Raises:
    DigitsError: the files cannot be written.
  """
  directory = pathlib.Path(directory)
  with files.describe_os_errors(directory):
    (directory / 'figures').mkdir(parents=True, exist_ok=True)
    with figures.style():
      page = _render(comparison, directory / 'figures')
    with files.replace_atomically(directory / 'report.html') as file:
      file.write(page.encode())
  return directory / 'report.html'


def _render(comparison, directory):
  """The page as a string; the panels are written on the way."""
  summary = comparison_lib.summarize(comparison)
  looks = figures.looks(comparison.models)
  sections = {
    'results': _results(summary, looks),
    'learning': _learning(comparison, looks),
    'errors': _errors(comparison, summary, looks),
    'hardest': _hardest(comparison, looks),
    'learned': _learned(comparison),
    'calibration': _calibration(comparison, summary, looks),
    'refusing': _refusing(comparison, looks),
    'drawing': _drawing(comparison, summary),
    'disputed': _disputed(comparison, summary),
    'protocol': {'settings': _settings(comparison)},
  }
  for section in sections.values():
    if 'figures' in section:
      section['figures'] = [_embed(figure, directory) for figure in section['figures']]
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template('template.html').render(
    sections,
    models=summary['models'],
    pairs=summary['pairs'],
    num_seeds=summary['num_seeds'],
    num_test=len(comparison.test.label),
    num_valid=len(comparison.valid.label),
    datasets=sorted({runs.config.dataset for runs in comparison.models.values()}),
    swatches={name: f'var(--model-{i % len(figures.MODEL_COLORS)})' for i, name in enumerate(comparison.models)},
    say=findings,
    num_resamples=statistics.NUM_RESAMPLES,
    num_bins=statistics.NUM_BINS,
  )


# Sections: numbers in, a dict for the template out.


def _results(summary, looks):
  models = summary['models']
  panels = [
    figures.seed_scores(
      name, model['test']['accuracy'], model['published'] and model['published']['accuracy'], looks[name]
    )
    for name, model in models.items()
  ]
  return {
    'headline': [
      findings.best_model(models, summary['pairs']),
      *(findings.against_published(name, model['test'], model['published']) for name, model in models.items()),
      *([findings.cost(models)] if len(models) > 1 else []),
    ],
    'differences': [findings.pair_difference(pair) for pair in summary['pairs']],
    'figures': [Figure(panels, 'Test accuracy of every seed. The axes of the panels differ.')],
  }


def _learning(comparison, looks):
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
      panels.append([draw(name, *pair, limits, looks[name]) for name, pair in curves.items()])
  explained = (
    'Dotted, training, measured while it goes on, over the steps since the last record; solid, validation at the end '
    'of every epoch. Lines are means over seeds, and bands reach from the lowest seed to the highest. '
  )
  captions = [
    f'Loss against epochs, on a logarithmic axis that all models share. {explained}',
    'Accuracy against epochs, on an axis that is logarithmic in the errors; 100\u00a0% lies at the upper edge.',
  ]
  return {
    'findings': [findings.learning(name, *pair) for name, pair in losses.items()],
    'figures': [Figure(*both) for both in zip(panels, captions, strict=False)],
  }


def _errors(comparison, summary, looks):
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


def find_hardest(comparison, limit=_NUM_HARDEST):
  """Finds the test images whose label the models give the least probability.

  A model's probabilities are the means over its seeds, and its answer is the digit with the largest; among the images
  that at least one model answers wrongly, the hardest has the least probability for its label, mean over models.

  Args:
    comparison: a `Comparison`.
    limit: how many to return at most.

  Returns:
    A list of `figures.HardImage`, the hardest first, and how many images at least one model answers wrongly.
  """
  labels = comparison.test.label
  mean_probs = {name: statistics.probabilities(runs.test_logits).mean(0) for name, runs in comparison.models.items()}
  given = np.mean([probs[np.arange(len(labels)), labels] for probs in mean_probs.values()], axis=0)
  wrong = np.any([probs.argmax(-1) != labels for probs in mean_probs.values()], axis=0)
  candidates = np.flatnonzero(wrong)
  order = candidates[np.argsort(given[candidates], kind='stable')][:limit]
  disputed = comparison_lib.disputed_images(comparison)
  return [
    figures.HardImage(
      index=int(i),
      image=comparison.test.image[i, ..., 0],
      label=int(labels[i]),
      disputed=disputed is not None and i in disputed,
      answers={name: (int(probs[i].argmax()), float(probs[i].max())) for name, probs in mean_probs.items()},
    )
    for i in order
  ], len(candidates)


def _hardest(comparison, looks):
  images, num_wrong = find_hardest(comparison)
  known = comparison_lib.disputed_images(comparison) is not None
  num_disputed = sum(image.disputed for image in images) if known else None
  parts = [images[start : start + _IMAGES_A_PANEL] for start in range(0, len(images), _IMAGES_A_PANEL)]
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


def _drawing(comparison, summary):
  """The page to draw on, with the first seed of each model; None where the images are not of digits."""
  if {runs.config.dataset for runs in comparison.models.values()} != {'mnist'}:
    return {'page': None}
  models, accuracies = {}, {}
  for name, runs in comparison.models.items():
    scores = summary['models'][name]
    temperature = scores['calibration']['temperature']
    models[name] = runs, temperature['per_seed'][0] if temperature else 1.0
    accuracies[name] = scores['test']['accuracy']['per_seed'][0]
  return {'page': page_lib.to_html(models, accuracies).decode()}


def _learned(comparison):
  image, index = _example(comparison)
  label = int(comparison.test.label[index])
  sentences, dense, convolutional = [], [], []
  scale = 'Green is positive, pink negative; the 0.5\u00a0% largest numbers share the ends of the scale.'
  for name, runs in comparison.models.items():
    if 'conv1' in runs.variables['params']:
      panels, said = _convolutions(name, runs, image, label)
      caption = (
        f'{name}, seed {runs.seeds[0]}: the filters of its first layer, and what its layers make of test image '
        f'no. {index}, a {label}, after pooling and activation. {scale}'
      )
      convolutional.append(Figure(panels, caption))
    else:
      panel, said = _dense_weights(name, runs, image.shape)
      dense.append(panel)
    sentences += said
  if dense:
    caption = (
      'The weights from the pixels, laid out as the image, of the first seed of each model; hidden units are sorted by '
      f'the norm of their outgoing weights. {scale}'
    )
    dense = [Figure(dense, caption)]
  return {'findings': sentences, 'figures': dense + convolutional}


def _example(comparison):
  """The first test image that every model's first seed answers correctly, or the first; image [H, W] and index."""
  right = [statistics.is_correct(runs.test_logits[0], comparison.test.label) for runs in comparison.models.values()]
  index = int(np.argmax(np.all(right, axis=0)))
  return comparison.test.image[index, ..., 0], index


def _dense_weights(name, runs, image_shape):
  layer = 'hidden' if 'hidden' in runs.variables['params'] else 'logits'
  kernels = np.asarray(runs.variables['params'][layer]['kernel']).reshape(-1, *image_shape)
  said = [findings.central_weights(name, kernels)]
  alt = f'Weight images of {name}. {said[0]}'
  if layer == 'logits':
    titles = [str(digit) for digit in range(len(kernels))]
    title = f'{name}: weights to each digit'
    return figures.tiles(
      f'weights-{name}', kernels, title=title, unit='Weight', alt=alt, titles=titles, columns=5
    ), said
  outgoing = np.linalg.norm(runs.variables['params']['logits']['kernel'], axis=0)
  kernels = kernels[np.argsort(-outgoing, kind='stable')][:_MAX_HIDDEN_UNITS]
  title = f'{name}: weights to {len(kernels)} hidden units'
  return figures.tiles(f'weights-{name}', kernels, title=title, unit='Weight', alt=alt), said


def _convolutions(name, runs, image, label):
  kernel = np.asarray(runs.variables['params']['conv1']['kernel'])  # [kh, kw, 1, features]
  panels = [
    figures.tiles(f'input-{name}', image[None] / 255.0, title='Input', unit='Pixel', alt=f'The image of a {label}.'),
    figures.tiles(
      f'filters-{name}',
      kernel[:, :, 0].transpose(2, 0, 1),
      title=f'{name}: filters of conv1',
      unit='Weight',
      alt=f'The {kernel.shape[-1]} filters of the first layer, {kernel.shape[0]} by {kernel.shape[1]} pixels each.',
    ),
  ]
  said = []
  for layer, maps in feature_maps(runs.model, runs.variables['params'], image).items():
    said.append(f'{findings.silent_maps(f"{layer} of {name}", maps)}')
    title = f'{name}: {len(maps)} maps of {layer}'
    panels.append(figures.tiles(f'maps-{layer}-{name}', maps, title=title, unit='Activation', alt=said[-1]))
  return panels, said


def feature_maps(model, params, image):
  """What the convolutional layers make of an image.

  Args:
    model: an unbound `CNN`.
    params: its parameters.
    image: uint8[H, W].

  Returns:
    dict from layer name to float32[features, h, w], after pooling and activation.
  """
  _, state = model.apply({'params': params}, normalize(image[None, ..., None]), mutable='intermediates')
  return {
    name.removesuffix('_active'): np.asarray(values[0], np.float32)[0].transpose(2, 0, 1)
    for name, values in sorted(state['intermediates'].items())
    if name.startswith('conv')
  }


def _calibration(comparison, summary, looks):
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


def _refusing(comparison, looks):
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


def _disputed(comparison, summary):
  disputed = comparison_lib.disputed_images(comparison)
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


def _settings(comparison):
  """The fields of the configs, one row a field, for the table of the protocol."""
  fields = (
    'architecture', 'dataset', 'num_validation', 'epochs', 'batch_size', 'learning_rate', 'schedule', 'warmup_fraction',
    'momentum', 'nesterov', 'weight_decay', 'clip_norm', 'dtype',
  )  # fmt: skip
  rows = {'seeds': [', '.join(map(str, runs.seeds)) for runs in comparison.models.values()]}
  for field in fields:
    rows[field] = [_setting(getattr(runs.config, field)) for runs in comparison.models.values()]
  return rows


def _setting(value):
  if hasattr(value, 'items'):
    return ', '.join(f'{key.replace("_", " ")} {_setting(inner)}' for key, inner in value.items()) or 'none'
  if isinstance(value, tuple | list):
    return '-'.join(map(str, value))
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  return f'{value:g}' if isinstance(value, float) else str(value)


def _embed(figure, directory):
  return figure._replace(panels=[_write_panel(panel, directory) for panel in figure.panels])


def _write_panel(panel, directory):
  """Writes a panel's PNG and SVG, and returns the SVG as it stands in the page."""
  svg, png = io.BytesIO(), io.BytesIO()
  panel.figure.savefig(svg, format='svg', metadata={'Date': None})
  panel.figure.savefig(png, format='png', dpi=_PNG_DPI)
  for suffix, content in (('svg', svg), ('png', png)):
    with files.replace_atomically(directory / f'{panel.name}.{suffix}') as file:
      file.write(content.getvalue())
  return svg_lib.inline(svg.getvalue(), panel.name, panel.alt)
