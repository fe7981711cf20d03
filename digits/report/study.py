"""The page about a study: claims that experiments test, each with its verdict, its numbers and its figures."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import NamedTuple

from digits.report import findings, rendering
from digits.report.figures import Figure
from digits.runtime import files


class Claim(NamedTuple):
  """A statement that an experiment tested.

  Attributes:
    claim: the statement, as a sentence.
    verdict: one of `findings.VERDICTS`.
    sentence: the numbers behind the verdict, in a sentence or more.
  """

  claim: str
  verdict: str
  sentence: str


class Section(NamedTuple):
  """A part of the page.

  Attributes:
    heading: its heading.
    text: paragraphs of plain text; a `markupsafe.Markup` is taken as HTML.
    claims: the claims that it reports on.
    figures: its figures, whose panels have names that are unique on the page.
  """

  heading: str
  text: Sequence[str] = ()
  claims: Sequence[Claim] = ()
  figures: Sequence[Figure] = ()


class Study(NamedTuple):
  """What the page says. Its panels are made within `figures.style()`.

  Attributes:
    title: the page's heading.
    lead: what was studied and how, in a few sentences.
    sections: in the order of the page.
    links: related pages as relative addresses, by what they are called.
  """

  title: str
  lead: str
  sections: Sequence[Section]
  links: Mapping[str, str] = {}


def write_study(study: Study, directory: str | pathlib.Path) -> pathlib.Path:
  """Writes report.html and figures/, which holds every panel as PNG and SVG, and returns the path of report.html.

  Args:
    study: what to write.
    directory: where to, made if need be.

  Raises:
    DigitsError: the files cannot be written.
  """
  directory = pathlib.Path(directory)
  sections, num_claims = [], 0
  with files.describe_os_errors(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for section in study.sections:
      anchors = [f'claim-{num_claims + i}' for i in range(1, len(section.claims) + 1)]
      num_claims += len(anchors)
      drawn = rendering.draw(section.figures, directory / 'figures')
      sections.append({**section._asdict(), 'figures': drawn, 'anchors': anchors})
    return rendering.write_page(
      directory / 'report.html',
      'study.html',
      title=study.title,
      lead=study.lead,
      links=study.links,
      sections=sections,
      verdicts=findings.verdicts([claim.verdict for section in study.sections for claim in section.claims]),
    )
