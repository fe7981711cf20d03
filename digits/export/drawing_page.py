"""A page to draw on: one HTML file with the models inside, which answers in the browser without a network."""

import base64
from collections.abc import Mapping
import json
import pathlib
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Float, PyTree
import numpy as np

from digits.export.formats import described_layers
from digits.models import layers as layers_lib

# Built from page/: see CONTRIBUTING.md.
_TEMPLATE = pathlib.Path(__file__).with_name('drawing_page.html')


class Answerer(NamedTuple):
  """A model of the page.

  Attributes:
    model: the unbound module, which must describe its layers.
    params: its parameters.
    title: a few words about it.
    temperature: what its logits are divided by.
    accuracy: on the test split, a fraction; None if it was not measured.
  """

  model: nn.Module
  params: PyTree
  title: str
  temperature: float
  accuracy: float | None


def to_html(answerers: Mapping[str, Answerer]) -> bytes:
  """Writes the page of some models by name.

  Raises:
    UsageError: one of them does not describe its layers.
  """
  content = [
    {
      'name': name,
      'title': answerer.title,
      'accuracy': answerer.accuracy,
      'temperature': answerer.temperature,
      'layers': [_encode_layer(layer, answerer.params) for layer in described_layers(answerer.model, 'html')],
    }
    for name, answerer in answerers.items()
  ]
  # Inside a script element, `</` could end it, and `<!--` begin a comment.
  text = json.dumps(content, allow_nan=False).replace('<', '\\u003c')
  return _TEMPLATE.read_text(encoding='utf-8').replace('/*MODELS*/', text).encode()


def _encode_layer(layer: layers_lib.Layer, params: PyTree) -> dict[str, Any]:
  if isinstance(layer, layers_lib.MaxPool):
    return {'kind': 'max_pool'}
  if isinstance(layer, layers_lib.Nonlinearity):
    return {'kind': 'activation', 'activation': layer.activation}
  kernel = params[layer.name]['kernel']
  kind = 'convolution'
  if isinstance(layer, layers_lib.Dense):
    # The page takes the inputs in turn and skips those that are zero, most of an image.
    kernel, kind = kernel.T, 'dense'
  return {
    'kind': kind,
    'name': layer.name,
    'shape': kernel.shape,
    'kernel': _encode(kernel),
    'bias': _encode(params[layer.name]['bias']),
  }


def _encode(array: Float[np.ndarray, '...']) -> str:
  return base64.b64encode(np.asarray(array, '<f4').tobytes()).decode()
