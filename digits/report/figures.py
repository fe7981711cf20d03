"""The figures of a comparison: arrays in, matplotlib figures out.

A figure of a page is made of panels, all of one width: they stand side by side where there is room, and under each
other on a phone. Text keeps its size. Every colour is one of the names below, so that a page can replace it when it is
dark.
"""

from collections.abc import Mapping, Sequence
import contextlib
import math
from typing import Any, NamedTuple

from jaxtyping import Float, UInt8
import matplotlib
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import patches, ticker
import numpy as np

from digits import statistics
from digits.store.records import Record

INK = '#1d2127'
MUTED = '#606873'
RULE = '#d5d9df'
PAPER = '#ffffff'
# Okabe and Ito's colours, which differ in any kind of colour vision; with a marker each, nothing depends on colour.
MODEL_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#9a7500', '#5d3a9b')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P')
# For positive and negative numbers; both are seen on white and on black.
_POSITIVE, _NEGATIVE = '#3f9b2f', '#d0408f'
# Images of this id are drawn in black of varying opacity.
INK_IMAGE_ID = 'ink-image'

_WIDTH_INCHES = 3.5
_POINTS = 72 * _WIDTH_INCHES
_STYLE = {
  'axes.edgecolor': MUTED,
  'axes.facecolor': 'none',
  'axes.grid': True,
  'axes.labelcolor': INK,
  'axes.labelsize': 8.5,
  'axes.linewidth': 0.6,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlecolor': INK,
  'axes.titlelocation': 'left',
  'axes.titlesize': 9,
  'figure.facecolor': PAPER,
  'font.family': 'DejaVu Sans',
  'font.size': 8.5,
  'grid.color': RULE,
  'grid.linewidth': 0.5,
  'image.composite_image': False,
  'image.interpolation': 'none',
  'legend.edgecolor': RULE,
  'legend.facecolor': PAPER,
  'legend.fontsize': 8,
  'legend.framealpha': 0.85,
  'legend.labelcolor': INK,
  'lines.linewidth': 1.3,
  'lines.markersize': 4,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'digits',
  'text.color': INK,
  'xtick.color': MUTED,
  'xtick.labelcolor': INK,
  'xtick.labelsize': 8,
  'ytick.color': MUTED,
  'ytick.labelcolor': INK,
  'ytick.labelsize': 8,
}


# The colour and the marker that a model has in every figure.
Look = tuple[str, str]
Looks = Mapping[str, Look]


class Panel(NamedTuple):
  """One panel of a figure.

  Attributes:
    name: name of its files.
    alt: what it shows, in words, for those who do not see it.
    figure: the drawing.
  """

  name: str
  alt: str
  figure: mpl_figure.Figure


class Figure(NamedTuple):
  """A numbered figure of a page: panels that stand side by side where there is room, and one caption."""

  panels: Sequence[Panel]
  caption: str


def style() -> contextlib.AbstractContextManager:
  """The context manager in which figures are made and saved."""
  return matplotlib.rc_context(_STYLE)  # type: ignore[arg-type]  # Its keys are a literal type of 300 names.


def looks(names: Sequence[str]) -> Looks:
  """Gives each model its look."""
  count = len(MODEL_COLORS)
  return {name: (MODEL_COLORS[i % count], _MARKERS[i % count]) for i, name in enumerate(names)}


def new(height_inches: float, title: str | None = None) -> tuple[mpl_figure.Figure, mpl_axes.Axes]:
  """Makes a figure of the report's width with one set of axes, and returns both."""
  figure = mpl_figure.Figure(figsize=(_WIDTH_INCHES, height_inches), layout='constrained')
  axes = figure.add_subplot()
  axes.set_axisbelow(True)
  if title:
    axes.set_title(title)
  return figure, axes


def _plain(value: float, _: int | None = None) -> str:
  return f'{value:g}'


# Scores.


