"""Trained models as files that other programs load: safetensors, StableHLO and ONNX.

All but safetensors hold the whole function: from images uint8[N, 28, 28, 1], prepared as MNIST's were, to logits
float32[N, 10], for any N. They compute in float32.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import importlib
import json
from typing import Any

from flax import linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Float, UInt8
import numpy as np

from digits import config as config_lib
from digits import errors
from digits.models import layers as layers_lib
from digits.models import registry
from digits.models.ensemble import Ensemble
from digits.train.runs import flatten, from_safetensors, hash_arrays, Run
from digits.train.step import apply_model

Images = UInt8[np.ndarray, 'batch 28 28 1']
Logits = Float[np.ndarray, 'batch 10']

_OPSET = 17
_IR_VERSION = 8  # The version of that opset: what runtimes have read since 2022.
_BATCH_SIZE = 500


def _in_batches(call: Callable[[Images], Any], images: Images) -> Logits:
  return np.concatenate([call(images[i : i + _BATCH_SIZE]) for i in range(0, len(images), _BATCH_SIZE)])


def reference_logits(run: Run, images: Images) -> Logits:
  """The logits that an exported model must give too."""
  return _in_batches(jax.jit(functools.partial(apply_model, registry.portable(run.model), run.variables)), images)


def described_layers(model: nn.Module, kind: str) -> list[layers_lib.Layer]:
  """What a model says about its layers; raises a UsageError, which names the formats that work, if it says nothing."""
  layers = layers_lib.layers_of(model)
  if isinstance(model, Ensemble):
    raise errors.UsageError(f'--format={kind} is for single networks: name a run of one, such as RECIPE/seed-0.')
  if layers is None:
    raise errors.UsageError(
      f'--format={kind} needs to know the layers of {type(model).__name__}: give it a method layers(), see '
      'digits.models.layers, or use --format=stablehlo or --format=safetensors.'
    )
  return layers


def to_safetensors(run: Run) -> bytes:
  """The variables in safetensors format; its metadata holds config and results, of an ensemble those of each member.

  `digits.train.runs.from_safetensors` makes the run of it again.
  """
  safetensors = _import('safetensors.numpy')
  members = run.members or (run,)
  flat = {
    (f'members_{number}.' if run.members else '') + name: np.asarray(leaf)
    for number, member in enumerate(members)
    for name, leaf in flatten(member.variables).items()
  }
  saved = [
    {'config': config_lib.to_dict(member.config), 'step': member.step, 'results': member.results} for member in members
  ]
  metadata = {'runs': json.dumps(saved), 'results': json.dumps(run.results), 'sha256': hash_arrays(flat)}
  return safetensors.save(flat, {'model': run.name} | metadata)


def to_stablehlo(run: Run) -> bytes:
  """The model as StableHLO with its variables in it, for `jax.export.deserialize`, on CPU, CUDA and TPU."""
  _import('flatbuffers')
  from jax import export

  variables = jax.tree.map(jnp.asarray, run.variables)
  function = jax.jit(lambda image: apply_model(registry.portable(run.model), variables, image))
  (num_images,) = export.symbolic_shape('N')
  image = jax.ShapeDtypeStruct((num_images, 28, 28, 1), jnp.uint8)
  with _without_source_locations():
    try:
      return bytes(export.export(function, platforms=('cpu', 'cuda', 'tpu'))(image).serialize())
    except Exception as error:  # Whatever the code of the model raises when it is given N images.
      raise errors.DigitsError(
        f'{type(run.model).__name__} cannot be computed for an unknown number of images '
        f'({type(error).__name__}: {errors.first_line(error)}): write image.shape[0] and not len(image), or use '
        '--format=safetensors.'
      ) from error


@contextlib.contextmanager
def _without_source_locations() -> Iterator[None]:
  """Keeps the paths of this machine's source files out of the file."""
  limit = jax.config.jax_traceback_in_locations_limit  # type: ignore[attr-defined]  # JAX defines it at run time.
  jax.config.update('jax_traceback_in_locations_limit', 0)
  try:
    yield
  finally:
    jax.config.update('jax_traceback_in_locations_limit', limit)


