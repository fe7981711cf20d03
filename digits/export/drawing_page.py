"""A page to draw on: one HTML file with the models inside, which answers in the browser without a network."""

import base64
import json
import pathlib

import numpy as np

_TEMPLATE = pathlib.Path(__file__).with_name('drawing_page.html')
_TITLES = {'softmax': 'softmax regression', 'mlp': 'one hidden layer', 'cnn': 'convolutional network'}


def to_html(models, accuracies):
  """Writes the page.

  Args:
    models: dict of (run, temperature) by name, as from `load_calibrated`; `config` and `params` of a run are used.
    accuracies: on the test split, fractions by name; None where it was not measured.

  Returns:
    bytes of the HTML file.
  """
  content = [
    {
      'name': name,
      'title': _TITLES[run.config.model],
      'accuracy': accuracies[name],
      'temperature': temperature,
      'layers': _layers(run),
    }
    for name, (run, temperature) in models.items()
  ]
  # Inside a script element, `</` could end it.
  text = json.dumps(content, allow_nan=False).replace('</', '<\\/')
  return _TEMPLATE.read_text(encoding='utf-8').replace('/*MODELS*/', text).encode()


def _layers(run):
  """The layers in order: a kernel of four axes is a convolution with its pool, one of two axes a dense layer."""
  architecture = run.config.architecture
  names = [name for name in ('conv1', 'conv2', 'conv3', 'conv4', 'hidden', 'logits') if name in run.params]
  layers = []
  for name in names:
    if name == 'logits':
      activation = 'none'
    elif name == 'hidden':
      activation = architecture['hidden_activation' if run.config.model == 'cnn' else 'activation']
    else:
      activation = architecture['conv_activation']
    kernel = run.params[name]['kernel']
    if kernel.ndim == 2:
      kernel = kernel.T  # The page takes the inputs in turn and skips those that are zero, most of an image.
    layers.append(
      {
        'shape': kernel.shape,
        'activation': activation,
        'kernel': _encode(kernel),
        'bias': _encode(run.params[name]['bias']),
      }
    )
  return layers


def _encode(array):
  return base64.b64encode(np.asarray(array, '<f4').tobytes()).decode()
