"""The errors that a user can cause, each with the exit code it ends in."""


class DigitsError(Exception):
  """Something failed for a reason outside the code; the message is one sentence that says what, and how to fix it."""

  exit_code = 1


class DamagedError(DigitsError):
  """A file does not hold what was written to it."""


class StoppedError(DigitsError):
  """Ctrl-C or SIGTERM came, and what was to be saved is saved."""


class UsageError(DigitsError):
  """The program was called wrongly: a flag, a config field or a path that cannot be meant."""

  exit_code = 2


def first_line(error: BaseException) -> str:
  """The first line of another library's error, without its full stop, to go into a sentence of ours."""
  return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')[:200]