def seed_scores(name: str, scores: Mapping[str, Any], published: float | None, look: Look) -> Panel:
  """Every seed's test accuracy, given as a `statistics.spread`, their mean, and the published accuracy."""
  color, marker = look
  figure, axes = new(1.35, name)
  values = 100 * np.array(scores['per_seed'])
  axes.plot(values, np.zeros_like(values), marker, color=color, alpha=0.6, label='one seed')
  axes.plot([100 * scores['mean']] * 2, [-0.5, 0.5], color=color, label='mean')
  if published is not None:
    axes.plot([100 * published] * 2, [-0.5, 0.5], '--', color=INK, linewidth=1, label='published')
  axes.set(xlabel='Test accuracy (%)', yticks=[], ylim=(-1, 2.4))
  axes.margins(x=0.12)
  axes.spines['left'].set_visible(False)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
  axes.ticklabel_format(axis='x', useOffset=False)
  axes.legend(loc='upper center', ncols=3, frameon=False, columnspacing=1.2, handlelength=1.4)
  listed = ', '.join(f'{value:.2f}' for value in values)
  alt = f'Test accuracy of {name}, in per cent, seed by seed: {listed}; mean {100 * scores["mean"]:.2f}'
  if published is not None:
    alt += f'; published {100 * published:.2f}'
  return Panel(f'seeds-{name}', alt + '.', figure)


def differences(pairs: Sequence[Mapping[str, Any]]) -> Panel:
  """Differences in accuracy of pairs of models, as `summary.summarize` gives them, with their intervals."""
  figure, axes = new(0.75 + 0.17 * len(pairs))
  rows = np.arange(len(pairs))
  values = 100 * np.array([pair['difference'] for pair in pairs])
  ends = 100 * np.array([pair['interval_95'] for pair in pairs])
  axes.axvline(0, color=MUTED, linewidth=0.8)
  axes.hlines(rows, ends[:, 0], ends[:, 1], color=MODEL_COLORS[0])
  axes.plot(values, rows, 'o', color=MODEL_COLORS[0])
  axes.set(xlabel='Points of test accuracy', ylabel='Models', ylim=(len(pairs) - 0.5, -0.5))
  axes.set_yticks(rows, [f'{pair["a"]} → {pair["b"]}' for pair in pairs], fontsize=6.5)
  axes.tick_params(axis='y', length=0)
  axes.grid(False, axis='y')
  smallest, largest = np.quantile(np.abs(values), 0.75), np.abs(ends).max()
  if largest > 8 * smallest > 0:  # A few large ones would leave the others on one spot.
    axes.set_xscale('symlog', linthresh=smallest)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f'{value:g}'.replace('-', '\u2212')))
  alt = ' '.join(
    f'{pair["b"]} minus {pair["a"]}: {value:+.2f} points, {low:+.2f} to {high:+.2f}.'
    for pair, value, (low, high) in zip(pairs, values, ends, strict=True)
  )
  return Panel('pair-differences', f'Differences in test accuracy. {alt}', figure)


# Learning curves.


class Curve(NamedTuple):
  """A number recorded during training, for several seeds."""

  epochs: Float[np.ndarray, ' records']
  values: Float[np.ndarray, 'seeds records']


def learning_curve(histories: Sequence[Sequence[Record]], split: str, key: str) -> Curve | None:
  """Collects a number from the records of several runs, at the steps that all recorded; None if there are none."""
  by_step = [{r['step']: r[key] for r in history if r['split'] == split} for history in histories]
  steps = sorted(set.intersection(*(set(values) for values in by_step)))
  if not steps:
    return None
  last = max((record for history in histories for record in history), key=lambda record: record['step'])
  steps_per_epoch = last['step'] / (last['epoch'] + 1)  # The last record is at the end of its epoch.
  return Curve(np.array(steps) / steps_per_epoch, np.array([[values[step] for step in steps] for values in by_step]))


def curve_limits(curves: Sequence[Curve]) -> tuple[float, float] | None:
  """The range that holds all values above 0, with room on a logarithmic axis; None if there are none."""
  values = np.concatenate([curve.values.ravel() for curve in curves]) if curves else np.zeros(0)
  values = values[values > 0]
  return (values.min() / 1.3, values.max() * 1.3) if len(values) else None


