"""The layout: imports go down from room to room, no code outside digits/models names a model, and the wheel holds all.

What is checked is also planted, in a small package beside, and must be found.
"""

import ast
import os
import pathlib
import tomllib

import conftest
import jaxtyping
import numpy as np
import pytest

from digits import models
from digits.models import layers

# From low to high: a room imports only those before it. digits/__init__ and digits/__main__ are above all of them.
ROOMS = (
  *('errors', 'schema', 'registry', 'models', 'statistics', 'config', 'runtime', 'store', 'data', 'train'),
  *('handwriting', 'explain', 'export', 'report', 'experiments', 'commands'),
)
# What the other rooms may ask of models.
OPEN_MODELS = (
  'digits.models',
  *(f'digits.models.{name}' for name in ('activations', 'ensemble', 'layers', 'registry')),
)


def modules_of(root):
  """The Python files of a package's folder by their module's name."""
  found = {}
  for path in sorted(root.rglob('*.py*')):
    if path.suffix in ('.py', '.pyi'):
      parts = path.relative_to(root.parent).with_suffix('').parts
      found.setdefault('.'.join(parts[:-1] if parts[-1] == '__init__' else parts), []).append(path)
  return found


def imports_of(name, path, modules):
  """The modules of the package that a file imports, at its top or inside of functions."""
  package = name if path.stem == '__init__' else name.rpartition('.')[0]
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = package.split('.')[: len(package.split('.')) + 1 - node.level] if node.level else []
      origin = '.'.join([*base, *([node.module] if node.module else [])])
      inner = {f'{origin}.{alias.name}' for alias in node.names}
      found |= {each if each in modules else origin for each in inner}
    elif isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'import_module':
      found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
  return found & modules.keys()


def room_of(name):
  """How high a module's room is."""
  parts = name.split('.')
  return ROOMS.index(parts[1]) if len(parts) > 1 and parts[1] != '__main__' else len(ROOMS)


def wrong_imports(root):
  """Imports from a lower room to a higher one, as text, and one circle, if there is one."""
  modules = modules_of(root)
  arrows = {name: set().union(*(imports_of(name, path, modules) for path in modules[name])) for name in modules}
  wrong = [f'{name} -> {to}' for name in arrows for to in sorted(arrows[name]) if room_of(to) > room_of(name)]
  # What imports only what is out of every circle is itself out: in the end the circles are left.
  left = dict(arrows)
  while free := [name for name in left if not left[name] & left.keys() - {name}]:
    for name in free:
      del left[name]
  return wrong + ([f'in circles: {", ".join(sorted(left))}'] if left else [])


def folders_without_init(root):
  """Folders that hold Python files and are not a package."""
  folders = {path.parent for path in root.rglob('*.py')}
  return [str(folder.relative_to(root)) for folder in sorted(folders) if not (folder / '__init__.py').exists()]


def model_names():
  """What code outside of digits/models must not say: names of models, their classes and their layers."""
  registered = {name: module for name, module in models.MODELS.items() if module.__module__.startswith('digits.')}
  own = registered.values()
  named = {layer.name for module in own for layer in layers.layers_of(module()) or [] if hasattr(layer, 'name')}
  # All models return logits, and an exported graph says so.
  return set(registered) | {module.__name__ for module in own} | named - {'logits'}


