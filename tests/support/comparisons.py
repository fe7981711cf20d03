"""Comparisons of models that were never trained, with logits of a chosen quality."""

import conftest
import jax
import jax.numpy as jnp
import numpy as np

from digits import config as config_lib
from digits import data
from digits.models import registry
from digits.report import summary as comparison_lib
from digits.train import step
from digits.train.recipe import describe_loss

SMALL = {'cnn': {'features': (2, 3), 'hidden_units': 8}, 'mlp': {'hidden_units': 12}}


def make_history(epochs, valid=True, objective='cross-entropy'):
  """Records such as a run writes: two of training and one of validation in every epoch of 10 steps."""
  records = []
  for epoch in range(epochs):
    for done in (6, 10):
      loss = 2.0 / (1 + 10 * epoch + done)
      record = {'step': 10 * epoch + done, 'epoch': epoch, 'split': 'train', 'objective': objective}
      records.append(record | {'loss': loss, 'accuracy': 1 - loss / 3})
    if valid:
      record = {'step': 10 * epoch + 10, 'epoch': epoch, 'split': 'valid', 'loss': 0.5 / (1 + epoch), 'accuracy': 0.9}
      records.append(record)
  return records


def make_split(num_examples, seed=0):
  rng = np.random.default_rng(seed)
  labels = (np.arange(num_examples) % 10).astype(np.int32)
  return data.Split(rng.integers(0, 256, (num_examples, 28, 28, 1)).astype(np.uint8), labels)


def make_logits(labels, seeds, strength):
  """Noise, with `strength` added to the logit of the label: 0 is chance, 10 is nearly always right."""
  noise = [np.random.default_rng(seed).standard_normal((len(labels), 10)) for seed in seeds]
  return (np.array(noise) + strength * np.eye(10)[labels]).astype(np.float32)


def make_runs(name, strength, test, valid, *, num_seeds=2, model=None, architecture=None, **overrides):
  """A recipe's runs: `model` with `architecture`, or the model of a shipped config that the recipe is called by."""
  shipped = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / f'{"mlp" if model else name}.py'))
  if architecture is None:
    architecture = shipped['architecture'] | SMALL.get(model or name, {})
  config = config_lib.from_dict(shipped | {'model': model or name, 'architecture': architecture} | overrides)
  network = config.make_model()
  seeds = list(range(num_seeds))
  variables = jax.device_get(network.init(jax.random.key(0), step.normalize(jnp.asarray(test.image[:1]))))
  published = registry.about(name).published
  return comparison_lib.ModelRuns(
    config=config,
    num_parameters=sum(leaf.size for leaf in jax.tree.leaves(variables['params'])),
    published=published and published._asdict(),
    histories=[make_history(3, bool(len(valid.label)), describe_loss(config)) for _ in seeds],
    seconds=[{'data': 0.1, 'compile': 1.0, 'train': 2.0 + seed, 'total': 3.1 + seed} for seed in seeds],
    devices=['cpu' for _ in seeds],
    seeds=seeds,
    valid_logits=make_logits(valid.label, [100 + seed for seed in seeds], strength),
    test_logits=make_logits(test.label, seeds, strength),
    variables=variables,
    model=network,
  )


def make_comparison(strengths, *, num_test=100, num_valid=60, **overrides):
  """Models by name, each with the strength of its logits; see `make_runs`."""
  test, valid = make_split(num_test), make_split(num_valid, seed=1)
  models = {name: make_runs(name, strength, test, valid, **overrides) for name, strength in strengths.items()}
  return comparison_lib.Comparison(models, test, valid)