def loss_curves(name: str, train: Curve | None, valid: Curve | None, limits: tuple[float, float], look: Look) -> Panel:
  """Training and validation loss of one model against epochs."""
  figure, axes = new(2.5, name)
  _draw_curves(axes, train, valid, limits, look)
  axes.set(ylabel='Loss (nats)')
  axes.yaxis.set_major_formatter(ticker.FuncFormatter(_plain))
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  return Panel(f'loss-{name}', _describe_curves(name, 'loss in nats', train, valid, '.4f'), figure)


def accuracy_curves(
  name: str, train: Curve | None, valid: Curve | None, limits: tuple[float, float], look: Look
) -> Panel:
  """Accuracy of one model against epochs, logarithmic in the errors; curves and limits are error rates in per cent."""
  figure, axes = new(2.5, name)
  _draw_curves(axes, train, valid, limits, look)
  axes.invert_yaxis()
  axes.set(ylabel='Accuracy (%)')
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda error, _: f'{100 - error:.6g}'))
  return Panel(f'accuracy-{name}', _describe_curves(name, 'error rate in per cent', train, valid, '.2f'), figure)


def _draw_curves(
  axes: mpl_axes.Axes, train: Curve | None, valid: Curve | None, limits: tuple[float, float], look: Look
) -> None:
  color, marker = look
  axes.set(xlabel='Epoch', yscale='log')
  for curve, label, line in ((train, 'training', ':'), (valid, 'validation', f'-{marker}')):
    if curve is not None:
      values = np.maximum(curve.values, limits[0])  # A zero lies at the edge.
      every = max(1, len(curve.epochs) // 12)
      axes.plot(curve.epochs, values.mean(0), line, color=color, label=label, markevery=every, markersize=3)
      if len(values) > 1:
        axes.fill_between(curve.epochs, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
  axes.set_ylim(limits)
  axes.set_xlim(left=0)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
  axes.legend()


def _describe_curves(name: str, what: str, train: Curve | None, valid: Curve | None, form: str) -> str:
  parts = [
    f'{label} from {curve.values[:, 0].mean():{form}} at epoch {curve.epochs[0]:.2g} '
    f'to {curve.values[:, -1].mean():{form}} at epoch {curve.epochs[-1]:.4g}'
    for label, curve in (('training', train), ('validation', valid))
    if curve is not None
  ]
  return f'Learning curves of {name}, {what}, mean over seeds: {"; ".join(parts)}.'


# Errors.


def confusion(name: str, matrix: Float[np.ndarray, 'classes classes'], look: Look) -> Panel:
  """How often each digit was taken for each other; `matrix` counts images, one row per label."""
  num_classes = len(matrix)
  figure, axes = new(3.2, name)
  errors = matrix * (1 - np.eye(num_classes))
  largest = errors.max() or 1.0
  for label in range(num_classes):
    for answer in range(num_classes):
      count, right = matrix[label, answer], label == answer
      shade = {'color': RULE, 'alpha': 0.55} if right else {'color': look[0], 'alpha': 0.75 * count / largest}
      axes.add_patch(patches.Rectangle((answer - 0.5, label - 0.5), 1, 1, linewidth=0, **shade))
      text = f'{count:.0f}' if count >= 0.95 else f'{count:.1f}'.lstrip('0') if count >= 0.05 else ''
      axes.text(answer, label, text, ha='center', va='center', fontsize=6.5, color=MUTED if right else INK)
  ticks = range(num_classes)
  axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5), xticks=ticks, yticks=ticks, aspect='equal')
  axes.set(xlabel='Answer (digit)', ylabel='Label (digit)')
  axes.grid(False)
  axes.tick_params(length=0)
  for spine in axes.spines.values():
    spine.set_visible(False)
  most = np.unravel_index(errors.argmax(), errors.shape)
  alt = f'Confusion matrix of {name}, images per seed. {errors.sum():.1f} of {matrix.sum():.0f} are off the diagonal'
  if errors.any():
    alt += f', most of them, {errors[most]:.1f}, where a {most[0]} is answered as {most[1]}'
  return Panel(f'confusion-{name}', alt + '.', figure)


