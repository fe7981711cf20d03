"""The edge of every command: flags in, one sentence and an exit code out."""

import argparse
import logging
import os
import signal
import sys

from absl import flags

from digits import errors


class ArgumentParser(argparse.ArgumentParser):
  """An `argparse.ArgumentParser` whose errors are one sentence."""

  def error(self, message):
    """Raises the error in place of printing the usage and exiting."""
    raise errors.UsageError(f'{message[:1].upper()}{message[1:]}; see --help.')


def parse_flags(argv, *, required, example, flag_values=flags.FLAGS):
  """Parses absl flags, `--config.FIELD=VALUE` included.

  Args:
    argv: the program's arguments, its name first.
    required: a flag that must be given.
    example: how it is given, for the error.
    flag_values: where the flags are defined.

  Raises:
    UsageError: a flag is unknown, repeated, or of a wrong type; the config file cannot be loaded; or something that is
      not a flag was given.
  """
  names = [argument.lstrip('-').partition('=')[0] for argument in argv[1:] if argument.startswith('-')]
  repeated = next((name for name in names if names.count(name) > 1), None)
  if repeated:
    raise errors.UsageError(f'--{repeated} is given more than once: give it once.')
  if {'help', 'h', 'helpshort', 'helpfull'} & set(names):
    print(f'{sys.modules["__main__"].__doc__}\n{flag_values.main_module_help()}')
    sys.exit(0)
  try:
    stray = flag_values(argv)[1:]
    given = flag_values[required].value
    if given is not None:
      given.items()  # Where there is no such file, config_flags raises only now.
  except AttributeError as error:  # ml_collections: a field that the config file does not have.
    raise errors.UsageError(f'A --config.FIELD is not in the config: {_one_line(error)}.') from error
  except flags.Error as error:
    if str(error).startswith("Unknown command line flag 'config.") and required not in names:
      raise errors.UsageError(f'--{required} is missing: give it as {example}.') from error
    raise errors.UsageError(f'{_one_line(error)}; see --help.') from error
  except OSError as error:
    reason = str(error).strip().splitlines()[-1].strip()
    raise errors.UsageError(f'The config file cannot be read: {reason}.') from error
  except Exception as error:  # Whatever the Python of a config file raises.
    raise errors.UsageError(f'The config file does not load: {type(error).__name__}: {_one_line(error)}.') from error
  if stray:
    raise errors.UsageError(f'{stray[0]!r} is not a flag: options start with --, as in --config.epochs=1.')
  if given is None:
    raise errors.UsageError(f'--{required} is missing: give it as {example}.')


def _one_line(error):
  return ' '.join(str(error).replace('\\n', ' ').split()).strip('\'" .')


def run(main):
  """Runs a command and exits: 0 done, 1 failed, 2 called wrongly.

  Args:
    main: a function without arguments that raises `DigitsError` for what a user can mend.
  """
  logger = logging.getLogger('digits')
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter('%(message)s'))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
  # The libraries log what they also raise, with pages of traceback.
  logging.getLogger('absl').setLevel(logging.CRITICAL)
  came = []

  def interrupt(number, frame):
    del frame
    came.append(number)
    raise KeyboardInterrupt

  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, interrupt)
  try:
    main()
  except (Exception, KeyboardInterrupt) as error:
    # A library may have made an error of its own of a signal that came.
    said = _describe(KeyboardInterrupt() if came and not isinstance(error, errors.StoppedError) else error)
    if said is None:
      raise
    _fail(*said)


def _describe(error):
  """The sentence and the exit code of what ended a command; None for what should not happen."""
  if isinstance(error, errors.DigitsError):
    return error, error.exit_code
  if isinstance(error, KeyboardInterrupt):
    return 'Stopped; run the same command to go on.', 1
  if isinstance(error, OSError):
    return f'{error.filename or "A file"} could not be read or written: {error.strerror or error}.', 1
  if _is_out_of_memory(error):
    return f'Memory ran out ({errors.first_line(error)}): do less at once, as with a smaller --config.batch_size.', 1
  return None


def _is_out_of_memory(error):
  """Whether Python, or XLA on whatever device, could not allocate; XLA has a code for that and no class."""
  return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' in str(error))


def _fail(message, exit_code):
  print(f'error: {message}', file=sys.stderr, flush=True)
  if 'jax' in sys.modules and sys.modules['jax'].distributed.is_initialized():
    os._exit(exit_code)  # An orderly exit would wait for the other processes, of which one may be gone.
  sys.exit(exit_code)
