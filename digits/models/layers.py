"""What a model may say about its layers, for code that must know them: exported graphs, pages, pictures.

A model that wants to be drawn, explained or written as ONNX has a method `layers() -> list[Layer]`, which lists what
happens to the image in order. A model without that method does all the rest. The arrays of a layer are those of
`params[name]`.
"""

from typing import Any, NamedTuple

from flax import linen as nn


class Convolution(NamedTuple):
  """Stride 1, padded to keep height and width; kernel [height, width, channels in, channels out] and bias."""

  name: str


class MaxPool(NamedTuple):
  """The maximum over windows of 2x2; an odd last row or column is dropped."""


class Dense(NamedTuple):
  """A matrix product over all that comes in, flattened as [height, width, channels]; kernel [out, in] and bias."""

  name: str


class Nonlinearity(NamedTuple):
  """An elementwise function.

  Attributes:
    activation: a key of `ACTIVATIONS`.
    of: the name of the layer whose output it is applied to. Where the model sows its value, that is as `OF_active`.
  """

  activation: str
  of: str


Layer = Convolution | MaxPool | Dense | Nonlinearity


def layers_of(model: nn.Module) -> list[Layer] | None:
  """What a model says about its layers; None if it says nothing."""
  describe: Any = getattr(model, 'layers', None)
  return describe() if callable(describe) else None
