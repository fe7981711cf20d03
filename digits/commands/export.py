"""Writes a trained model as a file, with a model card beside it: OUTPUT.md.

Example: digits export --workdir=runs/cnn --format=onnx --output=cnn.onnx

safetensors, stablehlo and onnx are checked before they are written: their logits on the whole test split against JAX's.
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import sys
from typing import TYPE_CHECKING

from digits import errors
from digits.commands import cli

if TYPE_CHECKING:
  from digits.train.runs import Run

_FORMATS = ('safetensors', 'stablehlo', 'onnx', 'html')
# Rounding stays below this. Logits are around 10, and the sums have up to 800 terms.
_LARGEST_DIFFERENCE = 1e-3


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments."""
  parser = cli.make_parser('export', __doc__, workdir='directory of a run; for html also of a comparison')
  parser.add_argument('--format', required=True, choices=_FORMATS, help='html is a page to draw on')
  parser.add_argument('--output', required=True, metavar='FILE', type=pathlib.Path, help='the file to write')
  args = parser.parse_args(argv)
  if args.output.is_dir() or not args.output.parent.is_dir():
    raise errors.UsageError(f'--output={args.output} is not a file in a directory that exists.')
  return args


def run(args: argparse.Namespace) -> None:
  """Writes the file and its card, and says where they are."""
  from digits.export import model_card
  from digits.runtime import files
  from digits.train import runs

  paths = runs.find_runs(args.workdir)
  if args.format == 'html':
    exported, content = _make_page(args.workdir)
    difference = None
  elif len(paths) > 1:
    raise errors.UsageError(
      f'{args.workdir} holds several models: name one, as in --workdir={paths[runs.best_of(paths)]}.'
    )
  else:
    exported = {name: runs.load_run(path) for name, path in paths.items()}
    content, difference = _export_and_check(args.format, *exported.values())
  card = model_card.make_card(
    list(exported.values()),
    kind=args.format,
    file=args.output.name,
    content=content,
    difference=difference,
  )
  card_path = args.output.with_name(args.output.name + '.md')
  for path, text in ((args.output, content), (card_path, card.encode())):
    with files.replace_atomically(path) as file:
      file.write(text)
  if args.json:
    print(
      json.dumps({'output': str(args.output), 'card': str(card_path), 'bytes': len(content), 'difference': difference})
    )
  else:
    checked = '' if difference is None else f'; logits within {difference:.1e} of JAX on the test split'
    print(f'{args.output}: {len(content):,} bytes{checked}. Its card: {card_path}')


def _make_page(workdir: str) -> 'tuple[dict[str, Run], bytes]':
  """The page to draw on, and the runs that answer there; a model that does not describe its layers is left out."""
  from digits.export import drawing_page
  from digits.handwriting import predict
  from digits.models import layers, registry

  loaded = predict.load_calibrated(workdir)
  # If there is none, the page refuses them.
  drawable = {name: one for name, one in loaded.items() if layers.layers_of(one[0].model) is not None} or loaded
  for name in loaded.keys() - drawable.keys():
    print(f'{name} does not describe its layers, so it is left out.', file=sys.stderr)
  answerers = {}
  for name, (run, temperature) in drawable.items():
    answerers[name] = drawing_page.Answerer(
      run.model,
      run.params,
      title=registry.about(run.config.model).title,
      temperature=temperature,
      accuracy=run.results['test']['accuracy'] if run.results else None,
    )
  return {name: run for name, (run, _) in drawable.items()}, drawing_page.to_html(answerers)


def _export_and_check(kind: str, run: 'Run') -> tuple[bytes, float]:
  """The file, and the largest difference of a logit from JAX on the test split."""
  import numpy as np

  from digits import data
  from digits.export import formats

  write, execute = formats.FORMATS[kind]
  content = write(run)
  images = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation).test.image
  difference = float(np.abs(execute(content, run, images) - formats.reference_logits(run, images)).max())
  if not difference <= _LARGEST_DIFFERENCE:
    raise errors.DigitsError(
      f'The exported model differs from JAX by {difference:.1e} in a logit, so it was not written: check what the '
      'model says of its layers, or try another version of the packages of "digits-jax[export]".'
    )
  return content, difference
