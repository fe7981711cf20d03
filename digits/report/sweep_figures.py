"""The figures of a sweep, as PNG and SVG."""

from collections.abc import Mapping
import pathlib
from typing import Any

from jaxtyping import Float, Shaped
import numpy as np

from digits.report import figures, rendering
from digits.report.figures import Panel

_Column = Shaped[np.ndarray, ' trials']


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
    for panel in panels:
      rendering.save(panel, directory)


def _heat_map(values: Mapping[str, _Column], scores: Float[np.ndarray, ' trials'], unit: str, num_seeds: int) -> Panel:
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
  return Panel('heat-map', f'{unit} by {_words(x_name)} and {_words(y_name)}, as numbers in a grid.', figure)


def _scatter(name: str, column: _Column, scores: Float[np.ndarray, ' trials'], unit: str) -> Panel:
  figure, axes = figures.new(2.2, _words(name))
  axes.plot(column, scores, 'o', color=figures.MODEL_COLORS[0])
  if (column > 0).all() and column.max() > 10 * column.min():
    axes.set_xscale('log')
  axes.set(xlabel=_words(name), ylabel=unit)
  return Panel(f'sweep-{name}', f'{unit} against {_words(name)}, a point for every trial.', figure)


def _words(name: str) -> str:
  return name.replace('_', ' ').replace('.', ', ')
