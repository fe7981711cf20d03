"""The notebook: its cells run from top to bottom, its first one finds the code, and installing changes nothing else.

The cells run as a reader runs them, in a Jupyter kernel that starts in notebooks/, but shrunk: the cell tagged
`parameters` is replaced by PARAMETERS, the data is the synthetic digits, and a picture is named in the last cell.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import types

import conftest
from PIL import Image
import pytest

from notebooks import runtime

NOTEBOOK = conftest.ROOT / 'notebooks' / 'digits.ipynb'
CELLS = {cell['id']: cell for cell in json.loads(NOTEBOOK.read_text())['cells']}
SMALL = {'num_validation': 60, 'batch_size': 32, 'eval_batch_size': 32, 'log_every_steps': 3}
PARAMETERS = 'EPOCHS = 1\nSETTINGS = {settings!r}\nWORKDIR = {workdir!r}'


def source(cell_id):
  return ''.join(CELLS[cell_id]['source'])


@pytest.fixture
def execute(subprocess_env, tmp_path):
  """Runs the notebook's cells, some replaced by other text, and returns them by id; or raises nbclient's error."""
  nbclient = pytest.importorskip('nbclient', reason='needs nbclient: pip install -r tests/requirements.txt')
  pytest.importorskip('ipykernel', reason='needs ipykernel: pip install -r tests/requirements.txt')
  nbformat = pytest.importorskip('nbformat')

  def run(replaced=(), only=None):
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    notebook.cells = [cell for cell in notebook.cells if only is None or cell.id in only]
    for cell in notebook.cells:
      cell.source = dict(replaced).get(cell.id, cell.source)
    # The cells find the code by themselves, and the reader's own Jupyter is left alone.
    own = {'PYTHONPATH': '', 'JAX_NUM_CPU_DEVICES': '1', 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
    own |= {name: str(tmp_path / 'jupyter') for name in ('IPYTHONDIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTER_CONFIG_DIR')}
    for name in ('MPLBACKEND', 'PYTEST_CURRENT_TEST'):
      subprocess_env.pop(name, None)
    client = nbclient.NotebookClient(
      notebook, timeout=300, kernel_name='python3', resources={'metadata': {'path': str(NOTEBOOK.parent)}}
    )
    client.execute(env=subprocess_env | own)
    return {cell.id: cell for cell in notebook.cells}

  return run


def printed(cell, name='stdout'):
  return ''.join(output.text for output in cell.outputs if output.output_type == 'stream' and output.name == name)


def shown(cell, kind):
  return [output.data[kind] for output in cell.outputs if kind in output.get('data', {})]


@pytest.mark.notebook
def test_the_cells_run_from_top_to_bottom(execute, tmp_path):
  photo = tmp_path / 'photo.png'
  Image.new('L', (60, 60), 200).save(photo)  # Paper without ink: an answer too.
  assert 'PICTURES = []' in source('own')
  cells = execute(
    {
      'parameters': PARAMETERS.format(settings=SMALL, workdir=str(tmp_path / 'runs')),
      'own': source('own').replace('PICTURES = []', f'PICTURES = [{str(photo)!r}]'),
    }
  )
  assert re.match(r'CPU \(\d+ cores\), jax \d', printed(cells['setup']))
  table = shown(cells['table'], 'text/markdown')[0]
  for name, published in (('softmax', '92.29%'), ('mlp', '94.97%'), ('cnn', '98.99%')):
    results = json.loads((tmp_path / 'runs' / name / 'seed-0' / 'results.json').read_text())
    assert results['epochs'] == 1
    assert results['test']['examples'] == conftest.NUM_TEST
    assert f'| {name} | {results["test"]["accuracy"]:.2%} | {published} |' in table
  for name in ('curves', 'predict', 'own'):
    assert len(shown(cells[name], 'image/png')) == 1
  page = (tmp_path / 'runs' / 'digits.html').read_text()
  assert page.count('"accuracy"') == 3
  assert 'srcdoc="&lt;!doctype html' in shown(cells['draw'], 'text/html')[0]
  assert f"'examples': {conftest.NUM_TEST}" in printed(cells['step'])
  for cell in cells.values():
    if cell.cell_type == 'code':
      assert 'Warning' not in printed(cell, 'stderr'), cell.id


@pytest.mark.notebook
def test_an_error_that_a_reader_can_fix_is_a_sentence(execute, tmp_path):
  nbclient = pytest.importorskip('nbclient', reason='needs nbclient: pip install -r tests/requirements.txt')
  parameters = PARAMETERS.format(settings={'momentum': 2}, workdir=str(tmp_path / 'runs'))
  with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
    execute({'parameters': parameters}, only=('setup', 'parameters', 'train'))
  assert 'error: config.momentum=2 is not allowed' in str(caught.value)
  assert 'Traceback' not in str(caught.value)


def test_the_notebook_is_committed_without_results():
  notebook = json.loads(NOTEBOOK.read_text())
  assert (notebook['nbformat'], notebook['nbformat_minor']) == (4, 5)
  assert len(CELLS) == len(notebook['cells'])
  for cell in CELLS.values():
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      assert cell['execution_count'] is None
  assert [name for name, cell in CELLS.items() if 'parameters' in cell['metadata'].get('tags', ())] == ['parameters']
  assert next(cell for cell in CELLS.values() if cell['cell_type'] == 'code') == CELLS['setup']


# The first cell, run here with what it calls replaced: where it looks for the code.


@pytest.fixture
def find_code(monkeypatch, tmp_path):
  """Runs the first cell in a directory, and returns the folder of the code that it found and made the current one."""
  for name in ('install_missing', 'show_errors_plainly', 'describe_device'):
    monkeypatch.setattr(runtime, name, lambda *args: '')
  monkeypatch.setattr(sys, 'path', [*sys.path])

  def run(directory, repository=''):
    directory.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(directory)
    text = source('setup')
    assert "REPOSITORY = ''" in text
    exec(compile(text.replace("REPOSITORY = ''", f'REPOSITORY = {repository!r}'), 'setup', 'exec'), {})
    assert sys.path[0] == os.getcwd()
    return pathlib.Path.cwd()

  return run


@pytest.fixture
def fork(tmp_path):
  """A git repository that looks like this one from outside."""
  path = tmp_path / 'fork'
  (path / 'notebooks').mkdir(parents=True)
  (path / 'notebooks' / 'runtime.py').write_text('')
  identity = ['-c', 'user.name=A Reader', '-c', 'user.email=reader@example.org']
  for command in (['init', '-q'], ['add', '.'], [*identity, 'commit', '-q', '-m', 'A fork']):
    subprocess.run(['git', '-C', path, *command], check=True)
  return path


@pytest.mark.parametrize('directory', ['.', 'notebooks', 'tests'])
def test_the_code_is_found_around_the_notebook(find_code, directory):
  assert find_code(conftest.ROOT / directory) == conftest.ROOT


def test_the_code_is_cloned_once(find_code, fork, tmp_path):
  found = find_code(tmp_path / 'alone', repository=f'file://{fork}')
  assert found == tmp_path / 'alone' / 'digits-code'
  assert (found / '.git').exists()
  assert find_code(tmp_path / 'alone', repository='file:///nowhere') == found
  assert find_code(found, repository='file:///nowhere') == found


def test_a_wrong_address_is_named(find_code, tmp_path):
  with pytest.raises(SystemExit, match=r'^file:///nowhere could not be cloned: fatal: .*/nowhere'):
    find_code(tmp_path / 'alone', repository='file:///nowhere')


@pytest.mark.parametrize('prefix', [[], ['--prefix=fork-main/']])
def test_colab_asks_for_the_code(find_code, fork, tmp_path, monkeypatch, prefix):
  def upload():
    subprocess.run(
      ['git', '-C', fork, 'archive', *prefix, f'--output={tmp_path / "alone" / "fork.zip"}', 'HEAD'], check=True
    )
    return {'fork.zip': b''}

  colab = types.SimpleNamespace(files=types.SimpleNamespace(upload=upload))
  monkeypatch.setitem(sys.modules, 'google.colab', colab)
  assert tmp_path / 'alone' / 'digits-code' in (found := find_code(tmp_path / 'alone'), found.parent)


@pytest.mark.parametrize('content', [None, b'no archive'])
def test_without_the_code_a_sentence_says_what_to_do(find_code, tmp_path, monkeypatch, content):
  def upload():
    (tmp_path / 'alone' / 'code.zip').write_bytes(content)
    return {'code.zip': content}

  if content is not None:
    colab = types.SimpleNamespace(files=types.SimpleNamespace(upload=upload))
    monkeypatch.setitem(sys.modules, 'google.colab', colab)
  with pytest.raises(SystemExit, match='The code was not found. Set REPOSITORY'):
    find_code(tmp_path / 'alone')


# What is installed.


def distribution(name, version):
  return types.SimpleNamespace(metadata={'Name': name, 'Version': version})


def test_the_first_distribution_of_a_name_counts():
  found = [
    distribution('Orbax_Checkpoint', '0.12.4'),
    distribution('orbax-checkpoint', '0.5'),  # Further back on the path.
    distribution('python-debian', '0.1.43ubuntu1'),  # Not a version that pip takes.
    distribution('removed', None),
    distribution('torch', '2.10.0+cu128'),
  ]
  assert runtime.installed_versions(found) == {'orbax-checkpoint': '0.12.4', 'torch': '2.10.0+cu128'}


@pytest.mark.parametrize(
  ('installed', 'missing', 'unsuited'),
  [
    ({}, ['jax', 'ml-collections', 'tensorboardX', 'importlib_resources'], []),
    ({'jax': '0.7.2', 'importlib-resources': '6.5.2'}, ['ml-collections', 'tensorboardX'], []),
    ({'jax': '0.12.1.dev1', 'ml-collections': '1.1.0', 'tensorboardx': '2.6.2', 'importlib-resources': '7'}, [], []),
    (
      {'jax': '0.4.16', 'ml-collections': '2.0', 'tensorboardx': '2.6.2', 'importlib-resources': '5.12'},
      [],
      ['jax', 'ml-collections', 'importlib_resources'],
    ),
  ],
)
def test_what_is_missing_and_what_does_not_fit(installed, missing, unsuited):
  needed = ['jax>=0.7.2,<0.13', 'ml-collections>=1.1,<2', 'tensorboardX>=2.6.2', 'importlib_resources>=6.4']
  found = runtime.compare(needed, installed)
  assert [[requirement.name for requirement in part] for part in found] == [missing, unsuited]


# Of what the code needs, Colab's GPU runtime had all but three: that of February 2026, with the Orbax and TFDS of
# August.
COLAB = {
  'absl-py': '1.4.0',
  'array-record': '0.8.3',
  'filelock': '3.24.3',
  'flax': '0.11.2',
  'grain': '0.2.15',
  'importlib-resources': '6.5.2',
  'jax': '0.7.2',
  'jaxlib': '0.7.2',
  'jinja2': '3.1.6',
  'lazy-loader': '0.4',
  'matplotlib': '3.10.0',
  'numpy': '2.0.2',
  'optax': '0.2.7',
  'orbax-checkpoint': '0.12.4',
  'pillow': '11.3.0',
  'protobuf': '5.29.6',
  'scipy': '1.16.3',
  'tensorflow-datasets': '4.9.10',
  'tqdm': '4.67.3',
}


@pytest.fixture
def pip(monkeypatch):
  """Stands in for pip: keeps the command, and the constraints it was given; exits with `returncode`."""
  calls = types.SimpleNamespace(commands=[], constraints=None, returncode=0)

  def run(command, **options):
    calls.commands.append(command)
    calls.constraints = pathlib.Path(command[command.index('--constraint') + 1]).read_text().splitlines()
    return subprocess.CompletedProcess(command, calls.returncode, '', 'ERROR: ResolutionImpossible')

  monkeypatch.setattr(runtime, 'installed_versions', lambda: COLAB)
  monkeypatch.setattr(subprocess, 'run', run)
  return calls


def test_on_colab_three_packages_are_installed_and_all_others_pinned(pip, capsys):
  runtime.install_missing(conftest.ROOT)
  (command,) = pip.commands
  assert command[:4] == [sys.executable, '-m', 'pip', 'install']
  assert [re.match(r'[\w-]+', argument)[0] for argument in command[7:]] == [
    'jaxtyping',
    'ml-collections',
    'tensorboardX',
  ]
  assert not {'--upgrade', '-U', '--force-reinstall'} & set(command)
  assert pip.constraints == [f'{name}=={version}' for name, version in COLAB.items()]
  assert capsys.readouterr().out == 'Installed: jaxtyping, ml-collections, tensorboardX\n'


def test_what_does_not_fit_is_named_and_left(pip, monkeypatch, capsys):
  monkeypatch.setattr(
    runtime,
    'installed_versions',
    lambda: COLAB | {'flax': '0.8', 'jaxtyping': '0.3.3', 'ml-collections': '1.1', 'tensorboardx': '2.6.2'},
  )
  runtime.install_missing(conftest.ROOT)
  assert pip.commands == []
  assert 'note: flax is 0.8 here, and the code is tested with <0.13,>=0.11.2; it is left as it is' in (
    capsys.readouterr().out
  )


def test_a_failing_pip_is_a_sentence(pip):
  pip.returncode = 1
  with pytest.raises(SystemExit, match=r'pip could not install jaxtyping.*, tensorboardX.* beside what is there'):
    runtime.install_missing(conftest.ROOT)
