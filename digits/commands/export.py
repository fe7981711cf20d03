"""Writes a trained model as a file: python -m digits.commands.export --workdir=runs/cnn --format=onnx --output=cnn.onnx.

A model card is written beside it, as OUTPUT.md, after the file was checked: its logits on the whole test split against
JAX's.
"""

import json
import pathlib

from digits import errors
from digits.commands import cli

_FORMATS = ('safetensors', 'stablehlo', 'onnx', 'html')
# What rounding cannot explain. Logits are of the order of 10, and the sums have up to 800 terms.
_LARGEST_DIFFERENCE = 1e-3


def main():
  """Runs the command."""
  parser = cli.ArgumentParser(prog='python -m digits.commands.export', description=__doc__)
  parser.add_argument('--workdir', required=True, help='of a run; for html, of a comparison too: all its models answer')
  parser.add_argument('--format', required=True, choices=_FORMATS, help='html is a page to draw on')
  parser.add_argument('--output', required=True, type=pathlib.Path, help='the file to write')
  parser.add_argument('--json', action='store_true', help='print one JSON document')
  args = parser.parse_args()
  if args.output.is_dir() or not args.output.parent.is_dir():
    raise errors.UsageError(f'--output={args.output} is not a file in a directory that exists.')

  from digits.export import drawing_page
  from digits.export import model_card
  from digits.handwriting import predict
  from digits.runtime import devices
  from digits.runtime import files  # Imported here, so that --help and a wrong flag answer at once.
  from digits.store import results as results_lib
  from digits.train import runs as runs_lib

  paths = runs_lib.find_runs(args.workdir)
  if len(paths) > 1 and args.format != 'html':
    raise errors.UsageError(f'{args.workdir} holds several models: name one, as in --workdir={paths[-1]}.')
  runs = [runs_lib.load_run(path) for path in paths]
  results = [results_lib.read_results(path) for path in paths]
  devices.check_devices()
  if args.format == 'html':
    accuracies = [result and result['test']['accuracy'] for result in results]
    names = [run.config.model for run in runs]
    content = drawing_page.to_html(predict.load_calibrated(args.workdir), dict(zip(names, accuracies, strict=True)))
    difference = None
  else:
    content, difference = _export_and_check(args.format, runs[0])
  card = model_card.make_card(
    runs,
    kind=args.format,
    file=args.output.name,
    content=content,
    results=results,
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


def _export_and_check(kind, run):
  """The file's bytes, and the largest difference of a logit from JAX on the test split."""
  import numpy as np

  from digits import data
  from digits.export import formats

  write, execute = formats.FORMATS[kind]
  content = write(run)
  images = data.load_dataset(run.config.dataset, run.config.data_dir, run.config.num_validation).test.image
  difference = float(np.abs(execute(content, run, images) - formats.reference_logits(run, images)).max())
  if not difference <= _LARGEST_DIFFERENCE:
    raise errors.DigitsError(
      f'The exported model differs from JAX by {difference:.1e} in a logit, so it was not written: '
      'try another version of the packages of "digits-jax[export]".'
    )
  return content, difference


if __name__ == '__main__':
  cli.run(main)
