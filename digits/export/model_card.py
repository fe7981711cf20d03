"""The page of text beside an exported model: what it is, what it scores, and how to load it without this project."""

from collections.abc import Sequence
import hashlib
import json

from flax import linen as nn
import jax

from digits.models import layers as layers_lib
from digits.models import registry
from digits.models.activations import ACTIVATIONS
from digits.store import results as results_lib
from digits.train.runs import Run

_PREPARATION = (
  "Images are uint8[N, 28, 28, 1], ink 255 on paper 0, prepared as MNIST's were: the bounding box of the ink padded to "
  'a square of side max(height, width, 10), resampled by area to 20x20, scaled to a peak of 255, and put into 28x28 by '
  'whole pixels so that the centre of mass is in the middle. The model divides by 255 itself. Logits are '
  'float32[N, 10]; their softmax is the probability of each digit.'
)

_SNIPPETS = {
  'stablehlo': """\
import numpy as np
from jax import export  # pip install jax flatbuffers

with open('{file}', 'rb') as file:
  model = export.deserialize(bytearray(file.read()))
images = np.zeros((2, 28, 28, 1), np.uint8)  # Any number of them.
logits = model.call(images)
print(logits.shape, np.argmax(logits, axis=1))
""",
  'onnx': """\
import numpy as np
import onnxruntime  # pip install onnxruntime

session = onnxruntime.InferenceSession('{file}')
images = np.zeros((2, 28, 28, 1), np.uint8)  # Any number of them.
(logits,) = session.run(['logits'], {{'image': images}})
print(logits.shape, np.argmax(logits, axis=1))
""",
  'safetensors': """\
import numpy as np
from safetensors.numpy import load_file  # pip install safetensors
{functions}
params = load_file('{file}')
images = np.zeros((2, 28, 28, 1), np.uint8)  # Any number of them.
x = images.astype(np.float32) / 255
{forward}
logits = x
print(logits.shape, np.argmax(logits, axis=1))
""",
}

# What the layers below call, each defined where it is needed.
_CONVOLVE = """

def convolve(x, kernel, bias):
  pad = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]  # Height, width, channels in, channels out.
  windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), *pad, (0, 0))), kernel.shape[:2], (1, 2))
  return np.einsum('nyxchw,hwco->nyxo', windows, kernel, optimize=True) + bias
"""
_MAX_POOL = """

def max_pool(x):
  n, h, w, c = x.shape
  return x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
"""


def _numpy_line(layer: layers_lib.Layer) -> str:
  """What a layer does to `x`, in NumPy."""
  if isinstance(layer, layers_lib.MaxPool):
    return 'x = max_pool(x)'
  if isinstance(layer, layers_lib.Nonlinearity):
    return f'x = {ACTIVATIONS[layer.activation].numpy}'
  kernel, bias = (f"params['{layer.name}.{leaf}']" for leaf in ('kernel', 'bias'))
  if isinstance(layer, layers_lib.Convolution):
    return f'x = convolve(x, {kernel}, {bias})'
  return f'x = x.reshape(len(x), -1) @ {kernel}.T + {bias}'


def load_snippet(kind: str, model: nn.Module, file: str) -> str | None:
  """Python that loads an exported file and runs it, without this project.

  Args:
    kind: the file's format.
    model: the model in it.
    file: the file's name.

  Returns:
    None for `html`, and for `safetensors` if the model says nothing of its layers.
  """
  layers = layers_lib.layers_of(model) or []
  if kind not in _SNIPPETS or (kind == 'safetensors' and not layers):
    return None
  functions = ((_CONVOLVE, layers_lib.Convolution), (_MAX_POOL, layers_lib.MaxPool))
  return _SNIPPETS[kind].format(
    file=file,
    functions=''.join(code for code, kind in functions if any(isinstance(layer, kind) for layer in layers)),
    forward='\n'.join(line for line in map(_numpy_line, layers) if line != 'x = x'),  # Of `identity`.
  )


def make_card(
  runs: Sequence[Run],
  *,
  kind: str,
  file: str,
  content: bytes,
  difference: float | None,
) -> str:
  """Writes the model card of an exported file, in Markdown.

  Args:
    runs: the runs in the file.
    kind: format of the file.
    file: name of the file.
    content: the file itself.
    difference: the largest difference of a logit from JAX on the test split; None if it was not measured.
  """
  lines = [f'# {file}', '']
  for run in runs:
    lines += _describe(run)
  config = runs[0].config
  kept = f', of which the last {config.num_validation:,} were kept for validation' if config.num_validation else ''
  lines += [
    '## Data and preparation',
    '',
    f'Trained on the training split of {config.dataset}{kept}. It knows single handwritten digits, 0 to 9, and answers '
    'with one of them whatever it is shown.',
    '',
    _PREPARATION,
    '',
  ]
  snippet = load_snippet(kind, runs[0].model, file)
  if snippet is not None:
    lines += ['## Load it without this project', '', '```python', snippet.rstrip(), '```', '']
  elif kind == 'safetensors':
    lines += [
      'The file holds the variables by their paths. The model does not describe its layers, so this card has no code '
      'that runs it: export it as StableHLO to run it without its own code.',
      '',
    ]
  lines += ['## File', '', f'- format: {kind}, {len(content):,} bytes']
  if difference is not None:
    lines.append(f'- largest difference of a logit from JAX, over the whole test split: {difference:.1e}')
  lines.append(f'- SHA-256: `{hashlib.sha256(content).hexdigest()}`')
  versions = ', '.join(f'{name} {version}' for name, version in results_lib.versions().items())
  return '\n'.join([*lines, f'- written with: {versions}', ''])


def _describe(run: Run) -> list[str]:
  num_parameters = sum(leaf.size for leaf in jax.tree.leaves(run.params))
  if run.members:
    what = (
      f'The mean of the probabilities of {len(run.members)} networks: {num_parameters:,} parameters in all. The '
      "logits are that mean's logarithms."
    )
  else:
    what = (
      f'{registry.about(run.config.model).title.capitalize()}: {num_parameters:,} parameters, with the architecture '
      f'`{json.dumps(dict(run.config.architecture))}`. The parameters are those after update {run.step:,} of '
      f'{run.config.epochs} epochs with seed {run.config.seed}.'
    )
  lines = [f'## {run.name}', '', what, '']
  results = run.results
  if results is None:
    return [*lines, 'The run is not finished: nothing was measured on the test split.', '']
  lines += ['| split | accuracy | loss (nats) | images |', '|---|---|---|---|']
  for split in ('valid', 'test'):
    if scores := results.get(split):
      lines.append(f'| {split} | {scores["accuracy"]:.2%} | {scores["loss"]:.4f} | {scores["examples"]:,} |')
  trained_with = ', '.join(f'{name} {version}' for name, version in results['versions'].items())
  return [*lines, '', f'Trained on {results["device"]} with {trained_with}.', '']
