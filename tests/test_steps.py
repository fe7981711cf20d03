import functools
import re

import jax
import numpy as np
import pytest

import digits
from digits import data, errors, models
from digits.runtime import devices
from digits.train import compiled
from digits.train.recipe import make_recipe


def _split(num_examples=256):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (num_examples, 28, 28, 1)).astype(np.uint8)
  return data.Split(image, rng.integers(0, 10, num_examples).astype(np.int32))


def _training(config, split, num_devices):
  """The training of a run that has done nothing, and its mesh."""
  mesh = devices.make_data_mesh(config.batch_size, num_devices)
  recipe = make_recipe(config, num_steps=config.epochs * 8)
  carry = jax.jit(lambda: compiled.init_carry(recipe), out_shardings=devices.everywhere(mesh))()
  return compiled.InMemory(config, split, carry, mesh, recipe), mesh


@pytest.mark.parametrize('name', ['mlp', 'cnn'])
def test_eight_devices_lose_as_much_as_one_over_fifty_steps(tiny_config, name):
  config, split, losses = tiny_config(name, epochs=10, learning_rate=0.1), _split(), {}
  for num_devices in (1, 8):
    training, _ = _training(config, split, num_devices)
    losses[num_devices] = []
    for step in range(50):
      before = float(training.carry.window.loss)
      training.advance(step, step + 1)
      losses[num_devices].append(float(training.carry.window.loss) - before)
    assert int(training.carry.state.step) == 50
    assert float(training.carry.window.count) == 6 * 256 + 2 * 32
  np.testing.assert_allclose(losses[8], losses[1], rtol=1e-5)


@pytest.mark.parametrize('name', ['softmax', 'mlp', 'cnn'])
def test_a_sharded_step_reduces_all_gradients_at_once_and_moves_nothing_else(tiny_config, name):
  config = tiny_config(name)
  training, mesh = _training(config, _split(), 8)
  update = functools.partial(make_recipe(config, num_steps=24).train_step, axis_name='data')
  order = devices.spread(np.zeros((8, 32), np.int32), mesh, axis=1)
  step = devices.jit_over_data(
    functools.partial(compiled.run_step, update=update),
    mesh,
    (devices.WHOLE, devices.WHOLE, devices.by_data(axis=1), devices.WHOLE),
  )
  program = step.lower(training.carry, devices.replicate(_split(), mesh), order, np.int32(0)).compile().as_text()
  collectives = re.findall(r'= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)\(', program)
  assert {kind for _, kind in collectives} == {'all-reduce'}
  # Scalars, such as the number of images, may go before; the gradients go together.
  (gradients,) = (shapes for shapes, _ in collectives if re.search(r'\[\d', shapes))
  assert len(re.findall(r'f32\[\d', gradients)) == len(jax.tree.leaves(training.carry.state.params))


