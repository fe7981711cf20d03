"""Writes the chapter about activations: python -m measurements.activations [--json=FILE] [--out=FILE].

What it says was measured is read from the results.json of an activation study, by default the committed one; its
pictures go to the folder figures/ beside the chapter, docs/activations.md by default.
"""

import argparse
import pathlib

from digits import errors
from digits.commands import cli
from digits.report import activation_study, figures
from digits.runtime import files, sealed_json

_HEAD = """<!-- Written by measurements/activations.py from results/activations.json; a test compares the two. -->
# What an activation is
"""


def make_chapter(sections):
  """The text of the chapter, and its panels, of what `activation_study.explain` returns."""
  parts, panels = [_HEAD], []
  for number, section in enumerate(sections):
    parts += [f'## {section.heading}\n'] if number else []
    parts += [f'{paragraph}\n' for paragraph in section.text]
    for figure in section.figures:
      panels += figure.panels
      parts.append('\n'.join(f'![{panel.alt}](figures/{panel.name}.svg)' for panel in figure.panels) + '\n')
      parts.append(f'*{figure.caption}*\n')
  return '\n'.join(parts), panels


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--json', type=pathlib.Path, default='results/activations.json', metavar='FILE')
  parser.add_argument('--out', type=pathlib.Path, default='docs/activations.md', metavar='FILE')
  args = parser.parse_args()
  results = sealed_json.read(args.json)
  if results is None:
    raise errors.UsageError(f'There is no file {args.json}: name the results.json of an activation study.')
  text, panels = make_chapter(activation_study.explain(results['recipes']))
  directory = args.out.parent / 'figures'
  directory.mkdir(parents=True, exist_ok=True)
  with figures.style():
    for panel in panels:
      with files.replace_atomically(directory / f'{panel.name}.svg') as file:
        panel.figure.savefig(file, format='svg', metadata={'Date': None})
  with files.replace_atomically(args.out) as file:
    file.write(text.encode())


if __name__ == '__main__':
  cli.run(main)
