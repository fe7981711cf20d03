"""Predictions: from any image to calibrated probabilities, in a notebook and on the command line."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

import digits
from digits import errors, statistics
from digits.handwriting import pieces, predict, prepare
from digits.runtime import sealed_json
from digits.store import workdir
from digits.train import step as step_lib
from measurements import strings


def test_predict_takes_files_and_arrays_alike(quick_run, mnist, tmp_path):
  image = mnist.test.image[:4]
  logits = np.asarray(step_lib.apply_model(quick_run.model, quick_run.variables, image))
  expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

  paths = []
  for i, array in enumerate(image):
    paths.append(tmp_path / f'{i} ü.png')
    Image.fromarray(255 - array[..., 0]).save(paths[-1])
  colour = np.repeat(image[3], 3, axis=2)
  for images in (image, image[..., 0], list(image), [str(path) for path in paths], [*paths[:2], image[2], colour]):
    predictions = digits.predict(images, quick_run, temperature=1)
    np.testing.assert_allclose(predictions.probability, expected, atol=1e-5)
    np.testing.assert_array_equal(predictions.digit, [7, 2, 1, 0])
    np.testing.assert_allclose(predictions.image.astype(int), image, atol=2)  # The faintest grey is paper.
  assert predictions.ranking.shape == (4, 10)
  assert digits.predict([], quick_run, temperature=1).probability.shape == (0, 10)


@pytest.mark.parametrize('count', [1, 2, 31, 33, 501])
def test_batches_of_any_size_give_the_same_logits(quick_run, mnist, count):
  images = mnist.test.image[:count]
  logits = predict.apply_batched(quick_run, images)
  expected = step_lib.apply_model(quick_run.model, quick_run.variables, images)
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_images_without_ink_have_no_digit(quick_run):
  predictions = digits.predict([np.full((40, 30), 200, np.uint8)], quick_run, temperature=1)
  assert predictions.digit.tolist() == [-1]
  assert not predictions.found.any()
  assert np.isnan(predictions.probability).all()


@pytest.mark.parametrize(
  'images',
  [
    np.zeros((2, 28, 28), np.float32),
    np.zeros((28, 28), np.uint8),
    np.zeros((2, 0, 28), np.uint8),
    [np.zeros((28, 28, 2), np.uint8)],
    [np.zeros((0, 28), np.uint8)],
    [np.zeros((28, 28))],
    'a.png',
  ],
)
def test_arrays_of_a_wrong_kind_are_one_sentence(quick_run, images):
  with pytest.raises(errors.UsageError, match=r'^.*: give [^\n]*\.$'):
    digits.predict(images, quick_run, temperature=1)


@pytest.mark.parametrize('true', [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(true):
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, (20_000, 10)).astype(np.float32)
  labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # Drawn with the probabilities that the logits give.
  assert statistics.fit_temperature(true * logits, labels) == pytest.approx(true, rel=0.03)


@pytest.fixture(scope='module')
def workdirs(prepared_data_dir, tmp_path_factory):
  """The workdir of a comparison of three recipes, two of them of one model; mlp/seed-2 is what a run alone would be."""
  from digits import config as config_lib

  directory = tmp_path_factory.mktemp('compare')
  small = {
    'num_validation': 60,
    'epochs': 2,
    'batch_size': 32,
    'eval_batch_size': 50,
    'data_dir': str(prepared_data_dir),
  }
  recipes = {name: config_lib.to_dict(config_lib.load_config('mlp')) | small for name in ('mlp', 'mlp_slow')}
  recipes['softmax'] = config_lib.to_dict(config_lib.load_config('softmax')) | small
  recipes['mlp_slow']['learning_rate'] = 0.01
  for name, seed in (('mlp', 10), ('mlp', 2), ('mlp_slow', 0), ('softmax', 0)):
    digits.run(config_lib.from_dict(recipes[name] | {'seed': seed}), directory / name / f'seed-{seed}')
  comparison = config_lib.to_dict(config_lib.load_config('compare')) | {'recipes': recipes, 'num_validation': 60}
  workdir.write_config(config_lib.from_dict(comparison), directory)
  return directory


def test_the_temperature_is_kept_and_fitted_again_when_it_is_not_readable(workdirs, tmp_path):
  shutil.copytree(workdirs / 'mlp' / 'seed-2', tmp_path / 'run')
  run = digits.load_run(tmp_path / 'run')
  temperature = predict.load_temperature(run)
  kept = tmp_path / 'run' / 'temperature.json'
  assert sealed_json.read(kept) == sealed_json.seal({'step': run.step, 'temperature': temperature})
  sealed_json.write(kept, {'step': run.step, 'temperature': 7.5})
  assert predict.load_temperature(run) == 7.5
  altered = kept.read_text().replace('7.5', '7.4')
  sealed_json.write(kept, {'step': 1, 'temperature': 7.5})
  for damaged in (kept.read_text(), altered, '{', '[]', '{"step": "1"}'):
    kept.write_text(damaged)
    assert predict.load_temperature(run) == pytest.approx(temperature)


def test_the_temperature_of_a_run_without_a_workdir_is_fitted_once(workdirs, monkeypatch):
  run = digits.load_run(workdirs / 'mlp' / 'seed-2')
  expected = predict.load_temperature(run)
  run = run._replace(workdir=None, variables=dict(run.variables))
  assert predict.load_temperature(run) == pytest.approx(expected)
  monkeypatch.setattr(statistics, 'fit_temperature', lambda *args: pytest.fail('fitted again'))
  assert predict.load_temperature(run) == pytest.approx(expected)


def test_a_comparison_gives_the_first_seed_of_each_recipe(workdirs):
  models = predict.load_calibrated(workdirs)
  assert list(models) == ['mlp', 'mlp_slow', 'softmax']
  assert [run.config.model for run, _ in models.values()] == ['mlp', 'mlp', 'softmax']
  assert models['mlp'][0].config.seed == 2
  assert list(predict.load_calibrated(workdirs / 'mlp' / 'seed-10')) == ['mlp']
  with pytest.raises(errors.UsageError, match='is not the workdir of a run'):
    predict.load_calibrated(workdirs / 'mlp')


def test_the_function_gives_exactly_what_the_command_prints(workdirs, monkeypatch, tmp_path, capsys):
  from digits.commands import cli

  rng = np.random.default_rng(0)
  paths = [str(tmp_path / f'{i}.png') for i in range(3)]
  for path in paths:
    ink = np.zeros((90, 60), np.uint8)
    ink[20:70, 15 : rng.integers(20, 45)] = 255
    Image.fromarray(255 - ink).save(path)
  cli._dispatch(['predict', f'--workdir={workdirs}', '--min-confidence=0', '--json', *paths])
  printed = json.loads(capsys.readouterr().out)['images']
  for name, directory in (('mlp', 'mlp/seed-2'), ('mlp_slow', 'mlp_slow/seed-0'), ('softmax', 'softmax/seed-0')):
    run = digits.load_run(workdirs / directory)
    predictions = digits.predict(paths, run)
    answers = [image['models'][name] for image in printed]
    assert predictions.probability.tolist() == [answer['probabilities'] for answer in answers]
    assert predictions.digit.tolist() == [answer['digit'] for answer in answers]
    assert predictions.several.tolist() == [image['several_digits'] for image in printed]
    plain = digits.predict(paths, run, temperature=1).probability
    assert not np.allclose(plain, predictions.probability, atol=1e-4)


def _write_digits(rng, split, num_digits, gap=(2, 8)):
  """A picture of digits in a line, photographed."""
  condition = strings.Condition(num_digits=(num_digits, num_digits), gap=gap)
  return strings.compose(rng, split, condition)[0]


def test_several_digits_are_noticed_and_single_ones_are_not(mnist):
  rng = np.random.default_rng(0)

  def share(images):
    return np.mean(np.concatenate([pieces.find_several(ink) for ink, _ in prepare.extract_inks(images)]))

  assert share(mnist.test.image[:5000, ..., 0]) < 0.003
  assert share(255 - mnist.test.image[5000:, ..., 0]) < 0.003
  assert share([_write_digits(rng, mnist.test, 1) for _ in range(60)]) <= 1 / 60
  for num_digits in (2, 3):
    assert share([_write_digits(rng, mnist.test, num_digits) for _ in range(60)]) >= 59 / 60
  assert share([_write_digits(rng, mnist.test, 2, gap=(-1, 0)) for _ in range(60)]) >= 0.5  # They touch.
  two_lines = strings.Condition(num_digits=(1, 1), num_lines=2)
  assert share([strings.compose(rng, mnist.test, two_lines)[0] for _ in range(30)]) >= 29 / 30


def test_several_digits_are_found_per_image(mnist):
  ones = np.zeros((4, 60, 120), np.uint8)
  ones[1:, 10:50, 20:26] = 255
  ones[2, 10:50, 80:86] = 255
  ones[3, 28:32, 20:110] = 255
  ((ink, _),) = prepare.extract_inks(ones)
  assert pieces.find_several(ink).tolist() == [False, False, True, True]


def _run(env, cwd, *command, **kwargs):
  return subprocess.run(
    [sys.executable, '-W', 'error::RuntimeWarning', *command],
    cwd=cwd,
    env=env,
    capture_output=True,
    timeout=150,
    check=False,
    **kwargs,
  )


def test_the_command(workdirs, subprocess_env, tmp_path):
  rng = np.random.default_rng(0)
  content = io.BytesIO()
  ink = np.zeros((90, 60), np.uint8)
  ink[20:70, 25:33] = 255
  Image.fromarray(255 - ink).save(content, 'PNG')
  names = []
  for i in range(30):
    names.append(f'a {i} ü.png')
    (tmp_path / names[-1]).write_bytes(content.getvalue())
  broken = {'empty.png': b'', 'cut.png': content.getvalue()[:90], 'noise.jpg': rng.bytes(999)}
  for name, damaged in broken.items():
    (tmp_path / name).write_bytes(damaged)
  blank = tmp_path / 'blank.png'
  Image.new('L', (50, 50), 200).save(blank)

  ink[:, 30:] = ink[:, :30] = ink[:, 22:52]
  Image.fromarray(255 - ink).save(tmp_path / 'two.png')

  command = ['-m', 'digits', 'predict', f'--workdir={workdirs}']
  files = [*broken, *names, blank.name, '.', 'two.png']
  done = _run(subprocess_env, tmp_path, *command, '--min-confidence=0', '--json', '--preview=seen', *files)
  assert done.returncode == 1
  answers = json.loads(done.stdout)['images']
  assert [answer['file'] for answer in answers] == [*names, 'two.png']
  assert [answer['several_digits'] for answer in answers] == [False] * 30 + [True]
  assert set(answers[0]['models']) == {'mlp', 'mlp_slow', 'softmax'}
  answer = answers[0]['models']['mlp']
  assert answer['probability'] == max(answer['probabilities'])
  assert sum(answer['probabilities']) == pytest.approx(1, abs=1e-5)
  assert answer['digit'] == int(np.argmax(answer['probabilities']))
  lines = done.stderr.decode().splitlines()
  assert len(lines) == 6
  assert all(line.startswith('error: ') and line.endswith('.') for line in lines[:5])
  assert lines[5] == 'two.png seems to show several digits: "digits read" reads them all.'
  assert 'blank.png shows no digit' in lines[3]
  assert len(list((tmp_path / 'seen').iterdir())) == 31
  assert np.asarray(Image.open(tmp_path / 'seen' / '0001-a 0 ü.png')).shape == (28, 28)

  done = _run(subprocess_env, tmp_path, *command, '--min-confidence=1', '-', names[0], input=content.getvalue())
  assert (done.returncode, done.stderr) == (0, b'')
  table = done.stdout.decode().splitlines()
  assert table[0].split() == ['mlp', 'mlp_slow', 'softmax']
  assert table[2].split()[:2] == ['-', 'unsure']
  assert len(table) == 4
  done = _run(subprocess_env, tmp_path, *command, 'two.png')
  assert (done.returncode, done.stderr.decode()) == (0, f'{lines[5]}\n')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'required: --workdir, IMAGE'),
    (['--workdir=none', 'a.png'], 'none is not the workdir of a run'),
    (['--workdir=none', 'a.png', '--min-confidence=2'], 'is not a probability'),
  ],
)
def test_wrong_calls_exit_with_2(subprocess_env, tmp_path, arguments, message):
  done = _run(subprocess_env, tmp_path, '-m', 'digits', 'predict', *arguments)
  assert (done.returncode, done.stdout) == (2, b'')
  assert message in done.stderr.decode()
  assert done.stderr.count(b'\n') == 1


def test_the_function_stays_a_function_beside_the_modules_of_its_name(subprocess_env, tmp_path):
  code = (
    'import sys, digits\n'
    'loaded = [m for m in ("PIL", "scipy.ndimage", "tensorflow_datasets") if m in sys.modules]\n'
    'import digits.commands.predict\nimport digits.handwriting.predict\n'
    'run = type("Run", (), {"model": None, "variables": {}})\n'
    'print(loaded, digits.predict([], run, temperature=1).probability.shape)\n'
  )
  done = _run(subprocess_env, tmp_path, '-c', code)
  assert done.stdout.decode().split('\n')[0] == '[] (0, 10)', done.stderr
