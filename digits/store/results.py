"""The results of a run: results.json, and the table that people see."""

import contextlib
import importlib.metadata
import pathlib
import platform
from typing import Any

from digits.models import registry
from digits.runtime import devices, distributed, sealed_json


def versions() -> dict[str, str]:
  """Versions of Python and of what decides the numbers.

  Prepared data is read without tensorflow-datasets, which is then no reason to lose a run at its end.
  """
  found = {'python': platform.python_version()}
  for name in ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'numpy'):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def write_results(workdir: pathlib.Path, results: dict[str, Any]) -> dict[str, Any]:
  """Writes results.json, whole or not at all, with the device and the versions; returns its content."""
  results = results | {'device': devices.device_name(), 'versions': versions()}
  return sealed_json.write(workdir / 'results.json', results) if distributed.is_main() else results


def read_results(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns the content of results.json, or None where the run is not finished.

  Raises:
    DamagedError: it is not what was written.
  """
  return sealed_json.read(workdir / 'results.json')


def format_table(results: dict[str, Any]) -> str:
  """The table at the end of a run: its test split against the published result, where there is one."""
  lines = [f'{"":24}{"test accuracy":>15}{"test loss":>12}']

  def add(name, scores):
    lines.append(f'{name:24}{scores["accuracy"]:>15.2%}{scores["loss"]:>12.4f}')

  add(f'{results["model"]}, seed {results["seed"]}', results['test'])
  published = registry.about(results['model']).published
  if results['dataset'] == 'mnist' and published:
    add('published', published._asdict())
  return '\n'.join(lines)
