"""The README says what is so: its commands, its lines for a notebook, its numbers."""

import json
import re
import shlex
import statistics

import conftest
import numpy as np
import pytest

import digits
from digits import config as config_lib
from digits.commands import export
from digits.train import step as step_lib

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


def test_a_model_taken_along_runs(tiny_config, tmp_path, monkeypatch):
  section = README.split('## Take a model along')[1].split('\n## ')[0]
  (command,) = re.findall(r'^python -m digits\.export (.*)$', section, re.MULTILINE)
  (code,) = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
  monkeypatch.chdir(tmp_path)
  digits.run(tiny_config('cnn', epochs=1), 'runs/cnn')
  monkeypatch.setattr('sys.argv', ['export', *shlex.split(command)])
  export.main()
  assert 'digits' not in code
  names = {}
  exec(compile(code, 'README.md', 'exec'), names)
  run = digits.load_run('runs/cnn')
  expected = step_lib.apply_model(run.model, run.params, np.zeros((2, 28, 28, 1), np.uint8))
  np.testing.assert_allclose(names['logits'], expected, atol=1e-5)


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


COMPARISON = json.loads((conftest.ROOT / 'results' / 'compare.json').read_text())


@pytest.mark.parametrize('model', ['softmax', 'mlp', 'cnn'])
def test_the_table_is_that_of_the_committed_comparison(model):
  scores = COMPARISON['models'][model]
  assert scores['test']['accuracy']['n'] == COMPARISON['num_seeds'] == 10
  for key, decimals in (('accuracy', 6), ('loss', 6)):
    spread = scores['test'][key]
    assert spread['mean'] == pytest.approx(statistics.mean(spread['per_seed']), abs=10**-decimals)
    assert spread['std'] == pytest.approx(statistics.stdev(spread['per_seed']), abs=10**-decimals)
  accuracy, loss, published = scores['test']['accuracy'], scores['test']['loss'], scores['published']
  single = json.loads((conftest.ROOT / 'results' / f'{model}.json').read_text())
  row = (
    f'| `{model}` | {100 * accuracy["mean"]:.2f} ± {100 * accuracy["std"]:.2f} % | {100 * published["accuracy"]:.2f} % '
    f'| {loss["mean"]:.4f} ± {loss["std"]:.4f} | {published["loss"]:.4f} | {scores["num_parameters"]:,} '
    f'| {single["seconds"]["total"]:.0f} s |'
  )
  assert row in README.splitlines()


@pytest.mark.parametrize('model', ['softmax', 'mlp', 'cnn'])
def test_a_configs_header_is_that_of_its_committed_run(model):
  single = json.loads((conftest.ROOT / 'results' / f'{model}.json').read_text())
  header = (conftest.ROOT / 'configs' / f'{model}.py').read_text().split('"""')[1]
  assert f'python launch.py --config=configs/{model}.py' in header
  assert f'{single["test"]["accuracy"]:.2%}' in header
  assert f'{single["test"]["loss"]:.4f}' in header
  assert f'{single["seconds"]["total"]:.0f} s' in header
  assert single['test']['examples'] == 10_000


def test_the_sentences_about_handwriting_are_those_of_the_committed_measurements():
  answers = json.loads((conftest.ROOT / 'results' / 'handwriting.json').read_text())['answers']
  conditions = json.loads((conftest.ROOT / 'results' / 'reading.json').read_text())['conditions']
  right = {name: f'{counts["right"] / counts["strings"]:.1%}'.replace('%', ' %') for name, counts in conditions.items()}
  times = json.loads((conftest.ROOT / 'results' / 'handwriting.json').read_text())['times']
  text = ' '.join(README.split())
  assert answers['images'] == 10_000
  assert min(counts['strings'] for counts in conditions.values()) >= 500
  for sentence in (
    f'is {100 * answers["accuracy"]:.2f} % as they are and {100 * answers["accuracy_prepared"]:.2f} % through the',
    f'and {100 * answers["answers_unchanged"]:.1f} % of its answers stay when',
    f'{right["mix"]} are read wholly right; with a line ruled through them {right["ruled through"]}, '
    f'with digits that touch {right["touching"]} (',
    f'answered {times["one_image_seconds"]:.1f} s after the command starts, '
    f'and {times["images_per_second"]:,.0f} images a second',
  ):
    assert sentence in text


