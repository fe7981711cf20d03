"""The page that lists what was found in a folder of results, with links to the pages of single experiments."""

from collections.abc import Sequence
import pathlib
from typing import Literal, NamedTuple

from digits.report import rendering
from digits.runtime import files


class Entry(NamedTuple):
  """An experiment in the list.

  Attributes:
    workdir: its directory, relative to that of the page.
    experiment: what kind it is; None where nothing says so.
    subject: what it is about, such as the names of its models.
    state: whether it went to its end, or its files cannot be read.
    headline: what came out, or why nothing is said about it.
    num_seeds: how many seeds every recipe has; None where nothing says so.
    seconds: seconds that its runs took together; None where nothing says so.
    report: address of its page, relative to this one; None if it has none.
  """

  workdir: str
  experiment: str | None
  subject: str
  state: Literal['finished', 'unfinished', 'damaged']
  headline: str
  num_seeds: int | None
  seconds: float | None
  report: str | None


def write_index(entries: Sequence[Entry], directory: str | pathlib.Path) -> pathlib.Path:
  """Writes index.html, with a table for each kind of experiment in the order of the entries, and returns its path.

  Raises:
    DigitsError: the file cannot be written.
  """
  directory = pathlib.Path(directory)
  kinds = dict.fromkeys(entry.experiment for entry in entries)
  with files.describe_os_errors(directory):
    return rendering.write_page(
      directory / 'index.html',
      'index.html',
      name=directory.resolve().name,
      entries=entries,
      groups={kind: [entry for entry in entries if entry.experiment == kind] for kind in kinds},
      say_seconds=say_seconds,
    )


def say_seconds(seconds: float | None) -> str:
  """`4.2 s`, `12 min`, `3.5 h`, or a dash."""
  if seconds is None:
    return '\u2013'
  for unit, length in (('h', 3600), ('min', 60)):
    if seconds >= 2 * length:
      return f'{seconds / length:.1f}\u00a0{unit}'
  return f'{seconds:.1f}\u00a0s'
