"""Trained models as files that other programs load: safetensors, StableHLO and ONNX.

All but safetensors hold the whole function: from images uint8[N, 28, 28, 1], prepared as MNIST's were, to logits
float32[N, 10], for any N. They compute in float32.
"""

import contextlib
import functools
import importlib
import json

import jax
from jax import numpy as jnp
import numpy as np

from digits import config as config_lib
from digits import errors
from digits.train import step as step_lib

_OPSET = 17
_IR_VERSION = 8  # The one of that opset: what runtimes have read since 2022.
_ONNX_ACTIVATIONS = {'elu': 'Elu', 'relu': 'Relu', 'sigmoid': 'Sigmoid', 'tanh': 'Tanh'}


def portable_model(run):
  """The model of a run, computed in float32 by operations that every device has."""
  model = run.model.clone(dtype=jnp.float32)
  return model.clone(convolution='lax') if hasattr(model, 'convolution') else model


def reference_logits(run, images):
  """Logits float32[N, 10] of images uint8[N, 28, 28, 1] that an exported model must give too."""
  apply = jax.jit(functools.partial(step_lib.apply_model, portable_model(run)))
  return np.concatenate([apply(run.params, images[start : start + 500]) for start in range(0, len(images), 500)])


def flatten_params(params):
  """The parameters as a dict of float32 arrays by name, such as conv1.kernel."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return {'.'.join(entry.key for entry in path): np.asarray(leaf) for path, leaf in leaves}


def to_safetensors(run):
  """The parameters in safetensors format, bytes; its metadata holds the config."""
  safetensors = _import('safetensors.numpy')
  metadata = {'model': run.config.model, 'step': str(run.step), 'config': json.dumps(config_lib.to_dict(run.config))}
  return safetensors.save(flatten_params(run.params), metadata)


def to_stablehlo(run):
  """The model as StableHLO with its parameters in it, bytes for `jax.export.deserialize`; for CPU, CUDA and TPU."""
  _import('flatbuffers')
  from jax import export

  params = jax.tree.map(jnp.asarray, run.params)
  function = jax.jit(lambda image: step_lib.apply_model(portable_model(run), params, image))
  (num_images,) = export.symbolic_shape('N')
  image = jax.ShapeDtypeStruct((num_images, 28, 28, 1), jnp.uint8)
  with _without_source_locations():
    return bytes(export.export(function, platforms=('cpu', 'cuda', 'tpu'))(image).serialize())


@contextlib.contextmanager
def _without_source_locations():
  """Keeps the paths of this machine's source files out of the file."""
  limit = jax.config.jax_traceback_in_locations_limit
  jax.config.update('jax_traceback_in_locations_limit', 0)
  try:
    yield
  finally:
    jax.config.update('jax_traceback_in_locations_limit', limit)