def test_the_sentences_about_activations_are_those_of_the_committed_study():
  study = json.loads((conftest.ROOT / 'results' / 'activations.json').read_text())
  findings = {(finding['model'], finding['claim']): finding for finding in study['findings']}
  errors = findings['cnn', 'At the end relu makes fewer test errors than sigmoid.']
  mlp_errors = findings['mlp', 'At the end relu makes fewer test errors than sigmoid.']
  flow = findings[
    'cnn', 'With sigmoid the gradient of the first layer is smaller against that of the last than with relu.'
  ]
  zeros = findings['cnn', 'With sigmoid fewer hidden activations are zero than with relu.']
  assert study['num_seeds'] == 3
  assert [finding['verdict'] for finding in (errors, flow, zeros)] == ['supported'] * 3
  assert mlp_errors['verdict'] == 'undecided'
  percent = {name: 100 * value for name, value in errors['numbers'].items()}
  ratio = flow['numbers']
  text = ' '.join(README.split())
  for sentence in (
    f'{percent["sigmoid"]:.1f} % test errors, ReLU {percent["relu"]:.2f} %, tanh {percent["tanh"]:.2f} %',
    f"gradient is {ratio['sigmoid']:.3f} times the last one's, with ReLU {ratio['relu']:.1f} times",
    f'sigmoid makes {100 * mlp_errors["numbers"]["sigmoid"]:.2f} % errors and ReLU '
    f'{100 * mlp_errors["numbers"]["relu"]:.2f} %, which three seeds do not tell apart',
    f'ReLU activations {zeros["numbers"]["relu"]:.0%} are zero'.replace('%', ' %'),
  ):
    assert sentence in text


@pytest.mark.parametrize('experiment', ['activations', 'sweep'])
def test_the_header_of_an_experiment_is_that_of_its_committed_run(experiment):
  results = json.loads((conftest.ROOT / 'results' / f'{experiment}.json').read_text())
  header = (conftest.ROOT / 'configs' / f'{experiment}.py').read_text().split('"""')[1]
  if experiment == 'sweep':
    best = results['trials'][0]
    assert f'learning rate {best["values"]["learning_rate"]}' in header
    assert f'weight decay {best["values"]["weight_decay"]}' in header
    assert f'validation loss {best["valid"]["loss"]:.4f}' in header
  else:
    numbers = [finding['numbers'] for finding in results['findings'] if finding['claim'].startswith('At the end relu')]
    for errors in numbers:
      assert f'sigmoid {errors["sigmoid"]:.2%}'.replace('%', ' %') in header
      assert f'ReLU {errors["relu"]:.2%}'.replace('%', ' %') in header


FAULTS = json.loads((conftest.ROOT / 'results' / 'faults.json').read_text())


def test_reliability_is_that_of_the_committed_campaign():
  rows = re.findall(r'^\| `(\w+)`: .* \| (\d+) \| (\d+) \|$', README, re.MULTILINE)
  kinds = FAULTS['kinds']
  assert {kind: (int(trials), int(lost)) for kind, trials, lost in rows} == {
    kind: (row['trials'], row['lost']) for kind, row in kinds.items()
  }
  for row in kinds.values():
    assert sum(row['outcomes'].values()) == row['trials']
    assert row['outcomes'].get('lost', 0) == row['lost']
  assert set(FAULTS['caught']) == {'no-checksums', 'no-lock', 'forgetful'}
  assert all(FAULTS['caught'].values())
  struck = kinds['disk']['trials'] - kinds['disk']['outcomes'].get('not hit', 0)
  assert f'of the `disk` trials {struck} struck' in ' '.join(README.split())


def test_requirements_are_those_of_the_package():
  import tomllib

  project = tomllib.loads((conftest.ROOT / 'pyproject.toml').read_text())['project']
  lines = (conftest.ROOT / 'requirements.txt').read_text().split('\n\n')[0].splitlines()
  assert [line for line in lines if not line.startswith('#')] == project['dependencies']