@pytest.mark.parametrize('num_devices', [1, 2, 3, 8])
@pytest.mark.parametrize('batch_size', [1, 7, 32])
def test_evaluation_counts_every_example_once_on_any_number_of_devices(tiny_config, num_devices, batch_size):
  config, split = tiny_config('softmax'), _split(100)
  mesh = devices.make_data_mesh(24, num_devices)
  model = config.make_model()
  variables = model.init(jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
  expected = digits.evaluate_split(variables, split, model=model, batch_size=100)
  variables = devices.replicate(jax.device_get(variables), mesh)
  scores = digits.evaluate_split(variables, split, model=model, batch_size=batch_size, mesh=mesh)
  assert scores == pytest.approx(expected, rel=1e-6)
  assert scores['examples'] == 100


@pytest.mark.parametrize(
  ('batch_size', 'requested', 'message'),
  [(32, 9, 'config.mesh.data=9 is more than the 8 devices'), (33, 2, 'config.batch_size=33 does not divide over 2')],
)
def test_wrong_meshes(batch_size, requested, message):
  with pytest.raises(errors.UsageError, match=message):
    devices.make_data_mesh(batch_size, requested)


@pytest.mark.parametrize(
  ('batch_size', 'least_images', 'expected'), [(32, 1, 8), (32, 4, 8), (32, 5, 4), (33, 4, 3), (31, 2, 1), (32, 33, 1)]
)
def test_the_default_mesh_divides_the_batch_and_gives_each_device_enough(batch_size, least_images, expected):
  assert devices.make_data_mesh(batch_size, least_images=least_images).size == expected


def test_a_convolutional_model_takes_the_devices_that_it_gains_from(tiny_config, monkeypatch):
  def sizes(batch_size, **architecture):
    return [
      compiled.make_mesh(models.MODELS[name](**(architecture if name == 'cnn' else {})), batch_size).size
      for name in ('softmax', 'mlp', 'cnn')
    ]

  assert sizes(128) == [1, 1, 4]
  assert sizes(128, convolution='lax') == [1, 1, 1]
  assert sizes(32) == [1, 1, 1]
  assert compiled.make_mesh(models.MLP(), 128, requested=2).size == 2
  compiled.convolution_of.cache_clear()
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert sizes(128) == sizes(128, convolution='lax') == [1, 1, 4]
  compiled.convolution_of.cache_clear()


@pytest.mark.parametrize(
  ('model', 'convolution', 'microbatch_size'),
  [
    (models.SoftmaxRegression(), None, 0),
    (models.MLP(), None, 0),
    (models.CNN(), 'matmul', 32),
    (models.CNN(convolution='lax'), 'lax', 0),
    (models.CNN(dtype='bfloat16'), 'lax', 0),
  ],
)
def test_what_goes_through_a_model_at_once_on_a_cpu(model, convolution, microbatch_size):
  assert compiled.convolution_of(model) == convolution
  assert compiled.is_slow_in_loops(model) == (convolution == 'lax')
  assert compiled.choose_microbatch_size(model) == microbatch_size
  assert compiled.choose_microbatch_size(model, requested=7) == 7


def test_wrong_mesh_writes_nothing(tiny_config, tmp_path):
  with pytest.raises(errors.UsageError, match=r'config.mesh.data=64'):
    digits.run(tiny_config('softmax', mesh={'data': 64}), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_goes_on_with_another_number_of_devices(tiny_config, tmp_path, interrupt_at):
  straight = digits.run(tiny_config('mlp', mesh={'data': 1}), tmp_path / 'straight')
  for step, num_devices in ((5, 4), (14, 1)):
    interrupt_at(step)
    with pytest.raises(errors.DigitsError, match='Stopped and saved at step'):
      digits.run(tiny_config('mlp', mesh={'data': num_devices}), tmp_path / 'moved')
  results = digits.run(tiny_config('mlp', mesh={'data': 2}), tmp_path / 'moved')
  assert results['test'] == pytest.approx(straight['test'], rel=1e-4)


@pytest.mark.parametrize(('num_workers', 'stops'), [(0, (3, 13)), (1, (13,))])
def test_streaming_equals_in_memory_and_resumes(tiny_config, tmp_path, interrupt_at, num_workers, stops):
  in_memory = digits.run(tiny_config('mlp', step_loop='host'), tmp_path / 'memory')
  config = tiny_config('mlp', step_loop='host', loader='grain', loader_workers=num_workers)
  for step in stops:
    interrupt_at(step)
    with pytest.raises(errors.DigitsError, match='Stopped and saved at step'):
      digits.run(config, tmp_path / 'streamed')
  assert digits.run(config, tmp_path / 'streamed')['test'] == in_memory['test']


def test_every_process_streams_its_own_rows(tiny_config, prepared_data_dir):
  from digits.data import streaming

  make_order = functools.partial(data.shuffled_order, 3, num_examples=300, batch_size=32)
  records = streaming.open_records('mnist', prepared_data_dir)
  whole, upper = (
    list(streaming.BatchIterator(records, make_order, num_epochs=2, part=part)) for part in (slice(32), slice(16, 32))
  )
  dataset = data.load_dataset('mnist', prepared_data_dir, num_validation=0)
  assert len(whole) == len(upper) == 20
  for step, (batch, part) in enumerate(zip(whole, upper, strict=True)):
    rows = np.asarray(make_order(step // 10))[step % 10]
    filled = np.where(rows >= 0, rows, np.arange(len(rows)))
    np.testing.assert_array_equal(batch['label'], dataset.train.label[filled])
    np.testing.assert_array_equal(batch['image'], dataset.train.image[filled])
    np.testing.assert_array_equal(batch['mask'], rows >= 0)
    for key, values in part.items():
      np.testing.assert_array_equal(values, batch[key][16:])