def per_digit(accuracies: Mapping[str, Float[np.ndarray, 'seeds classes']], appearance: Looks) -> Panel:
  """Accuracy of each model on each digit."""
  figure, axes = new(2.6)
  everything = np.concatenate([values.ravel() for values in accuracies.values()])
  errors = 100 * (1 - everything[np.isfinite(everything)])
  floor = max(errors[errors > 0].min() / 1.5, 0.005) if errors.any() else 0.1
  for position, (name, values) in enumerate(accuracies.items()):
    color, marker = appearance[name]
    error = np.maximum(100 * (1 - values), floor)
    x = np.arange(values.shape[1]) + 0.16 * (position - (len(accuracies) - 1) / 2)
    axes.plot(x, np.maximum(100 * (1 - values.mean(0)), floor), marker, color=color, label=name)
    axes.vlines(x, error.min(0), error.max(0), color=color, linewidth=1)
  axes.set(xlabel='Label (digit)', ylabel='Accuracy (%)', yscale='log', xticks=range(values.shape[1]))
  axes.set_ylim(max(errors.max(), floor) * 1.3, floor / 1.2)
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
  axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda error, _: f'{100 - error:.6g}'))
  axes.grid(False, axis='x')
  figure.legend(*axes.get_legend_handles_labels(), loc='outside upper left', ncols=3, frameon=False)
  return Panel('per-digit', 'Accuracy on each digit, for each model; the numbers are in the table beside it.', figure)


class HardImage(NamedTuple):
  """A test image that models get wrong.

  Attributes:
    number: its place in the test split, from 0.
    image: its pixels.
    label: its digit.
    disputed: whether human raters dispute the label.
    answers: the digit and its probability for each model.
  """

  number: int
  image: UInt8[np.ndarray, 'height width']
  label: int
  disputed: bool
  answers: dict[str, tuple[int, float]]


