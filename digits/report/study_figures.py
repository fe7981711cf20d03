"""The figures of the activation study and of sweeps, as PNG and SVG."""

import numpy as np

from digits.report import figures
from digits.runtime import files

_ACTIVATIONS = {
  'sigmoid': (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
  'tanh': (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
  'relu': (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
  # Of one logit among ten, the others being 0: p, and dp/dx = p (1 - p).
  'softmax': (lambda x: np.exp(x) / (np.exp(x) + 9), lambda x: 9 * np.exp(x) / (np.exp(x) + 9) ** 2),
}


def save_activations(results, directory):
  """Writes the figures of an activation study: the functions, and what was measured.

  Args:
    results: the content of its results.json.
    directory: `pathlib.Path`, made if need be.
  """
  with figures.style():
    panels = [_function(name) for name in _ACTIVATIONS]
    recipes = results['recipes']
    look = figures.looks(dict.fromkeys(recipe['activation'] for recipe in recipes.values()))
    for model in dict.fromkeys(recipe['model'] for recipe in recipes.values()):
      mine = {recipe['activation']: recipe for recipe in recipes.values() if recipe['model'] == model}
      panels.append(_curves(f'loss-{model}', f'{model}: validation', 'Loss (nats)', mine, look, 'valid', 'loss'))
      layers = [name for name in next(iter(mine.values()))['probe'][0][0] if name.startswith(('gradient/', 'zeros/'))]
      for layer in sorted(layers):
        kind, place = layer.split('/')
        label = 'Gradient norm by weight' if kind == 'gradient' else 'Share of zero activations'
        panels.append(_curves(f'{kind}-{place}-{model}', f'{model}: {place}', label, mine, look, 'probe', layer))
    _save(panels, directory)


def _function(name):
  function, derivative = _ACTIVATIONS[name]
  x = np.linspace(-6, 6, 601)
  figure, axes = figures.new(2.2, name)
  axes.plot(x, function(x), color=figures.MODEL_COLORS[0], label='value')
  axes.plot(x, derivative(x), '--', color=figures.MODEL_COLORS[1], label='derivative')
  axes.set(xlabel='Input' if name != 'softmax' else 'One logit, nine others 0', ylabel='Output', ylim=(-1.1, 2))
  axes.legend(loc='upper left', frameon=False)
  return f'function-{name}', figure


def _curves(name, title, label, recipes, look, split, key):
  figure, axes = figures.new(2.2, title)
  for activation, recipe in recipes.items():
    color, marker = look[activation]
    steps = [record['step'] for record in recipe[split][0]]
    values = np.array([[record[key] for record in records] for records in recipe[split]])
    axes.plot(steps, values.mean(0), color=color, marker=marker, label=activation)
    axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
  axes.set(xlabel='Updates', ylabel=label)
  if not key.startswith('zeros'):
    axes.set_yscale('log')
  axes.legend(frameon=False)
  return name, figure


def save_sweep(results, directory):
  """Writes what a sweep found: a heat map for a grid of two fields, else the metric against each field.

  Args:
    results: the content of its results.json.
    directory: `pathlib.Path`, made if need be.
  """
  trials = [trial for trial in results['trials'] if trial['valid'] is not None]
  metric = results['metric']
  unit = 'Validation loss (nats)' if metric == 'loss' else 'Validation accuracy'
  scores = np.array([trial['valid'][metric] for trial in trials])
  values = {name: np.array([trial['values'][name] for trial in trials]) for name in trials[0]['values']}
  with figures.style():
    is_grid = len(values) == 2 and len(scores) == np.prod([len(np.unique(column)) for column in values.values()])
    if is_grid:
      panels = [_heat_map(values, scores, unit, results['num_seeds'])]
    else:
      panels = [_scatter(name, column, scores, unit) for name, column in values.items()]
    _save(panels, directory)


def _heat_map(values, scores, unit, num_seeds):
  (x_name, x), (y_name, y) = values.items()
  columns, rows = np.unique(x), np.unique(y)
  grid = np.full((len(rows), len(columns)), np.nan)
  grid[np.searchsorted(rows, y), np.searchsorted(columns, x)] = scores
  figure, axes = figures.new(2.6, f'{unit}, mean of {num_seeds} seed{"s"[: num_seeds > 1]}')
  axes.grid(visible=False)
  image = axes.imshow(grid, cmap='cividis', origin='lower', aspect='auto')
  middle = np.nanmean([np.nanmin(grid), np.nanmax(grid)])
  for (row, column), score in np.ndenumerate(grid):
    if np.isfinite(score):
      color = 'white' if score < middle else 'black'
      axes.text(column, row, f'{score:.4f}', ha='center', va='center', color=color, fontsize=7)
  axes.set(xlabel=x_name.replace('_', ' '), ylabel=y_name.replace('_', ' '))
  axes.set_xticks(range(len(columns)), [f'{value:g}' for value in columns])
  axes.set_yticks(range(len(rows)), [f'{value:g}' for value in rows])
  figure.colorbar(image)
  return 'heat-map', figure


def _scatter(name, column, scores, unit):
  figure, axes = figures.new(2.2, name.replace('_', ' '))
  axes.plot(column, scores, 'o', color=figures.MODEL_COLORS[0])
  if (column > 0).all() and column.max() > 10 * column.min():
    axes.set_xscale('log')
  axes.set(xlabel=name.replace('_', ' '), ylabel=unit)
  return f'sweep-{name}', figure


def _save(panels, directory):
  directory.mkdir(parents=True, exist_ok=True)
  for name, figure in panels:
    for suffix in ('png', 'svg'):
      with files.replace_atomically(directory / f'{name}.{suffix}') as file:
        figure.savefig(file, format=suffix, dpi=200)
