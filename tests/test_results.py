import importlib.metadata

import pytest

from digits.store import results


def _run(model, dataset='mnist'):
  return {'model': model, 'dataset': dataset, 'seed': 3, 'test': {'accuracy': 0.5, 'loss': 1.25}}


def test_table_puts_the_run_beside_the_published_result():
  lines = results.format_table(_run('cnn')).splitlines()
  assert lines[1].split() == ['cnn,', 'seed', '3', '50.00%', '1.2500']
  assert lines[2].split() == ['published', '98.99%', '0.0296']


@pytest.mark.parametrize(('model', 'dataset'), [('mine', 'mnist'), ('cnn', 'fashion_mnist')])
def test_table_of_a_run_without_a_published_result(model, dataset):
  assert 'published' not in results.format_table(_run(model, dataset))


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
  version = importlib.metadata.version

  def find(name):
    if name == 'tensorflow-datasets':
      raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

  monkeypatch.setattr(importlib.metadata, 'version', find)
  found = results.versions()
  assert 'tensorflow-datasets' not in found
  assert found['jax'] == version('jax')