def hardest_errors(images: Sequence[HardImage], number: int, appearance: Looks) -> Panel:
  """Up to six images with each model's answer; `number` tells the panels apart."""
  columns, side, line = 3, 48, 10
  cell_width, cell_height = _POINTS / columns, side + line * (len(appearance) + 2)
  rows = math.ceil(len(images) / columns)
  figure = mpl_figure.Figure(figsize=(_WIDTH_INCHES, rows * cell_height / 72))
  axes = figure.add_axes((0, 0, 1, 1))
  for i, hard in enumerate(images):
    left, top = cell_width * (i % columns) + 4, cell_height * (i // columns) + 2
    _draw_ink(axes, hard.image / 255.0, (left, left + side, top + side, top))
    y = top + side + line
    axes.text(left, y, f'Label {hard.label}{"*" if hard.disputed else ""}', fontsize=8, weight='bold')
    axes.text(left + cell_width - 10, y, f'no. {hard.number}', fontsize=6.5, color=MUTED, ha='right')
    for name, (answer, probability) in hard.answers.items():
      y += line
      color, marker = appearance[name]
      axes.plot([left + 3], [y - 2.8], marker, color=color, markersize=3.5)
      weight = 'normal' if answer == hard.label else 'bold'
      axes.text(left + 9, y, f'{name} {answer}', fontsize=7.5, weight=weight)
      axes.text(left + cell_width - 10, y, f'{probability:.0%}', fontsize=7.5, color=MUTED, ha='right')
  axes.set(xlim=(0, _POINTS), ylim=(rows * cell_height, 0), aspect='auto')
  axes.axis('off')
  alt = ' '.join(
    f'Image {hard.number}, label {hard.label}{", disputed" if hard.disputed else ""}: '
    + ', '.join(f'{name} answers {answer} ({probability:.0%})' for name, (answer, probability) in hard.answers.items())
    + '.'
    for hard in images
  )
  return Panel(f'hardest-{number}', alt, figure)


def _draw_ink(
  axes: mpl_axes.Axes, opacity: Float[np.ndarray, 'h w'], extent: tuple[float, float, float, float]
) -> None:
  image = np.zeros((*opacity.shape, 4))
  image[..., 3] = np.clip(opacity, 0, 1)
  axes.imshow(image, extent=extent, aspect='auto', gid=INK_IMAGE_ID)


# What a model learned.


def tiles(
  name: str,
  arrays: Float[np.ndarray, 'n h w'],
  *,
  title: str,
  unit: str,
  alt: str,
  titles: Sequence[str] = (),
  columns: int | None = None,
) -> Panel:
  """Small images in a grid, on one scale.

  Args:
    name: name of the panel.
    arrays: the images; numbers below 0 have a colour of their own.
    title: text above the grid.
    unit: what the colours measure.
    alt: what the panel shows, in words.
    titles: texts above the images, or none.
    columns: columns of the grid; None for about as many as rows.
  """
  n, h, w = arrays.shape
  columns = columns or math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  gap = max(1, round(0.08 * w))
  head = round(0.32 * h) if titles else 0
  pitch_y, pitch_x = h + gap + head, w + gap
  # A few extreme numbers would leave everything else pale.
  limit = float(np.quantile(np.abs(arrays), 0.995)) or 1.0
  signed = bool(np.any(arrays < 0))

  grid = np.full((rows * pitch_y - gap, columns * pitch_x - gap), np.nan)
  for i, array in enumerate(arrays):
    top, left = pitch_y * (i // columns) + head, pitch_x * (i % columns)
    grid[top : top + h, left : left + w] = array
  # All in inches, so that panels of different grids align: the title above, the scale below.
  margin, above, below = 0.1, 0.3, 0.6
  grid_width = _WIDTH_INCHES - 2 * margin
  grid_height = grid_width * grid.shape[0] / grid.shape[1]
  figure_height = above + grid_height + below
  figure = mpl_figure.Figure(figsize=(_WIDTH_INCHES, figure_height))

  def add_axes(left: float, bottom: float, width: float, height: float) -> mpl_axes.Axes:
    return figure.add_axes(
      (left / _WIDTH_INCHES, bottom / figure_height, width / _WIDTH_INCHES, height / figure_height)
    )

  axes = add_axes(margin, below, grid_width, grid_height)
  scale = add_axes(margin + 0.1, below - 0.17, 0.5 * grid_width, 0.08)
  axes.set_title(title)
  frame = np.where(np.isnan(grid), 0.0, 1.0)  # A faint ground shows where an image of zeros lies.
  extent = (0, grid.shape[1], grid.shape[0], 0)
  _draw_ink(axes, 0.05 * frame, extent)
  _draw_signed(axes, np.nan_to_num(grid) / limit, extent, signed)
  for i, text in enumerate(titles):
    axes.text(pitch_x * (i % columns), pitch_y * (i // columns) + head - 1, text, fontsize=8)
  axes.axis('off')
  _draw_signed(scale, np.linspace(-1 if signed else 0, 1, 64)[None], (-limit if signed else 0, limit, 0, 1), signed)
  scale.set(yticks=[], xlabel=unit, xticks=[-limit, 0, limit] if signed else [0, limit])
  scale.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f'{value:.2g}'.replace('-', '\u2212')))
  scale.grid(False)
  for spine in scale.spines.values():
    spine.set_visible(False)
  return Panel(name, alt, figure)


def _draw_signed(
  axes: mpl_axes.Axes, values: Float[np.ndarray, 'h w'], extent: tuple[float, float, float, float], signed: bool
) -> None:
  """Draws numbers in [-1, 1] as opacity, so that the ground shows through, whichever it is."""
  if not signed:
    _draw_ink(axes, values, extent)
    return
  rgb = np.where(values[..., None] < 0, matplotlib.colors.to_rgb(_NEGATIVE), matplotlib.colors.to_rgb(_POSITIVE))
  opacity = np.clip(np.abs(values), 0, 1)[..., None]
  axes.imshow(np.concatenate([rgb, opacity], -1), extent=extent, aspect='auto')


# Certainty.

# A bin of the reliability diagram with fewer answers than this says nothing.
MIN_ANSWERS_IN_BIN = 20


def accuracy_by_size(accuracies: Mapping[str, Sequence[float]]) -> Panel:
  """Accuracy of ensembles against their number of members, by name of the ensemble."""
  figure, axes = new(2.6, 'Ensembles')
  for name, (color, marker) in looks(list(accuracies)).items():
    sizes = np.arange(1, len(accuracies[name]) + 1)
    axes.plot(sizes, 100 * np.array(accuracies[name]), color=color, marker=marker, markersize=3, label=name)
  axes.set(xlabel='Members', ylabel='Test accuracy (%)')
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  axes.legend(frameon=False)
  ends = '; '.join(
    f'{name}: from {values[0]:.2%} to {values[-1]:.2%} with {len(values)}' for name, values in accuracies.items()
  )
  return Panel('ensembles', f'Accuracy of ensembles against their number of members. {ends}.', figure)


def calibration(
  name: str, before: statistics.Reliability, after: statistics.Reliability | None, num_seeds: int, look: Look
) -> Panel:
  """Accuracy against confidence.

  Args:
    name: name of the model.
    before: the answers of all seeds.
    after: the same after temperature scaling.
    num_seeds: number of seeds; they see the same images, so the intervals count images and not answers.
    look: the model's look.
  """
  color, marker = look
  figure, axes = new(2.9, name)
  axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8)
  for bins, label, filled in ((before, 'as trained', False), (after, 'after scaling', True)):
    if bins is not None:
      shown = bins.num_answers >= MIN_ANSWERS_IN_BIN
      accuracy, x = bins.accuracy[shown], 100 * bins.confidence[shown]
      low, high = statistics.wilson_interval(accuracy, bins.num_answers[shown] / num_seeds)
      axes.vlines(x, 100 * low, 100 * high, color=color, linewidth=0.8, alpha=0.6)
      face = color if filled else PAPER
      axes.plot(x, 100 * accuracy, marker, color=color, markerfacecolor=face, markersize=5, label=label)
  axes.set(xlabel='Confidence (%)', ylabel='Accuracy (%)', xlim=(0, 102), ylim=(0, 102), aspect='equal')
  axes.legend(loc='upper left')
  alt = f'Reliability of {name}: accuracy against confidence, both in per cent. ' + ' '.join(
    f'Confidence {100 * c:.0f}, accuracy {100 * a:.0f}.'
    for c, a, n in zip(before.confidence, before.accuracy, before.num_answers, strict=True)
    if n >= MIN_ANSWERS_IN_BIN
  )
  return Panel(f'calibration-{name}', alt, figure)


def risk_against_coverage(risks: Mapping[str, Float[np.ndarray, 'seeds images']], appearance: Looks) -> Panel:
  """The error rate among the answered, from `statistics.risk_coverage`, against the share that is answered."""
  figure, axes = new(2.8)
  for name, risk in risks.items():
    color, marker = appearance[name]
    n = risk.shape[1]
    at = np.unique(np.ceil(np.linspace(0.005, 1, 200) * n).astype(int)) - 1
    coverage, values = 100 * (at + 1) / n, 100 * risk[:, at]
    mean = np.where(values.mean(0) > 0, values.mean(0), np.nan)
    axes.plot(coverage, mean, f'-{marker}', color=color, label=name, markevery=25)
    if len(values) > 1:
      low = np.where(values.min(0) > 0, values.min(0), mean)
      axes.fill_between(coverage, low, values.max(0), color=color, alpha=0.2, linewidth=0)
  axes.set(xlabel='Coverage (% of images answered)', ylabel='Error among answered (%)', xlim=(0, 101))
  if any(risk.any() for risk in risks.values()):
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(_plain))
  axes.legend(loc='upper left')
  alt = 'Error rate in per cent among the most certain answers. ' + ' '.join(
    f'{name}: {100 * risk[:, -1].mean():.2f} when all are answered, '
    f'{100 * risk[:, math.ceil(0.9 * risk.shape[1]) - 1].mean():.2f} when 90 per cent are.'
    for name, risk in risks.items()
  )
  return Panel('risk-coverage', alt, figure)
