"""The activation study: common claims about sigmoid, tanh and ReLU, tested by measurement."""

import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import optax

from digits import errors
from digits.config import ActivationsConfig
from digits.data import arrays
from digits.experiments import compare
from digits.models import layers as layers_lib
from digits.report import activation_claims, activation_study, findings, study
from digits.runtime.progress import Stopwatch
from digits.store.results import read_results
from digits.train import population
from digits.train.metrics import Batch, Metrics
from digits.train.runs import load_run
from digits.train.step import normalize, Variables

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
  """Trains every recipe with every seed under a probe, then writes report.html."""
  del watch
  compare.train_all(config, workdir, dataset, make_probe=make_probe)
  return write_page(config, workdir, dataset)


def write_page(config: ActivationsConfig, workdir: pathlib.Path, dataset: arrays.Dataset) -> dict[str, Any]:
  """See `runner.Experiment`."""
  del dataset
  results = summarize(config, workdir)
  study.write_study(activation_study.make_study(results), workdir)
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
    dict of experiment, num_seeds, recipes, and findings, which `activation_claims.find` returns. A recipe has its
    activation; the model's name; by the name of each layer with parameters, in order, its kind; the learning rate;
    final test scores per seed; and per seed its records of the splits `valid` and `probe`.
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
    'findings': activation_claims.find(recipes),
  }


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """The findings, one line each."""
  lines = []
  for finding in results['findings']:
    numbers = ', '.join(f'{name} {value:.3g}' for name, value in finding['numbers'].items())
    lines.append(f'{finding["model"]:8}{finding["verdict"]:14}{finding["claim"]} ({numbers})')
  return '\n'.join([*lines, f'The report is {workdir / "report.html"}.'])


def headline(results: dict[str, Any]) -> str:
  """See `runner.Experiment`."""
  return findings.verdicts([finding['verdict'] for finding in results['findings']]) or 'No claims were tested.'
