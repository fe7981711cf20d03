"""The errors that a user can cause, each with its exit code."""


class DigitsError(Exception):
  """Something failed for a reason outside the code; the message is one sentence that says what, and how to fix it."""

  exit_code = 1


class DamagedError(DigitsError):
  """A file does not hold what was written to it."""


class StoppedError(DigitsError):
  """The run stopped on Ctrl-C or SIGTERM, after it had saved its work."""


class UsageError(DigitsError):
  """The user gave a flag, a config field or a path that cannot be used."""

  exit_code = 2


def first_line(error: BaseException) -> str:
  """The first line of another library's error, without its full stop, to go into a sentence of ours."""
  return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')[:200]
