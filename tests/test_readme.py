"""The README says what is so: its commands, its lines for a notebook, its numbers."""

import json
import re
import statistics

import conftest
import pytest

from digits import config as config_lib

README = (conftest.ROOT / 'README.md').read_text()


def test_the_lines_for_a_notebook_run(prepared_data_dir, monkeypatch, capsys):
  monkeypatch.setenv('TFDS_DATA_DIR', str(prepared_data_dir))
  code = re.search(r'```python\n(.*?)```', README, re.DOTALL)[1]
  small = {"load_dataset('mnist')": "load_dataset('mnist', num_validation=60)", 'batch_size=128': 'batch_size=32'}
  for old, new in small.items():
    assert old in code
    code = code.replace(old, new)
  exec(compile(code, 'README.md', 'exec'), {})
  assert "'examples': 100" in capsys.readouterr().out


def test_files_named_in_the_readme_exist():
  for path in re.findall(r'\]\(([^)#:]+)\)', README):
    assert (conftest.ROOT / path).exists(), path


def test_commands_name_configs_and_fields_that_exist():
  commands = re.findall(r'python launch\.py [^`\n|;]*', README)
  assert commands
  for command in commands:
    name = re.search(r'--config=configs/(\w+)\.py', command)[1]
    values = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / f'{name}.py'))
    for field in re.findall(r'--config\.([\w.]+)=', command):
      inner = values
      for part in field.split('.'):
        assert part in inner, field
        inner = inner[part]


def _results(model):
  paths = sorted((conftest.ROOT / 'results').glob(f'{model}-*.json'))
  return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize('model', ['softmax', 'mlp', 'cnn'])
def test_the_table_is_that_of_the_committed_results(model):
  results = _results(model)
  assert [result['seed'] for result in results] == [0, 1, 2]
  assert {result['test']['examples'] for result in results} == {10_000}
  assert len({json.dumps(result['versions'], sort_keys=True) for result in results}) == 1

  def spread(key):
    values = [result['test'][key] for result in results]
    return statistics.mean(values), statistics.stdev(values)

  accuracy, loss = spread('accuracy'), spread('loss')
  seconds = statistics.median(result['seconds']['total'] for result in results)
  row = (
    f'| {100 * accuracy[0]:.2f} ± {100 * accuracy[1]:.2f} % | {loss[0]:.4f} ± {loss[1]:.4f} '
    f'| {results[0]["num_parameters"]:,} | {seconds:.0f} s |'
  )
  (line,) = re.findall(rf'^\| `{model}` .*', README, re.MULTILINE)
  assert line.endswith(row), row
  header = (conftest.ROOT / 'configs' / f'{model}.py').read_text().split('"""')[1]
  assert f'python launch.py --config=configs/{model}.py' in header
  assert f'{100 * accuracy[0]:.2f} %' in header


def test_requirements_are_those_of_the_package():
  import tomllib

  project = tomllib.loads((conftest.ROOT / 'pyproject.toml').read_text())['project']
  lines = (conftest.ROOT / 'requirements.txt').read_text().split('\n\n')[0].splitlines()
  assert [line for line in lines if not line.startswith('#')] == project['dependencies']