def to_onnx(run):
  """The model as an ONNX graph with its parameters in it, bytes; input `image`, output `logits`."""
  onnx = _import('onnx')
  helper = onnx.helper
  graph = _Graph(onnx, flatten_params(run.params))
  architecture = run.config.architecture

  x = graph.add('Cast', 'image', to=onnx.TensorProto.FLOAT)
  x = graph.add('Div', x, graph.constant('255', np.float32(255)))
  if run.config.model == 'cnn':
    x = graph.add('Transpose', x, perm=(0, 3, 1, 2))  # ONNX has channels first.
    for i in range(len(architecture['features'])):
      kernel = graph.params[f'conv{i + 1}.kernel']
      before = [(size - 1) // 2 for size in kernel.shape[:2]]
      after = [size // 2 for size in kernel.shape[:2]]
      kernel = graph.constant(f'conv{i + 1}.kernel', kernel.transpose(3, 2, 0, 1))
      x = graph.add('Conv', x, kernel, graph.param(f'conv{i + 1}.bias'), pads=before + after)
      x = graph.add('MaxPool', x, kernel_shape=(2, 2), strides=(2, 2))
      x = graph.add(_ONNX_ACTIVATIONS[architecture['conv_activation']], x)
    x = graph.add('Transpose', x, perm=(0, 2, 3, 1))
    x = graph.dense('hidden', graph.reshape(x, graph.params['hidden.kernel'].shape[1]))
    x = graph.add(_ONNX_ACTIVATIONS[architecture['hidden_activation']], x)
  elif run.config.model == 'mlp':
    x = graph.dense_of_image('hidden', x)
    x = graph.add(_ONNX_ACTIVATIONS[architecture['activation']], x)
  if run.config.model == 'softmax':
    graph.dense_of_image('logits', x, output='logits')
  else:
    graph.dense('logits', x, output='logits')

  model = helper.make_model(
    helper.make_graph(
      graph.nodes,
      f'digits_{run.config.model}',
      [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['N', 28, 28, 1])],
      [helper.make_tensor_value_info('logits', onnx.TensorProto.FLOAT, ['N', 10])],
      graph.constants,
    ),
    opset_imports=[helper.make_opsetid('', _OPSET)],
    ir_version=_IR_VERSION,
    producer_name='digits',
  )
  onnx.checker.check_model(model, full_check=True)
  return model.SerializeToString()


class _Graph:
  """Nodes in order and the constants they use."""

  def __init__(self, onnx, params):
    self._onnx = onnx
    self.params = params
    self.nodes = []
    self.constants = []

  def add(self, operator, *inputs, output=None, **attributes):
    """Appends a node and returns the name of what it computes."""
    output = output or f'{operator.lower()}_{len(self.nodes)}'
    self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], **attributes))
    return output

  def constant(self, name, value):
    """Adds an array and returns its name."""
    self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name

  def param(self, name):
    """Adds a parameter as it is."""
    return self.constant(name, self.params[name])

  def reshape(self, x, *shape):
    """Appends a reshape that keeps the first axis."""
    return self.add('Reshape', x, self.constant(f'shape_{len(self.nodes)}', np.array([0, *shape], np.int64)))

  def dense(self, layer, x, output=None):
    """Appends a dense layer."""
    kernel, bias = self.param(f'{layer}.kernel'), self.param(f'{layer}.bias')
    return self.add('Gemm', x, kernel, bias, transB=1, output=output)

  def dense_of_image(self, layer, x, output=None):
    """Appends a dense layer over [N, 28, 28, 1], as a sum over rows of the image.

    784 products added up one after the other are off by more than 1e-5 where logits reach 30.
    """
    kernel = self.params[f'{layer}.kernel'].T.reshape(28, 28, -1)
    x = self.add('Transpose', self.reshape(x, 28, 28), perm=(1, 0, 2))
    x = self.add('MatMul', x, self.constant(f'{layer}.kernel', kernel))
    x = self.add('ReduceSum', x, self.constant(f'{layer}.rows', np.array([0], np.int64)), keepdims=0)
    return self.add('Add', x, self.param(f'{layer}.bias'), output=output)


def run_safetensors(content, run, images):
  """Logits of what was exported: the parameters read back, in the model of `run`."""
  params = {}
  for name, value in _import('safetensors.numpy').load(content).items():
    layer, leaf = name.split('.')
    params.setdefault(layer, {})[leaf] = value
  return reference_logits(run._replace(params=params), images)


def run_stablehlo(content, run, images):
  """Logits of what was exported, computed by JAX without the model's code."""
  from jax import export

  call = jax.jit(export.deserialize(bytearray(content)).call)
  return np.concatenate([call(images[start : start + 500]) for start in range(0, len(images), 500)])


def run_onnx(content, run, images):
  """Logits of what was exported, computed by ONNX Runtime on the CPU."""
  session = _import('onnxruntime').InferenceSession(content, providers=['CPUExecutionProvider'])
  return np.concatenate(
    [session.run(None, {'image': images[start : start + 500]})[0] for start in range(0, len(images), 500)]
  )


# How each format is written, and how what was written is run to check it.
FORMATS = {
  'safetensors': (to_safetensors, run_safetensors),
  'stablehlo': (to_stablehlo, run_stablehlo),
  'onnx': (to_onnx, run_onnx),
}


def _import(name):
  try:
    return importlib.import_module(name)
  except ImportError as error:
    package = name.partition('.')[0]
    raise errors.DigitsError(f'This format needs the package {package}: pip install "digits-jax[export]".') from error
