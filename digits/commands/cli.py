"""The edge of every command: arguments in, one sentence and an exit code out.

A command is a module of this package with two functions: `parse(argv)`, which imports nothing heavy, and `run(args)`.
"""

import argparse
from collections.abc import Callable, Sequence
import importlib
import itertools
import logging
import os
import pathlib
import signal
import sys
from typing import NoReturn

from digits import errors
from digits.runtime import signals

COMMANDS = {
  'train': 'run the experiment of a config file: train, compare or search',
  'evaluate': 'measure a trained model on a split of its dataset',
  'predict': 'say which digit each image shows',
  'read': 'read fields of several digits, such as ZIP codes',
  'report': 'list the results in a folder on one page, and write the page of an experiment again',
  'export': 'write a trained model as safetensors, StableHLO, ONNX or a page to draw on',
}


class ArgumentParser(argparse.ArgumentParser):
  """An `argparse.ArgumentParser` whose errors are one sentence, and which refuses an option that is given twice."""

  def parse_known_args(  # type: ignore[override]  # Without argparse's overloads.
    self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
  ) -> tuple[argparse.Namespace, list[str]]:
    """See argparse."""
    options = itertools.takewhile(lambda word: word != '--', args or ())
    names = [word.partition('=')[0] for word in options if word.startswith('--')]
    repeated = next((name for name in names if names.count(name) > 1 and name != '--import'), None)
    if repeated:
      raise errors.UsageError(f'{repeated} is given more than once: give it once.')
    return super().parse_known_args(args, namespace)

  def error(self, message: str) -> NoReturn:
    """Raises the error in place of printing the usage and exiting."""
    raise errors.UsageError(f'{message[:1].upper()}{message[1:]}; see --help.')


def make_parser(command: str, description: str | None, *, workdir: str, required: bool = True) -> ArgumentParser:
  """Makes a command's parser, with the arguments that all commands share.

  Args:
    command: its name.
    description: what `--help` says first.
    workdir: the help text of `--workdir`.
    required: whether `--workdir` must be given.
  """
  parser = ArgumentParser(
    prog=f'digits {command}',
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--workdir', required=required, metavar='DIR', help=workdir)
  parser.add_argument(
    '--import',
    action='append',
    default=[],
    metavar='MODULE',
    dest='imports',
    help='import this module first, which registers models of your own: a name, or a path to a .py file; repeatable',
  )
  parser.add_argument('--json', action='store_true', help='print one JSON document instead of text')
  return parser


def add_images(parser: argparse.ArgumentParser) -> None:
  """Adds the positional argument for image files."""
  parser.add_argument(
    'images',
    nargs='+',
    type=_image_name,
    metavar='IMAGE',
    help='PNG, JPEG, WebP, BMP, TIFF or GIF; - is standard input',
  )


def _image_name(name: str) -> str:
  if not name:
    raise errors.UsageError("'' is not the name of an image: give one, or - for standard input.")
  return name


def main(argv: Sequence[str] | None = None) -> None:
  """Runs a command, then exits with 0 if it succeeded, 1 if it failed, and 2 if it was called incorrectly.

  Args:
    argv: the command and its arguments; None takes them from the process.
  """
  run(lambda: _dispatch(sys.argv[1:] if argv is None else argv))


def _dispatch(argv: Sequence[str]) -> None:
  name = argv[0] if argv else '--help'
  if name in ('-h', '--help'):
    print(
      'usage: digits COMMAND ...\n\nTrains, compares and uses models that recognize handwritten digits.\n\ncommands:'
    )
    print('\n'.join(f'  {command:10}{text}' for command, text in COMMANDS.items()))
    print('\ndigits COMMAND --help lists the options of a command.')
    return
  if name not in COMMANDS:
    raise errors.UsageError(f'{name!r} is not a command: give one of {", ".join(COMMANDS)}.')
  command = importlib.import_module(f'digits.commands.{name}')
  args = command.parse(argv[1:])
  if hasattr(sys.stdout, 'reconfigure'):
    sys.stdout.reconfigure(errors='backslashreplace')  # A file's name may hold bytes that no encoding has.
  for source in args.imports:
    _import(source)
  if name != 'train':  # It may have to join other processes before JAX starts.
    from digits.runtime import devices

    devices.check_devices()
  command.run(args)


def _import(source: str) -> None:
  """Imports a user's module by its name, also from the current folder, or by the path of its file."""
  path = pathlib.Path(source).absolute()
  is_file = path.suffix == '.py'
  if is_file and not path.is_file():
    raise errors.UsageError(f'There is no file {source}: correct --import.')
  sys.path.insert(0, str(path.parent if is_file else pathlib.Path.cwd()))
  try:
    module = importlib.import_module(path.stem if is_file else source)
  except errors.DigitsError:
    raise
  except Exception as error:  # Whatever the Python of a module raises.
    if isinstance(error, ModuleNotFoundError) and error.name == source:
      raise errors.UsageError(
        f'There is no module {source}, neither installed nor in this folder: correct --import.'
      ) from error
    raise errors.UsageError(
      f'--import={source} does not load: {type(error).__name__}: {errors.first_line(error)}.'
    ) from error
  if is_file and pathlib.Path(module.__file__ or '').absolute() != path:
    raise errors.UsageError(f'Another module is called {path.stem} already: rename {source}.')


def run(function: Callable[[], None]) -> None:
  """Calls a function; if it fails in a way that a user can cause, prints one sentence and exits."""
  logger = logging.getLogger('digits')
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter('%(message)s'))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
  # The libraries log what they also raise, with pages of traceback.
  logging.getLogger('absl').setLevel(logging.CRITICAL)

  def interrupt(number: int, frame: object) -> None:
    del frame
    signals.came.append(number)
    raise KeyboardInterrupt

  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, interrupt)
  try:
    function()
    sys.stdout.flush()
  except BrokenPipeError:
    # Whoever read the output, such as `head`, has had enough. What is still in the buffer must not fail once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  except (Exception, KeyboardInterrupt) as error:
    # A library may have turned a signal that came into an error of its own.
    said = _describe(KeyboardInterrupt() if signals.came and not isinstance(error, errors.StoppedError) else error)
    if said is None:
      raise
    _fail(*said)


def _describe(error: BaseException) -> tuple[str, int] | None:
  """The message and the exit code for the error that ended a command; None if the error is a bug."""
  if isinstance(error, errors.DigitsError):
    return str(error), error.exit_code
  if isinstance(error, KeyboardInterrupt):
    return 'Stopped; run the same command again to continue.', 1
  if isinstance(error, OSError):
    return f'{error.filename or "A file"} could not be read or written: {error.strerror or error}.', 1
  if _is_out_of_memory(error):
    return (
      f'Memory ran out ({errors.first_line(error)}): use less at once, as with a smaller --config.batch_size.',
      1,
    )
  return None


def _is_out_of_memory(error: BaseException) -> bool:
  """Whether Python, or XLA on whatever device, could not allocate; XLA has a code for that and no class."""
  return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' in str(error))


def _fail(message: str, exit_code: int) -> NoReturn:
  print(f'error: {message}', file=sys.stderr, flush=True)
  # An orderly exit would wait for other processes, of which one may be gone; and it crashes while XLA compiles.
  if 'jax' in sys.modules and (signals.came or sys.modules['jax'].distributed.is_initialized()):
    sys.stdout.flush()
    os._exit(exit_code)
  sys.exit(exit_code)