def named_models(path, names):
  """Where a file names a model: in a string that is nothing but such a name, or as a class or module."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    words = {
      ast.Constant: lambda node: [node.value],
      ast.Name: lambda node: [node.id] if node.id != node.id.lower() else [],
      ast.Attribute: lambda node: [node.attr] if node.attr != node.attr.lower() else [],
      ast.ImportFrom: lambda node: [alias.name for alias in node.names],
    }.get(type(node), lambda node: [])(node)
    found += [f'{path.name}:{node.lineno}: {word}' for word in words if isinstance(word, str) and word in names]
  return found


def write(root, files):
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return root


def test_imports_go_downwards():
  assert wrong_imports(conftest.ROOT / 'digits') == []
  assert folders_without_init(conftest.ROOT / 'digits') == []


def test_every_module_is_in_a_room():
  entries = {path.stem for path in (conftest.ROOT / 'digits').iterdir() if path.suffix == '.py' or path.is_dir()}
  assert entries - {'__init__', '__main__', '__pycache__'} == set(ROOMS)


@pytest.mark.parametrize(
  ('files', 'found'),
  [
    ({'store/a.py': 'from digits.train import loop', 'train/loop.py': ''}, ['digits.store.a -> digits.train.loop']),
    ({'config.py': 'def f():\n  import digits.data', 'data/__init__.py': ''}, ['digits.config -> digits.data']),
    ({'errors.py': 'from . import schema', 'schema.py': ''}, ['digits.errors -> digits.schema']),
    ({'store/a.py': "importlib.import_module('digits.train')"}, ['digits.store.a -> digits.train']),
    ({'store/a.py': 'from digits import run'}, ['digits.store.a -> digits']),
    (
      {'train/a.py': 'from digits.train import b', 'train/b.py': 'def f():\n  from .a import g', 'train/c.py': ''},
      ['in circles: digits.train.a, digits.train.b'],
    ),
    ({'train/a.py': 'from digits.store import b\nimport jax', 'store/b.py': 'from digits import errors'}, []),
  ],
)
def test_a_wrong_import_is_found(tmp_path, files, found):
  empty = dict.fromkeys(('__init__.py', 'errors.py', 'store/__init__.py', 'train/__init__.py', 'data/__init__.py'), '')
  assert wrong_imports(write(tmp_path / 'digits', empty | files)) == found


def test_a_folder_that_is_no_package_is_found(tmp_path):
  assert folders_without_init(write(tmp_path / 'digits', {'__init__.py': '', 'train/loop.py': ''})) == ['train']


def test_no_code_outside_models_names_a_model():
  root, names = conftest.ROOT / 'digits', model_names()
  assert {'softmax', 'mlp', 'cnn', 'SoftmaxRegression', 'MLP', 'CNN', 'conv1', 'hidden'} <= names
  paths = [path for path in sorted(root.rglob('*.py')) if path.parent != root / 'models']
  assert [line for path in paths for line in named_models(path, names)] == []


def test_other_rooms_know_only_what_every_model_has():
  modules = modules_of(conftest.ROOT / 'digits')
  inner = {name for name in modules if name.startswith('digits.models.')} - set(OPEN_MODELS)
  outer = [name for name in modules if name != 'digits' and not name.startswith('digits.models')]
  assert [
    (name, sorted(found))
    for name in outer
    for path in modules[name]
    if (found := imports_of(name, path, modules) & inner)
  ] == []


@pytest.mark.parametrize(
  ('text', 'found'),
  [
    ("if name == 'cnn': pass", ['a.py:1: cnn']),
    ("x = {'mlp': 3}\nparams['conv1']", ['a.py:1: mlp', 'a.py:2: conv1']),
    ('from digits.models import CNN\nisinstance(x, models.MLP)', ['a.py:1: CNN', 'a.py:2: MLP']),
    ('"""As the cnn does."""\ny = nn.softmax(x)  # softmax\nhelp = "--config=cnn"\nhidden = 3', []),
  ],
)
def test_a_named_model_is_found(tmp_path, text, found):
  (tmp_path / 'a.py').write_text(text)
  assert sorted(named_models(tmp_path / 'a.py', model_names())) == found


def test_the_public_functions_are_annotated():
  bare = []
  for path in sorted((conftest.ROOT / 'digits').rglob('*.py')):
    tree = ast.parse(path.read_text())
    scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith('_'))]
    for function in (node for scope in scopes for node in scope.body if isinstance(node, ast.FunctionDef)):
      arguments = function.args
      given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
      typed = all(argument is None or argument.annotation or argument.arg in ('self', 'cls') for argument in given)
      private = function.name.startswith('_') and function.name != '__call__'
      if not private and function.name != 'parse_known_args' and not (typed and function.returns):  # As in argparse.
        bare.append(f'{path.relative_to(conftest.ROOT)}:{function.lineno} {function.name}')
  assert bare == []


def test_the_wheel_holds_every_file_of_the_package():
  tools = tomllib.loads((conftest.ROOT / 'pyproject.toml').read_text())['tool']['setuptools']
  root = conftest.ROOT / 'digits'
  folders = {path.parent for path in root.rglob('*.py')} | {root / 'configs'}
  assert sorted(tools['packages']) == sorted('.'.join(path.relative_to(root.parent).parts) for path in folders)
  assert tools['package-dir'] == {'digits.configs': 'configs'}
  others = [path for path in root.rglob('*') if path.is_file() and path.suffix not in ('.py', '.pyc')]
  assert {'py.typed', '__init__.pyi', 'base.html', 'checksums.tsv'} <= {path.name for path in others}
  for path in others:
    packages = [folder for folder in path.parents if folder in folders]
    name = '.'.join(packages[0].relative_to(root.parent).parts)
    patterns = tools['package-data'].get(name, []) + tools['package-data']['*']
    assert any(path in packages[0].glob(pattern) for pattern in patterns), path


def test_what_runs_needs_is_what_the_package_requires():
  project = tomllib.loads((conftest.ROOT / 'pyproject.toml').read_text())['project']
  assert requirements('requirements.txt') == project['dependencies']
  testing = requirements('tests/requirements.txt')
  assert testing[0] == '-r ../requirements.txt'
  assert set(project['optional-dependencies']['export']) <= set(testing)


def requirements(name: str) -> list[str]:
  lines = pathlib.Path(conftest.ROOT, name).read_text().splitlines()
  return [line for line in lines if line and not line.startswith('#')]


@pytest.mark.skipif(os.environ.get('CHECK_TYPES') == '0', reason='CHECK_TYPES=0')
def test_annotations_are_checked_at_run_time():
  from digits.train import step

  with pytest.raises(jaxtyping.TypeCheckError):
    step.normalize(np.zeros((2, 28, 28, 1), np.float32))  # Not uint8.
