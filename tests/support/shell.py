"""The commands that a page tells its readers to run, each held against what would parse it."""

import importlib
import json
import pathlib
import re
import shlex
import tomllib

ROOT = pathlib.Path(__file__).parents[2]
_PROGRAMS = ('python', 'python3', 'pip', 'digits', 'tensorboard', 'srun', 'mpirun', 'gcloud')


def commands_in(page):
  """The words of each command in a page's sh blocks, inline code and indented headers of configs."""
  blocks = re.findall(r'^```sh\n(.*?)^```', page, re.DOTALL | re.MULTILINE)
  lines = [line for block in blocks for line in block.splitlines() if line]
  lines += [text for text in re.findall(r'`([^`\n]+)`', page) if text.split()[0] in _PROGRAMS and ' ' in text]
  return [words for line in lines for words in _split(line)]


def _split(line):
  words = shlex.split(line)
  while '&&' in words:
    yield words[: words.index('&&')]
    words = words[words.index('&&') + 1 :]
  yield words


def check(words):
  """Fails unless a command would be taken, in the folder of the code: its program, its files, its flags, its fields."""
  program, *rest = words
  remote = [word.removeprefix('--command=') for word in rest if word.startswith('--command=')]
  if program in ('srun', 'mpirun'):
    check(words[words.index('python') :])
  elif program == 'gcloud':
    for inner in _split(remote[0]):
      check(inner)
  elif program == 'python' and rest[0] == 'launch.py':
    _check_digits(['train', *rest[1:]])
  elif program == 'digits' or words[:3] == ['python', '-m', 'digits']:
    _check_digits(rest if program == 'digits' else rest[2:])
  elif words[:2] == ['python', '-m'] and rest[1].startswith(('measurements', 'benchmarks')):
    source = pathlib.Path(ROOT, *rest[1].split('.')).with_suffix('.py').read_text()
    for flag in re.findall(r'--[\w-]+', ' '.join(rest)):
      assert repr(flag) in source, words
  elif words[:3] == ['python', '-m', 'pytest']:
    assert all(pathlib.Path(word).exists() for word in rest[2:] if word.endswith('.py')), words
  elif program == 'pip':
    _check_pip(rest)
  else:
    allowed = (
      ['python3', '-m', 'venv', '.venv'],
      ['.', '.venv/bin/activate'],
      ['cd', 'digits'],
      ['cd', 'page'],
      ['npm', 'ci'],
      *(['npm', 'run', script] for script in json.loads((ROOT / 'page' / 'package.json').read_text())['scripts']),
      ['tensorboard', '--logdir', 'runs'],
      ['ruff', 'check', '.'],
      ['ruff', 'format', '--check', '.'],
      ['mypy'],
    )
    assert words in allowed, words


def _check_digits(argv):
  from digits import config as config_lib
  from digits.commands import train

  if argv[0] == 'COMMAND':
    return
  args = importlib.import_module(f'digits.commands.{argv[0]}').parse(argv[1:])
  if argv[0] == 'train':
    config_lib.from_dict(train.read_config(args.config, args.overrides))


def _check_pip(rest):
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert rest[0] == 'install', rest
  for word in rest[1:]:
    extra = re.fullmatch(r'\.(?:\[(\w+)\])?', word)
    if extra:
      assert extra[1] is None or extra[1] in project['optional-dependencies'], rest
    else:
      assert word in ('-r', '-c', '-e', 'tensorboard', 'uv') or pathlib.Path(word).is_file(), rest
