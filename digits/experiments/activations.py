"""The activation study: common claims about sigmoid, tanh and ReLU, tested by measurement."""

from collections.abc import Mapping
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
import optax

from digits import errors
from digits.config import ActivationsConfig
from digits.data import arrays
from digits.experiments import compare
from digits.models import layers as layers_lib
from digits.runtime.progress import Stopwatch
from digits.store.results import read_results
from digits.train import population
from digits.train.metrics import Batch, Metrics
from digits.train.runs import load_run
from digits.train.step import normalize, Variables

Recipe = Mapping[str, Any]  # What results.json says of a recipe.

# An activation whose magnitude is below this counts as zero; only ReLU's are exactly so.
_ZERO = 1e-6


def check(config: ActivationsConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  compare.check(config, dataset)
  for name, (first, *_) in config.train_configs().items():
    if not any(isinstance(one, layers_lib.Nonlinearity) for one in layers_lib.layers_of(first.make_model()) or ()):
      raise errors.UsageError(
        f'config.recipes.{name} cannot be studied, because the model {first.model} has no method layers() that names '
        'its activations: add one (see digits.models.layers), or remove the recipe.'
      )


def work(config: ActivationsConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains every recipe with every seed under a probe, then draws what was measured."""
  del watch
  compare.train_all(config, workdir, dataset, make_probe=make_probe)
  results = summarize(config, workdir)
  from digits.report import study_figures  # Matplotlib takes a second to import.

  study_figures.save_activations(results, workdir / 'figures')
  return results


def make_probe(model: nn.Module) -> population.Probe:
  """Makes a measurement of a model that describes its layers, which does not change it.

  Returns:
    A pure function of variables and a batch. It returns for each layer `gradient/LAYER`, the norm of the gradient of
    the mean loss with respect to its kernel over the square root of the number of its elements; and for each layer
    whose activation is sown `zeros/LAYER`, the share of the activations that are zero over the batch.
  """
  layers = layers_lib.layers_of(model) or []

  def probe(variables: Variables, batch: Batch) -> dict[str, Float[Array, '']]:
    def loss_fn(params):
      given = {**variables, 'params': params}
      logits, state = model.apply(given, normalize(batch['image']), mutable='intermediates')
      loss = Metrics.from_logits(logits.astype(jnp.float32), batch).loss
      return loss / jnp.maximum(jnp.sum(batch['mask']), 1.0), state.get('intermediates', {})

    grads, sown = jax.grad(loss_fn, has_aux=True)(variables['params'])
    measured = {}
    for layer in layers:
      if isinstance(layer, layers_lib.Convolution | layers_lib.Dense):
        gradient = grads[layer.name]['kernel']
        measured[f'gradient/{layer.name}'] = optax.tree.norm(gradient) / gradient.size**0.5
      elif isinstance(layer, layers_lib.Nonlinearity) and f'{layer.of}_active' in sown:
        (values,) = sown[f'{layer.of}_active']
        rows = batch['mask'].reshape(-1, *[1] * (values.ndim - 1))
        zeros = jnp.sum((jnp.abs(values) < _ZERO) * rows)
        measured[f'zeros/{layer.of}'] = zeros / jnp.maximum(jnp.sum(rows) * values[0].size, 1.0)
    return measured

  return probe


def summarize(config: ActivationsConfig, workdir: pathlib.Path) -> dict[str, Any]:
  """Summarizes the finished runs.

  Returns:
    dict of experiment, num_seeds, recipes and findings. A recipe has its activation; the model's name; by the name of
    each layer with parameters, in order, its kind; final test scores per seed; and per seed its records of the splits
    `valid` and `probe`.
  """
  recipes = {}
  for name, train_configs in config.train_configs().items():
    directories = [compare.run_directory(workdir, name, one) for one in train_configs]
    histories = [load_run(directory).history for directory in directories]
    results = [read_results(directory) or {} for directory in directories]
    layers = layers_lib.layers_of(train_configs[0].make_model()) or []
    recipes[name] = {
      'model': train_configs[0].model,
      'activation': next(layer.activation for layer in layers if isinstance(layer, layers_lib.Nonlinearity)),
      'layers': {
        layer.name: type(layer).__name__
        for layer in layers
        if isinstance(layer, layers_lib.Convolution | layers_lib.Dense)
      },
      'learning_rate': train_configs[0].learning_rate,
      'test': [result['test'] for result in results],
      'valid': [[record for record in history if record['split'] == 'valid'] for history in histories],
      'probe': [[record for record in history if record['split'] == 'probe'] for history in histories],
    }
  return {
    'experiment': 'activations',
    'num_seeds': config.num_seeds,
    'recipes': recipes,
    'findings': find(recipes),
  }


def find(recipes: Mapping[str, Recipe]) -> list[dict[str, Any]]:
  """Tests common claims about activations, model by model.

  A claim about two activations is `supported` if it holds between every seed of the one and every seed of the other,
  `contradicted` if its opposite does, and `undecided` otherwise.

  Args:
    recipes: as in `summarize`.

  Returns:
    list of dicts of claim, model, verdict and numbers, which has the mean over seeds by activation.
  """
  findings = []
  for model in dict.fromkeys(recipe['model'] for recipe in recipes.values()):
    by_activation = {recipe['activation']: recipe for recipe in recipes.values() if recipe['model'] == model}
    if 'relu' not in by_activation:
      continue
    flow = {name: _gradient_flow(recipe) for name, recipe in by_activation.items()}
    zeros = {name: _zero_share(recipe) for name, recipe in by_activation.items()}
    early = {name: [records[0]['loss'] for records in recipe['valid']] for name, recipe in by_activation.items()}
    error = {name: [1 - test['accuracy'] for test in recipe['test']] for name, recipe in by_activation.items()}
    for other in by_activation.keys() - {'relu'}:
      flow_claim = f'With {other} the gradient of the first layer is smaller against that of the last than with relu.'
      claims = [
        (flow_claim, flow, (other, 'relu')),
        (f'With {other} fewer hidden activations are zero than with relu.', zeros, (other, 'relu')),
        (f'After one epoch relu has a lower validation loss than {other}.', early, ('relu', other)),
        (f'At the end relu makes fewer test errors than {other}.', error, ('relu', other)),
      ]
      for claim, values, (lower, higher) in claims:
        if values[lower] and values[higher]:
          findings.append(_finding(claim, model, lower, higher, values))
  return sorted(findings, key=lambda finding: (finding['model'], finding['claim']))


def _finding(claim: str, model: str, lower: str, higher: str, values: Mapping[str, list[float]]) -> dict[str, Any]:
  if max(values[lower]) < min(values[higher]):
    verdict = 'supported'
  elif min(values[lower]) > max(values[higher]):
    verdict = 'contradicted'
  else:
    verdict = 'undecided'
  means = {name: float(np.mean(value)) for name, value in sorted(values.items()) if value}
  return {'claim': claim, 'model': model, 'verdict': verdict, 'numbers': means}


def _gradient_flow(recipe: Recipe) -> list[float]:
  """Per seed, the median over training of the first layer's gradient over the last layer's."""
  names = [f'gradient/{name}' for name in recipe['layers']]
  return [float(np.median([record[names[0]] / record[names[-1]] for record in records])) for records in recipe['probe']]


def _zero_share(recipe: Recipe) -> list[float]:
  """Per seed, the share of zeros at the end, the mean over the measured layers of the same kind as the first."""
  kinds = recipe['layers']
  alike = [f'zeros/{name}' for name, kind in kinds.items() if kind == next(iter(kinds.values()))]
  shares = [[records[-1][name] for name in alike if name in records[-1]] for records in recipe['probe']]
  return [float(np.mean(share)) for share in shares if share]


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """The findings, one line each."""
  del workdir
  lines = []
  for finding in results['findings']:
    numbers = ', '.join(f'{name} {value:.3g}' for name, value in finding['numbers'].items())
    lines.append(f'{finding["model"]:8}{finding["verdict"]:14}{finding["claim"]} ({numbers})')
  return '\n'.join(lines)
