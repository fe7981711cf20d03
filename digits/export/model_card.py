"""The page of text beside an exported model: what it is, what it scores, and how to load it without this project."""

import hashlib
import json

import jax

from digits.store import results as results_lib

_INTRODUCTIONS = {
  'softmax': 'softmax regression: one linear layer from 784 pixels to 10 logits',
  'mlp': 'a multi-layer perceptron with one hidden layer',
  'cnn': 'a convolutional network: convolutions, each with a 2x2 max-pool, then one hidden layer',
}

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

params = load_file('{file}')
images = np.zeros((2, 28, 28, 1), np.uint8)  # Any number of them.
x = images.astype(np.float32) / 255
{forward}
print(logits.shape, np.argmax(logits, axis=1))
""",
}

_ACTIVATIONS = {
  'relu': 'np.maximum(x, 0)',
  'sigmoid': '1 / (1 + np.exp(-x))',
  'tanh': 'np.tanh(x)',
  'elu': 'np.where(x > 0, x, np.expm1(np.minimum(x, 0)))',
}

_CONVOLUTIONS = """\
for i in range(1, {count}):
  kernel = params[f'conv{{i}}.kernel']  # Height, width, channels in, channels out.
  pad = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
  windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), *pad, (0, 0))), kernel.shape[:2], (1, 2))
  x = np.einsum('nyxchw,hwco->nyxo', windows, kernel, optimize=True) + params[f'conv{{i}}.bias']
  n, h, w, c = x.shape
  x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
  x = {activation}"""


def _numpy_forward(config):
  """The forward pass in NumPy, for a reader who has only the parameters."""
  lines = []
  architecture = config.architecture
  if config.model == 'cnn':
    activation = _ACTIVATIONS[architecture['conv_activation']]
    lines.append(_CONVOLUTIONS.format(count=len(architecture['features']) + 1, activation=activation))
  lines.append('x = x.reshape(len(x), -1)')
  if config.model != 'softmax':
    activation = architecture['hidden_activation' if config.model == 'cnn' else 'activation']
    lines.append("x = x @ params['hidden.kernel'].T + params['hidden.bias']")
    lines.append(f'x = {_ACTIVATIONS[activation]}')
  lines.append("logits = x @ params['logits.kernel'].T + params['logits.bias']")
  return '\n'.join(lines)


def load_snippet(kind, config, file):
  """Python that loads an exported file and runs it, without this project.

  Args:
    kind: `safetensors`, `stablehlo` or `onnx`.
    config: the run's `TrainConfig`.
    file: the file's name.
  """
  return _SNIPPETS[kind].format(file=file, forward=_numpy_forward(config))


def make_card(runs, *, kind, file, content, results, difference):
  """Writes the model card of an exported file, in Markdown.

  Args:
    runs: the `Run`s in the file.
    kind: its format.
    file: its name.
    content: bytes of it.
    results: of each run the content of its results.json, or None where it is not finished.
    difference: the largest difference of a logit from JAX on the test split; None where it was not measured.
  """
  lines = [f'# {file}', '']
  for run, scores in zip(runs, results, strict=True):
    lines += _describe(run, scores)
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
  if kind in _SNIPPETS:
    lines += ['## Load it without this project', '', '```python', load_snippet(kind, config, file).rstrip(), '```', '']
  lines += ['## File', '', f'- format: {kind}, {len(content):,} bytes']
  if difference is not None:
    lines.append(f'- largest difference of a logit from JAX, over the whole test split: {difference:.1e}')
  lines.append(f'- SHA-256: `{hashlib.sha256(content).hexdigest()}`')
  versions = ', '.join(f'{name} {version}' for name, version in results_lib.versions().items())
  return '\n'.join([*lines, f'- written with: {versions}', ''])


def _describe(run, results):
  num_parameters = sum(leaf.size for leaf in jax.tree.leaves(run.params))
  lines = [
    f'## {run.config.model}',
    '',
    f'This is {_INTRODUCTIONS[run.config.model]}. It has {num_parameters:,} parameters, and these fields: '
    f'`{json.dumps(dict(run.config.architecture))}`. The parameters are those after update {run.step:,} of '
    f'{run.config.epochs} epochs with seed {run.config.seed}.',
    '',
  ]
  if results is None:
    return [*lines, 'The run is not finished: nothing was measured on the test split.', '']
  lines += ['| split | accuracy | loss (nats) | images |', '|---|---|---|---|']
  for split in ('valid', 'test'):
    if scores := results.get(split):
      lines.append(f'| {split} | {scores["accuracy"]:.2%} | {scores["loss"]:.4f} | {scores["examples"]:,} |')
  trained_with = ', '.join(f'{name} {version}' for name, version in results['versions'].items())
  return [*lines, '', f'Trained on {results["device"]} with {trained_with}.', '']
