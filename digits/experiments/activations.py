"""The activation study: what is said of sigmoid, tanh and ReLU, measured on these models and not repeated."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from digits.config import ActivationsConfig
from digits.data import arrays
from digits.experiments import compare
from digits.runtime.progress import Stopwatch
from digits.store import results as results_lib
from digits.train import runs as runs_lib
from digits.train.metrics import Metrics
from digits.train.step import normalize

# An activation whose magnitude is below this counts as zero; only ReLU's are exactly so.
_ZERO = 1e-6


def check(config: ActivationsConfig, dataset: arrays.Dataset) -> None:
  """See `runner.Experiment`."""
  compare.check(config, dataset)


def work(config: ActivationsConfig, workdir: pathlib.Path, dataset: arrays.Dataset, watch: Stopwatch) -> dict[str, Any]:
  """Trains every recipe with every seed under a probe, then draws what was measured."""
  del watch
  compare.train_all(config, workdir, dataset, make_probe=make_probe)
  results = summarize(config, workdir)
  from digits.report import study_figures  # Matplotlib takes a second to import.

  study_figures.save_activations(results, workdir / 'figures')
  return results


def make_probe(model):
  """Makes a measurement of a model that does not change it.

  Args:
    model: an unbound `nn.Module` with layers of `kernel` parameters.

  Returns:
    A pure function `(variables, batch) -> dict of float32[]`: for each layer `gradient/LAYER`, the norm of the gradient
    of the mean loss with respect to its kernel over the square root of the number of its elements; and for each hidden
    layer `zeros/LAYER`, the share of its activations that are zero over the batch.
  """

  def probe(variables, batch):
    def loss_fn(params):
      given = {**variables, 'params': params}
      logits, state = model.apply(given, normalize(batch['image']), mutable='intermediates')
      loss = Metrics.from_logits(logits.astype(jnp.float32), batch).loss
      return loss / jnp.maximum(jnp.sum(batch['mask']), 1.0), state['intermediates']

    grads, activations = jax.grad(loss_fn, has_aux=True)(variables['params'])
    measured = {}
    for layer, leaves in grads.items():
      measured[f'gradient/{layer}'] = optax.tree.norm(leaves['kernel']) / leaves['kernel'].size ** 0.5
    for layer, (values,) in activations.items():
      rows = batch['mask'].reshape(-1, *[1] * (values.ndim - 1))
      zeros = jnp.sum((jnp.abs(values) < _ZERO) * rows)
      measured[f'zeros/{layer.removesuffix("_active")}'] = zeros / jnp.maximum(jnp.sum(rows) * values[0].size, 1.0)
    return measured

  return probe


def summarize(config, workdir):
  """What the finished runs say.

  Args:
    config: `CompareConfig`.
    workdir: `pathlib.Path` of the study.

  Returns:
    dict of experiment, num_seeds, recipes and findings. A recipe has its activation, the model's name, final test and
    valid scores per seed, and per seed its records of the splits `valid` and `probe`.
  """
  recipes = {}
  for name, train_configs in config.train_configs().items():
    directories = [compare.run_directory(workdir, name, one) for one in train_configs]
    histories = [runs_lib.load_run(directory).history for directory in directories]
    results = [results_lib.read_results(directory) for directory in directories]
    architecture = train_configs[0].architecture
    recipes[name] = {
      'model': train_configs[0].model,
      'activation': architecture.get('conv_activation', architecture.get('activation')),
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


def find(recipes):
  """Tests what is usually said, model by model.

  A claim about two activations is `supported` if it holds between every seed of the one and every seed of the other,
  `contradicted` if its opposite does, and `undecided` otherwise.

  Args:
    recipes: as in `summarize`.

  Returns:
    list of dicts of claim, model, verdict and numbers, a dict of the mean over seeds by activation.
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
      pairs = [
        (f'With {other} the gradient of the first layer is smaller against that of the last than with relu.', flow),
        (f'With {other} fewer hidden activations are zero than with relu.', zeros),
      ]
      for claim, values in pairs:
        findings.append(_finding(claim, model, smaller=values[other], larger=values['relu'], values=values))
      pairs = [
        (f'After one epoch relu has a lower validation loss than {other}.', early),
        (f'At the end relu makes fewer test errors than {other}.', error),
      ]
      for claim, values in pairs:
        findings.append(_finding(claim, model, smaller=values['relu'], larger=values[other], values=values))
  return sorted(findings, key=lambda finding: (finding['model'], finding['claim']))


def _finding(claim, model, *, smaller, larger, values):
  if max(smaller) < min(larger):
    verdict = 'supported'
  elif min(smaller) > max(larger):
    verdict = 'contradicted'
  else:
    verdict = 'undecided'
  means = {name: float(np.mean(value)) for name, value in sorted(values.items())}
  return {'claim': claim, 'model': model, 'verdict': verdict, 'numbers': means}


def _gradient_flow(recipe):
  """Per seed, the median over training of the first layer's gradient over the last layer's."""
  flows = []
  for records in recipe['probe']:
    names = sorted(name for name in records[0] if name.startswith('gradient/'))
    first = next((name for name in names if name.endswith('conv1')), 'gradient/hidden')
    flows.append(float(np.median([record[first] / record['gradient/logits'] for record in records])))
  return flows


def _zero_share(recipe):
  """Per seed, the share of zeros at the end, the mean over the layers that have the activation."""
  shares = []
  for records in recipe['probe']:
    names = [name for name in records[-1] if name.startswith('zeros/conv')] or ['zeros/hidden']
    shares.append(float(np.mean([records[-1][name] for name in names])))
  return shares


def format_results(results: dict[str, Any], workdir: pathlib.Path) -> str:
  """The findings, one line each."""
  del workdir
  lines = []
  for finding in results['findings']:
    numbers = ', '.join(f'{name} {value:.3g}' for name, value in finding['numbers'].items())
    lines.append(f'{finding["model"]:8}{finding["verdict"]:14}{finding["claim"]} ({numbers})')
  return '\n'.join(lines)
