import dataclasses
import json

import conftest
from hypothesis import given, settings
from hypothesis import strategies as st
import ml_collections
import pytest

from digits import config as config_lib
from digits import errors, models

SHIPPED = sorted(path.stem for path in (conftest.ROOT / 'configs').glob('*.py'))
FIELDS = [field.name for field in dataclasses.fields(config_lib.TrainConfig)]


def _cnn():
  return config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / 'cnn.py'))


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_configs_survive_json(name):
  config = config_lib.load_config(conftest.ROOT / 'configs' / f'{name}.py')
  assert config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config)))) == config


@pytest.mark.parametrize(('name', 'model'), models.MODELS.items())
def test_configs_describe_the_papers_models(name, model):
  config = config_lib.load_config(conftest.ROOT / 'configs' / f'{name}.py')
  assert config.make_model() == model(dtype='float32')


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('epochs', -1, 'config.epochs=-1 is not allowed: it must be an integer from 1 to 100,000'),
    ('epochs', 1.0, 'config.epochs=1.0'),
    ('epochs', True, 'config.epochs=True'),
    ('batch_size', 0, 'config.batch_size=0'),
    ('learning_rate', float('nan'), 'config.learning_rate=nan'),
    ('learning_rate', -0.1, 'config.learning_rate=-0.1'),
    ('momentum', float('inf'), 'config.momentum=inf'),
    ('nesterov', 1, 'config.nesterov=1 is not allowed: it must be True or False'),
    ('model', 'rnn', "config.model='rnn' is not a registered model (known: cnn, mlp, softmax"),
    ('schedule', 'linear', "config.schedule='linear'"),
    ('dtype', 'float64', "config.dtype='float64'"),
    ('experiment', 'play', "config.experiment='play'"),
    ('architecture', {}, 'config.architecture.features is missing'),
    ('architecture', 3, 'config.architecture=3'),
    ('warmup_fraction', 1.5, 'config.warmup_fraction=1.5'),
    ('data_dir', 'a\0b', "config.data_dir='a\\x00b' is not allowed: it must be a string of printable characters"),
  ],
)
def test_bad_values_name_field_value_and_what_is_allowed(field, value, message):
  with pytest.raises(errors.UsageError) as caught:
    config_lib.from_dict(_cnn() | {field: value})
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('features', (16, 0)),
    ('features', ()),
    ('features', (16, 2.5)),
    ('kernel_size', 0),
    ('kernel_size', 29),
    ('hidden_units', 10**9),
    ('conv_activation', 'softplus'),
    ('wings', 2),
  ],
)
def test_bad_architectures(field, value):
  values = _cnn()
  values['architecture'][field] = value
  with pytest.raises(errors.UsageError, match=f'config.architecture.{field}'):
    config_lib.from_dict(values)


def test_unknown_and_missing_fields():
  with pytest.raises(errors.UsageError, match='config.lerning_rate is unknown'):
    config_lib.from_dict(_cnn() | {'lerning_rate': 0.1})
  values = _cnn()
  del values['momentum']
  with pytest.raises(errors.UsageError, match='config.momentum is missing'):
    config_lib.from_dict(values)


def test_load_config_overrides_and_names_a_missing_file(tmp_path):
  config = config_lib.load_config(conftest.ROOT / 'configs' / 'mlp.py', epochs=2, seed=7)
  assert (config.epochs, config.seed) == (2, 7)
  with pytest.raises(
    errors.UsageError, match='There is no config file .*none.py: give a path, or one of ablation, activations, cnn, '
  ):
    config_lib.load_config(tmp_path / 'none.py')


_VALUES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(),
  st.floats(),
  st.text(max_size=5),
  st.sampled_from(['cnn', 'relu', 'cosine', 'host', 'float32']),
  st.lists(st.integers(), max_size=3),
  st.dictionaries(st.sampled_from(['features', 'hidden_units', 'x']), st.integers(), max_size=2),
)


@given(st.sampled_from(FIELDS), _VALUES)
@settings(max_examples=300, deadline=None)
def test_any_value_is_taken_or_refused_in_one_sentence(field, value):
  try:
    config = config_lib.from_dict(ml_collections.ConfigDict(_cnn() | {field: value}))
  except errors.UsageError as error:
    assert f'config.{field}' in str(error) or field == 'model'  # It decides what the architecture may be.
    assert '\n' not in str(error)
  else:
    assert config_lib.from_dict(config_lib.to_dict(config)) == config


def test_what_a_config_file_may_return(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('def get_config():\n  return {"a": 2}\n')
  assert config_lib.get_config(path).to_dict() == {'a': 2}
  path.write_text('def get_config():\n  config = {"a": 2}\n')
  with pytest.raises(errors.UsageError, match='returns None: let it return the config'):
    config_lib.get_config(path)
