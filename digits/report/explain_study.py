"""The page about the explanation: each claim with its verdict, its numbers and the figure of its experiment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
import numpy as np

from digits import errors, schema
from digits.config import ExplainConfig
from digits.explain import claims
from digits.report import figures, findings
from digits.report.figures import Figure, Panel
from digits.report.study import Claim, Section, Study

Results = Mapping[str, Any]
Measures = Mapping[str, Sequence[float]]

_LEAD = (
  'What is said about why models of handwritten digits differ, and what came out when it was tested. Each claim was '
  'written down with its test before the networks were trained. It is supported if the test holds between every seed '
  'of the one and every seed of the other, contradicted if its opposite does, and undecided otherwise. Numbers are '
  'means over {seeds}, with the 95\u00a0% interval of the mean in brackets.'
)
# Measures by the word that their names begin with: the words for people, and whether they are shares.
_WORDS = {
  'accuracy': 'test accuracy',
  'loss': 'test loss in nats',
  'gap': 'training less test accuracy',
  'shift': 'accuracy at a shift of {} pixels',
  'rotate': 'accuracy at a rotation by {} degrees',
  'rescale': 'accuracy at {} times the size',
  'corrupted': 'accuracy under {}',
  'relative': 'mean error of the corrupted images over that of the clean ones',
  'calibration': 'calibration error',
  'probability': 'AUROC of the highest probability',
  'energy': 'AUROC of the energy',
  'unsure': 'share of "unsure"',
  'fgsm': 'accuracy under FGSM of {}',
  'pgd': 'accuracy under PGD of {}',
  'probe': 'accuracy of a probe of {}',
}
_WHOLE = {
  'corrupted': 'accuracy, mean of the fifteen corruptions',
  'corrupted_calibration': 'calibration error on corrupted images',
}
# A claim of more tests than this names only those that it did not pass.
_MOST_TESTS = 6
_NOT_SHARES = ('loss', 'relative', 'probability', 'energy')


def check_section(name: str, section: Any) -> Sequence[Sequence[str]]:
  """Returns the claims of a section of the config.

  Raises:
    UsageError: the section is not as a page needs it.
  """
  where = f'config.sections.{name}'
  schema.check(where, section, Mapping)
  schema.check_names(where, section, ('heading', 'text', 'claims', 'figures'))
  for field in ('heading', 'text'):
    schema.check(f'{where}.{field}', section[field], str)
  schema.check(f'{where}.claims', section['claims'], tuple[tuple[str, ...], ...])
  for claim in section['claims']:
    if len(claim) < 2:
      raise errors.UsageError(f'{where}.claims has {claim!r}: write a sentence and at least one test.')
  for figure in section['figures']:
    if not isinstance(figure, tuple) or not figure or figure[0] not in _FIGURES:
      raise errors.UsageError(f'{where}.figures has {figure!r}: begin with one of {", ".join(_FIGURES)}.')
  return section['claims']


def make_study(results: Results, config: ExplainConfig) -> Study:
  """Makes the page out of what `experiments.explain.summarize` returns."""
  made = []
  with figures.style():
    for name, section in config.sections.items():
      panels = [
        _FIGURES[kind](f'{name}-{i}', results, config, *arguments)
        for i, (kind, *arguments) in enumerate(section['figures'], 1)
      ]
      made.append(
        Section(
          heading=section['heading'],
          text=[section['text']],
          claims=[
            Claim(finding['claim'], finding['verdict'], _say(finding))
            for finding in results['findings']
            if finding['experiment'] == name
          ],
          figures=panels,
        )
      )
  lead = _LEAD.format(seeds=findings.count(results['num_seeds'], 'seed'))
  return Study('Why the models differ', lead, made)


# Sentences.


def _say(finding: Mapping[str, Any]) -> str:
  """The numbers behind a verdict: of every test, or where there are many, of those that the claim did not pass."""
  tests = finding['tests']
  shown = tests if len(tests) <= _MOST_TESTS else [one for one in tests if one['verdict'] != 'supported']
  parts = []
  if len(shown) < len(tests):
    parts.append(f'{len(tests) - len(shown)} of {len(tests)} comparisons support it.')
  for one in shown:
    sentence = _say_test(claims.parse(one['test']), finding['numbers'])
    parts.append(f'{sentence}.' if len(tests) == 1 else f'{sentence}: {one["verdict"]}.')
  return ' '.join(parts)


def _say_test(test: claims.Test, numbers: Mapping[str, Any]) -> str:
  """The values of a test, such as `Test accuracy: cnn 99.38 % (99.35 to 99.41), mlp 98.25 % (98.20 to 98.30)`."""
  values = [value for value in (test.left, test.right) if claims.measures_in(value)]
  recipes, measures = zip(*(pair for value in values for pair in claims.measures_in(value)), strict=True)
  told = []
  if len(set(measures)) == 1:
    head = _words(measures[0])
    for value in values:
      told.append(' less '.join(recipe for recipe, _ in claims.measures_in(value)))
  else:
    head = recipes[0] if len(set(recipes)) == 1 else ''
    for value in values:
      told.append(' less '.join(_words(measure) for _, measure in claims.measures_in(value)))
      if not head:
        told[-1] = f'{claims.measures_in(value)[0][0]}, {told[-1]},'
  said = ', '.join(
    f'{name} {_say_number(numbers[value], measures[0])}' for name, value in zip(told, values, strict=True)
  )
  return f'{head[0].upper()}{head[1:]}: {said}' if head else said


def _say_number(spread: Mapping[str, Any], measure: str) -> str:
  text = _form(spread['mean'], measure)
  interval = spread['interval_95']
  if interval is None:
    return text
  low, high = (_form(end, measure).removesuffix('\u00a0%') for end in interval)
  return f'{text} ({low} to {high})'


def _words(measure: str) -> str:
  head, _, rest = measure.partition('_')
  if measure in _WHOLE:
    return _WHOLE[measure]
  words = _WORDS[head]
  if '{}' in words:
    return words.format(rest.replace('_', ' '))
  return f'{words} on {rest.replace("_", " ")}' if rest else words


def _form(value: float, measure: str | None) -> str:
  head = (measure or '').partition('_')[0]
  if head == 'relative':
    return f'{value:.1f}'
  return f'{value:.4f}' if head in _NOT_SHARES else findings.percent(value)


# Figures.


def _mean_and_range(values: Sequence[Sequence[float]]) -> tuple[Float[np.ndarray, ' x'], Float[np.ndarray, '2 x']]:
  """For each point the mean over seeds, and how far below and above the lowest and the highest seed are."""
  array = np.asarray(values)
  mean = array.mean(1)
  return mean, np.stack([mean - array.min(1), array.max(1) - mean])


def _describe(title: str, rows: Mapping[str, Float[np.ndarray, ' x']], x: Sequence[Any]) -> str:
  parts = [
    f'{name}: ' + ', '.join(f'{place} {value:.3g}' for place, value in zip(x, values, strict=True))
    for name, values in rows.items()
  ]
  return f'{title}. ' + '; '.join(parts) + '.'


def _curves(
  name: str,
  title: str,
  xlabel: str,
  ylabel: str,
  x: Sequence[float],
  rows: Mapping[str, Sequence[Sequence[float]]],
  *,
  height: float = 2.6,
  log: str = '',
) -> Panel:
  """A curve for each row: the mean over seeds, with a bar from the lowest to the highest."""
  figure, axes = figures.new(height, title)
  means = {}
  for label, (color, marker) in figures.looks(list(rows)).items():
    means[label], away = _mean_and_range(rows[label])
    axes.errorbar(x, means[label], away, color=color, marker=marker, label=label, elinewidth=0.8)
  if 'x' in log:
    axes.set_xscale('log')
  if 'y' in log:
    axes.set_yscale('log')
  axes.set(xlabel=xlabel, ylabel=ylabel)
  axes.legend()
  return Panel(name, _describe(f'{title}: {ylabel} against {xlabel}', means, [f'{place:g}' for place in x]), figure)


def _dots(
  name: str, title: str | None, xlabel: str, rows: Mapping[str, Mapping[str, Sequence[float]]], limits: Any = None
) -> Panel:
  """Rows by name, each with the seeds of one or several series as dots on one axis."""
  series = list(dict.fromkeys(label for row in rows.values() for label in row))
  figure, axes = figures.new(0.7 + 0.27 * len(rows) + 0.18 * (len(series) > 1), title)
  looks = figures.looks(series)
  for place, row in enumerate(reversed(list(rows.values()))):
    for i, (label, values) in enumerate(row.items()):
      color, marker = looks[label]
      offset = 0.0 if len(row) == 1 else 0.22 * ((len(row) - 1) / 2 - i)
      axes.plot(values, np.full(len(values), place + offset), marker, color=color, alpha=0.55, markeredgewidth=0)
      axes.plot([np.mean(values)] * 2, [place + offset - 0.13, place + offset + 0.13], color=color, linewidth=1.6)
  axes.set_yticks(range(len(rows)), [label.replace('_', ' ') for label in reversed(list(rows))])
  axes.set(xlabel=xlabel, ylim=(-0.6, len(rows) - 0.4), xlim=limits)
  axes.set_ylabel('')
  if len(series) > 1:
    handles = [axes.plot([], [], looks[label][1], color=looks[label][0], label=label)[0] for label in series]
    figure.legend(handles=handles, loc='outside upper right', ncols=len(series), frameon=False)
  alt = '; '.join(
    f'{row_name.replace("_", " ")}: '
    + ', '.join(f'{label + " " if len(series) > 1 else ""}{np.mean(row[label]):.4g}' for label in row)
    for row_name, row in rows.items()
  )
  heading = f'{title}: {xlabel}' if title else xlabel
  return Panel(name, f'{heading}, every seed. {alt}.', figure)


def _recipes_figure(name: str, results: Results, config: ExplainConfig, measure: str, recipes: Sequence[str]) -> Figure:
  rows = {recipe: {'': results['recipes'][recipe]['measures'][measure]} for recipe in recipes}
  words = _words(measure)
  panel = _dots(name, None, words[0].upper() + words[1:], rows)
  return Figure([panel], 'A dot is a seed, and the stroke their mean.')


def _parameters_figure(name: str, results: Results, config: ExplainConfig, recipes: Sequence[str]) -> Figure:
  chosen = [results['recipes'][recipe] for recipe in recipes]
  x = [recipe['num_parameters'] for recipe in chosen]
  panels = [
    _curves(
      f'{name}-{measure}',
      title,
      'Parameters',
      ylabel,
      x,
      {config.recipes[recipes[0]]['model']: [recipe['measures'][measure] for recipe in chosen]},
      log='xy' if measure == 'loss' else 'x',
    )
    for measure, title, ylabel in (
      ('accuracy', 'Accuracy', 'Test accuracy'),
      ('loss', 'Loss', 'Test loss (nats)'),
      ('gap', 'Gap', 'Training less test accuracy'),
    )
  ]
  return Figure(panels, 'Against the number of parameters; bars go from the lowest to the highest seed.')


def _sizes_figure(name: str, results: Results, config: ExplainConfig) -> Figure:
  figure, axes = figures.new(3.4, 'Errors by number of training images')
  sizes = np.array([*config.sizes, results['num_train']], float)
  means = {}
  for label, (color, marker) in figures.looks(list(config.sized)).items():
    names = [*(f'{label}_of_{count}' for count in config.sizes), label]
    measures = [results['recipes'][one]['measures'] for one in names]
    means[label], away = _mean_and_range([[1 - accuracy for accuracy in one['accuracy']] for one in measures])
    fitted = results['sizes'].get(label)
    slope = ''
    if fitted:
      axes.plot(sizes, fitted['coefficient'] * sizes ** -fitted['exponent'], ':', color=color, linewidth=1)
      slope = f': exponent {fitted["exponent"]:.2f}'
      if fitted['interval_95']:
        slope += ' ({:.2f} to {:.2f})'.format(*fitted['interval_95'])
    axes.errorbar(sizes, means[label], away, color=color, marker=marker, linestyle='', label=label + slope)
  axes.set(xlabel='Training images', ylabel='Test errors', xscale='log')
  if any(mean.any() for mean in means.values()):  # A logarithm of 0 there is not.
    axes.set_yscale('log')
  axes.yaxis.set_major_formatter('{x:.2g}')
  figure.legend(loc='outside lower left', frameon=False)
  alt = _describe('Share of test errors by number of training images', means, [f'{size:g}' for size in sizes])
  return Figure(
    [Panel(name, alt, figure)],
    'Bars go from the lowest to the highest seed; dotted, the fitted power law, whose exponent has its 95\u00a0% '
    'interval over seeds in brackets.',
  )


def _moved_figure(name: str, results: Results, config: ExplainConfig) -> Figure:
  panels = []
  for kind, title, xlabel in (
    ('shift', 'Shift', 'Pixels'),
    ('rotate', 'Rotation', 'Degrees'),
    ('rescale', 'Scale', 'Times the size'),
  ):
    first = results['recipes'][config.measured[0]]['measures']
    amounts = [measure.partition('_')[2] for measure in first if measure.startswith(f'{kind}_')]
    rows = {
      recipe: [results['recipes'][recipe]['measures'][f'{kind}_{amount}'] for amount in amounts]
      for recipe in config.measured
    }
    panels.append(_curves(f'{name}-{kind}', title, xlabel, 'Accuracy', [float(one) for one in amounts], rows))
  return Figure(panels, 'Accuracy on moved test images; bars go from the lowest to the highest seed.')


def _corruptions_figure(name: str, results: Results, config: ExplainConfig) -> Figure:
  first = results['recipes'][config.measured[0]]['measures']
  kinds = [one for one in first if one.startswith('corrupted_') and one != 'corrupted_calibration']
  rows = {
    kind.removeprefix('corrupted_'): {
      recipe: results['recipes'][recipe]['measures'][kind] for recipe in config.measured
    }
    for kind in sorted(kinds, key=lambda kind: -np.mean(results['recipes'][config.measured[-1]]['measures'][kind]))
  }
  panels = [_dots(name, 'Accuracy under corruptions', 'Accuracy', rows, (0, 1))]
  summary = {
    'clean': {recipe: results['recipes'][recipe]['measures']['calibration'] for recipe in config.measured},
    'corrupted': {
      recipe: results['recipes'][recipe]['measures']['corrupted_calibration'] for recipe in config.measured
    },
  }
  panels.append(_dots(f'{name}-calibration', 'Calibration', 'Expected calibration error', summary))
  return Figure(panels, 'A dot is a seed, and the stroke their mean.')


def _unknown_figure(name: str, results: Results, config: ExplainConfig) -> Figure:
  def rows(what):
    return {
      kind: {recipe: results['recipes'][recipe]['measures'][f'{what}_{kind}'] for recipe in config.measured}
      for kind in results['unknown']
    }

  panels = [
    _dots(f'{name}-{what}', title, label, rows(what))
    for what, title, label in (
      ('probability', 'By the highest probability', 'AUROC'),
      ('energy', 'By the energy', 'AUROC'),
      ('unsure', 'Answered "unsure"', 'Share of the pictures'),
    )
  ]
  return Figure(panels, 'A dot is a seed, and the stroke their mean. An AUROC of 0.5 is that of a coin.')


def _attacks_figure(name: str, results: Results, config: ExplainConfig) -> Figure:
  panels = []
  for attack, title in (('fgsm', 'One step (FGSM)'), ('pgd', 'Forty steps (PGD)')):
    first = results['recipes'][config.measured[0]]['measures']
    amounts = [measure.partition('_')[2] for measure in first if measure.startswith(f'{attack}_')]
    rows = {
      recipe: [
        results['recipes'][recipe]['measures']['accuracy'],
        *(results['recipes'][recipe]['measures'][f'{attack}_{amount}'] for amount in amounts),
      ]
      for recipe in config.measured
    }
    x = [0.0, *map(float, amounts)]
    panels.append(_curves(f'{name}-{attack}', title, 'Largest change of a pixel', 'Accuracy', x, rows))
  return Figure(panels, 'Accuracy on changed test images; at 0 that on all test images.')


def _probes_figure(name: str, results: Results, config: ExplainConfig) -> Figure:
  panels = []
  for recipe in config.probed:
    measures = results['recipes'][recipe]['measures']
    rows = {one.removeprefix('probe_'): {'': measures[one]} for one in measures if one.startswith('probe_')}
    panels.append(_dots(f'{name}-{recipe}', f'Probes of {recipe}', 'Accuracy of the probe', rows))
  return Figure(panels, 'Layers from the image on. A dot is a seed, and the stroke their mean.')


_FIGURES: dict[str, Callable[..., Figure]] = {
  'recipes': _recipes_figure,
  'parameters': _parameters_figure,
  'sizes': _sizes_figure,
  'moved': _moved_figure,
  'corruptions': _corruptions_figure,
  'unknown': _unknown_figure,
  'attacks': _attacks_figure,
  'probes': _probes_figure,
}
