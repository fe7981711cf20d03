"""The figures of the activation study and of sweeps, as PNG and SVG."""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped
from matplotlib.figure import Figure
import numpy as np

from digits.models.activations import ACTIVATIONS
from digits.report import figures
from digits.runtime import files

_Panel = tuple[str, Figure]  # The name of its files, and the drawing.
_Column = Shaped[np.ndarray, ' trials']


def save_activations(results: Mapping[str, Any], directory: pathlib.Path) -> None:
  """Writes the figures of an activation study, given its results.json: the functions, and what was measured."""
  with figures.style():
    recipes = results['recipes']
    look = figures.looks(list(dict.fromkeys(recipe['activation'] for recipe in recipes.values())))
    panels = [_function(name, ACTIVATIONS[name].function) for name in look]
    # Of one logit among ten, the others being 0.
    panels.append(
      _function(jax.nn.softmax.__name__, lambda x: jnp.exp(x) / (jnp.exp(x) + 9), 'One logit, nine others 0')
    )
    for model in dict.fromkeys(recipe['model'] for recipe in recipes.values()):
      mine = {recipe['activation']: recipe for recipe in recipes.values() if recipe['model'] == model}
      panels.append(_curves(f'loss-{model}', f'{model}: validation', 'Loss (nats)', mine, look, 'valid', 'loss'))
      # Recipes of one model may have different numbers of layers; those are drawn that all of them have.
      common = set.intersection(*(set(recipe['probe'][0][0]) for recipe in mine.values()))
      for layer in sorted(name for name in common if name.startswith(('gradient/', 'zeros/'))):
        kind, place = layer.split('/')
        label = 'Gradient norm per weight' if kind == 'gradient' else 'Share of zero activations'
        panels.append(_curves(f'{kind}-{place}-{model}', f'{model}: {place}', label, mine, look, 'probe', layer))
    _save(panels, directory)


def _function(name: str, function: Callable[[jax.Array], jax.Array], xlabel: str = 'Input') -> _Panel:
  x = jnp.linspace(-6, 6, 601)
  figure, axes = figures.new(2.2, name)
  axes.plot(x, function(x), color=figures.MODEL_COLORS[0], label='value')
  axes.plot(x, jax.vmap(jax.grad(function))(x), '--', color=figures.MODEL_COLORS[1], label='derivative')
  axes.set(xlabel=xlabel, ylabel='Output', ylim=(-1.1, 2))
  axes.legend(loc='upper left', frameon=False)
  return f'function-{name}', figure


def _curves(
  name: str, title: str, label: str, recipes: Mapping[str, Any], look: figures.Looks, split: str, key: str
) -> _Panel:
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


def save_sweep(results: Mapping[str, Any], directory: pathlib.Path) -> None:
  """Writes what a sweep found: a heat map for a grid of two fields, else the metric against each field.

  Args:
    results: the content of its results.json.
    directory: where to, made if need be.
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


def _heat_map(values: Mapping[str, _Column], scores: Float[np.ndarray, ' trials'], unit: str, num_seeds: int) -> _Panel:
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
  axes.set(xlabel=_words(x_name), ylabel=_words(y_name))
  axes.set_xticks(range(len(columns)), [f'{value:g}' for value in columns])
  axes.set_yticks(range(len(rows)), [f'{value:g}' for value in rows])
  figure.colorbar(image)
  return 'heat-map', figure


def _scatter(name: str, column: _Column, scores: Float[np.ndarray, ' trials'], unit: str) -> _Panel:
  figure, axes = figures.new(2.2, _words(name))
  axes.plot(column, scores, 'o', color=figures.MODEL_COLORS[0])
  if (column > 0).all() and column.max() > 10 * column.min():
    axes.set_xscale('log')
  axes.set(xlabel=_words(name), ylabel=unit)
  return f'sweep-{name}', figure


def _words(name: str) -> str:
  return name.replace('_', ' ').replace('.', ', ')


def _save(panels: Sequence[_Panel], directory: pathlib.Path) -> None:
  directory.mkdir(parents=True, exist_ok=True)
  for name, figure in panels:
    for suffix in ('png', 'svg'):
      with files.replace_atomically(directory / f'{name}.{suffix}') as file:
        figure.savefig(file, format=suffix, dpi=200)