def to_onnx(run: Run) -> bytes:
  """The model as an ONNX graph with its parameters in it; input `image`, output `logits`."""
  onnx = _import('onnx')
  helper = onnx.helper
  graph = _Graph(onnx)
  if run.members:
    graph.average(
      [
        graph.apply(described_layers(member.model, 'onnx'), member.params, prefix=f'members_{i}.')
        for i, member in enumerate(run.members)
      ]
    )
  else:
    graph.name_logits(graph.apply(described_layers(run.model, 'onnx'), run.params))
  model = helper.make_model(
    helper.make_graph(
      graph.nodes,
      f'digits_{run.name}',
      [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['N', 28, 28, 1])],
      [helper.make_tensor_value_info('logits', onnx.TensorProto.FLOAT, ['N', 10])],
      list(graph.constants.values()),
    ),
    opset_imports=[helper.make_opsetid('', _OPSET)],
    ir_version=_IR_VERSION,
    producer_name='digits',
  )
  onnx.checker.check_model(model, full_check=True)
  return model.SerializeToString()


class _Graph:
  """Nodes in order, and the constants they use by name."""

  def __init__(self, onnx: Any):
    self._onnx = onnx
    self._params: Mapping[str, Any] = {}
    self._prefix = ''
    self.nodes: list[Any] = []
    self.constants: dict[str, Any] = {}

  def apply(self, layers: list[layers_lib.Layer], params: Mapping[str, Any], prefix: str = '') -> str:
    """Appends a network, its parameters named with a prefix, and returns the name of its logits."""
    self._params, self._prefix = params, prefix
    x = self._add('Cast', 'image', to=self._onnx.TensorProto.FLOAT)
    x = self._add('Div', x, self._constant(np.float32(255)))
    shape = 'image'  # Or `channels first`, which is ONNX's order, or `flat`.
    for layer in layers:
      if isinstance(layer, layers_lib.Nonlinearity):
        x = self._activate(layer.activation, x)
      elif isinstance(layer, layers_lib.Dense):
        x, shape = self._dense(layer.name, x, shape), 'flat'
      else:
        if shape == 'image':
          x, shape = self._add('Transpose', x, perm=(0, 3, 1, 2)), 'channels first'
        if isinstance(layer, layers_lib.Convolution):
          x = self._convolve(layer.name, x)
        else:
          x = self._add('MaxPool', x, kernel_shape=(2, 2), strides=(2, 2))
    return x

  def average(self, logits: list[str]) -> None:
    """Appends the logarithms of the mean probabilities of some networks as the logits of the graph."""
    first_axis = self._constant(np.array([0], np.int64))
    log_probs = [self._add('Unsqueeze', self._add('LogSoftmax', x, axis=-1), first_axis) for x in logits]
    total = self._add('ReduceLogSumExp', self._add('Concat', *log_probs, axis=0), axes=[0], keepdims=0)
    self.name_logits(self._add('Sub', total, self._constant(np.float32(np.log(len(logits))))))

  def name_logits(self, x: str) -> None:
    """Gives what was computed the name of the graph's output."""
    self.nodes.append(self._onnx.helper.make_node('Identity', [x], ['logits']))

  def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
    """Appends a node and returns the name of what it computes."""
    output = f'{operator.lower()}_{len(self.nodes)}'
    self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], **attributes))
    return output

  def _constant(self, value: Any, name: str | None = None) -> str:
    """Adds an array and returns its name."""
    name = name or f'constant_{len(self.constants)}'
    self.constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
    return name

  def _reshape(self, x: str, *shape: int) -> str:
    """Appends a reshape that keeps the first axis."""
    return self._add('Reshape', x, self._constant(np.array([0, *shape], np.int64)))

  def _arrays(self, layer: str) -> tuple[np.ndarray, str]:
    """The kernel of a layer, and the name of its bias."""
    kernel, bias = (np.asarray(self._params[layer][leaf]) for leaf in ('kernel', 'bias'))
    return kernel, self._constant(bias, f'{self._prefix}{layer}.bias')

  def _convolve(self, layer: str, x: str) -> str:
    kernel, bias = self._arrays(layer)
    before = [(size - 1) // 2 for size in kernel.shape[:2]]
    after = [size // 2 for size in kernel.shape[:2]]
    kernel_name = self._constant(kernel.transpose(3, 2, 0, 1), f'{self._prefix}{layer}.kernel')
    return self._add('Conv', x, kernel_name, bias, pads=before + after)

  def _dense(self, layer: str, x: str, shape: str) -> str:
    kernel, bias = self._arrays(layer)
    if shape == 'image':
      # A sum over the rows of the image: 784 products added up one after the other are off by more than 1e-5 where
      # logits reach 30.
      x = self._add('Transpose', self._reshape(x, 28, 28), perm=(1, 0, 2))
      x = self._add('MatMul', x, self._constant(kernel.T.reshape(28, 28, -1), f'{self._prefix}{layer}.kernel'))
      x = self._add('ReduceSum', x, self._constant(np.array([0], np.int64)), keepdims=0)
      return self._add('Add', x, bias)
    if shape == 'channels first':
      x = self._reshape(self._add('Transpose', x, perm=(0, 2, 3, 1)), kernel.shape[1])
    return self._add('Gemm', x, self._constant(kernel, f'{self._prefix}{layer}.kernel'), bias, transB=1)

  def _activate(self, name: str, x: str) -> str:
    """Appends a function of `ACTIVATIONS`."""
    if name == 'silu':
      return self._add('Mul', x, self._add('Sigmoid', x))
    if name == 'gelu':  # The operator Gelu came with opset 20.
      cube = self._add('Mul', x, self._add('Mul', x, x))
      inner = self._add('Add', x, self._add('Mul', cube, self._constant(np.float32(0.044715))))
      inner = self._add('Tanh', self._add('Mul', inner, self._constant(np.float32(np.sqrt(2 / np.pi)))))
      half = self._add('Mul', x, self._constant(np.float32(0.5)))
      return self._add('Mul', half, self._add('Add', inner, self._constant(np.float32(1))))
    return self._add(name.capitalize(), x)  # Elu, Identity, Relu, Sigmoid and Tanh are operators.


def run_safetensors(content: bytes, run: Run, images: Images) -> Logits:
  """Logits of what was exported: the run made of it again."""
  del run
  return reference_logits(from_safetensors(content), images)


def run_stablehlo(content: bytes, run: Run, images: Images) -> Logits:
  """Logits of what was exported, computed by JAX without the model's code."""
  from jax import export

  return _in_batches(jax.jit(export.deserialize(bytearray(content)).call), images)


def run_onnx(content: bytes, run: Run, images: Images) -> Logits:
  """Logits of what was exported, computed by ONNX Runtime on the CPU."""
  session = _import('onnxruntime').InferenceSession(content, providers=['CPUExecutionProvider'])
  return _in_batches(lambda batch: session.run(None, {'image': batch})[0], images)


# How each format is written, and how what was written is run to check it.
FORMATS: dict[str, tuple[Callable[[Run], bytes], Callable[[bytes, Run, Images], Logits]]] = {
  'safetensors': (to_safetensors, run_safetensors),
  'stablehlo': (to_stablehlo, run_stablehlo),
  'onnx': (to_onnx, run_onnx),
}


def _import(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    package = name.partition('.')[0]
    raise errors.DigitsError(f'This format needs the package {package}: pip install "digits-jax[export]".') from error
