"""The README says what is so: its commands, its lines for a notebook, its numbers."""

import json
import re
import shlex
import statistics
import subprocess
import sys

import conftest
import numpy as np
import pytest
from support import shell
import test_layout

import digits
from digits import errors as errors_lib
from digits.commands import export
from digits.report import findings
from digits.train import step as step_lib
from measurements import paper

README = (conftest.ROOT / 'README.md').read_text()


def example(words):
  """The Python example of the README that contains some words."""
  (code,) = [code for code in re.findall(r'```python\n(.*?)```', README, re.DOTALL) if words in code]
  return code


@pytest.fixture
def checkout(tmp_path, monkeypatch):
  """A folder that looks like the code's, with the README's config file in it, as the current folder."""
  folder = tmp_path / 'checkout'
  folder.mkdir()
  for path in conftest.ROOT.iterdir():
    if path.name != 'runs':
      (folder / path.name).symlink_to(path)
  (folder / 'my_config.py').write_text(example('def get_config'))
  monkeypatch.chdir(folder)
  return folder


def test_a_model_optimizer_and_augmentation_of_ones_own_train_in_a_notebook(prepared_data_dir, monkeypatch, capsys):
  monkeypatch.setenv('TFDS_DATA_DIR', str(prepared_data_dir))
  code = example('optax.adam')
  small = {"load_dataset('mnist')": "load_dataset('mnist', num_validation=60)", 'batch_size=128': 'batch_size=32'}
  for old, new in small.items():
    assert old in code
    code = code.replace(old, new)
  exec(compile(code, 'README.md', 'exec'), {'__name__': 'notebook'})
  assert "'examples': 100" in capsys.readouterr().out


def test_a_config_file_of_ones_own_trains_and_is_measured(checkout, subprocess_env):
  small = '--config.epochs=1 --config.num_validation=60 --config.batch_size=32 --config.eval_batch_size=32'
  section = README.split('## Extend')[1].split('\n## ')[0]
  for command, more in (('python launch.py', small.split()), ('python -m digits evaluate', ['--json'])):
    (given,) = re.findall(f'`({re.escape(command)} [^`]*my_config[^`]*)`', section)
    words = [sys.executable, *shlex.split(given)[1:], *more]
    done = subprocess.run(words, env=subprocess_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
  scores = json.loads(done.stdout)
  assert (scores['model'], scores['examples']) == ('wide', conftest.NUM_TEST)


def test_an_exported_model_runs(tiny_config, tmp_path, monkeypatch):
  section = README.split('## Export a model')[1].split('\n## ')[0]
  (command,) = re.findall(r'^python -m digits (export .*)$', section, re.MULTILINE)
  code = example('onnxruntime')
  monkeypatch.chdir(tmp_path)
  digits.run(tiny_config('cnn', epochs=1), 'runs/cnn')
  export.run(export.parse(shlex.split(command)[1:]))
  assert 'digits' not in code
  names = {}
  exec(compile(code, 'README.md', 'exec'), names)
  run = digits.load_run('runs/cnn')
  expected = step_lib.apply_model(run.model, run.variables, np.zeros((2, 28, 28, 1), np.uint8))
  np.testing.assert_allclose(names['logits'], expected, atol=1e-5)


def test_files_named_in_the_readme_exist():
  for path in re.findall(r'\]\(([^)#:]+)\)', README):
    assert (conftest.ROOT / path).exists(), path


def test_the_readme_says_how_long_the_core_is():
  digits_dir = conftest.ROOT / 'digits'
  train = ('step', 'metrics', 'optim', 'augment', 'recipe', 'compiled', 'loop', 'evaluate')
  core = [digits_dir / 'config.py', digits_dir / 'data' / 'batches.py']
  core += [digits_dir / 'train' / f'{name}.py' for name in train]
  core += [path for path in (digits_dir / 'models').glob('*.py') if path.name != 'convolution.py']
  lines = sum(len(path.read_text().splitlines()) for path in core)
  assert f'The core is {round(lines, -2):,} lines' in README
  text = ' '.join(README.split())
  assert '`digits/models` without `convolution.py`; ' + ', '.join(f'`{name}`' for name in train[:-1]) in text


def test_the_rooms_are_those_of_the_code():
  rows = re.findall(r'^\| \[`digits/(\w+)', README, re.MULTILINE)
  assert rows == [room for room in test_layout.ROOMS if room not in ('errors', 'schema', 'registry')]


PAGES = ('README.md', 'CONTRIBUTING.md', 'docs/scale.md', 'tests/README.md', 'benchmarks/README.md')


@pytest.mark.parametrize('page', PAGES)
def test_commands_parse(page, checkout):
  commands = shell.commands_in((conftest.ROOT / page).read_text())
  assert commands
  for words in commands:
    shell.check(words)


@pytest.mark.parametrize(
  'command',
  [
    'python launch.py --config=configs/gan.py',
    'python launch.py --config=configs/cnn.py --config.batchsize=3',
    'python -m digits evaluate --workdir=runs/cnn --split=all',
    'digits score --workdir=runs/cnn',
    'pip install -r requirements-dev.txt',
    'pip install ".[jupyter]"',
    'tensorboard --dir runs',
    'srun --nodes=2 python launch.py --config=configs/cnn.py --num_tasks=3',
    'python -m measurements.faults --trial=100',
    'python -m pytest tests/test_nothing.py',
  ],
)
def test_a_command_that_is_wrong_is_found(command, checkout):
  (words,) = shell.commands_in(f'```sh\n{command}\n```')
  with pytest.raises((AssertionError, errors_lib.UsageError, ImportError)):
    shell.check(words)


def test_the_main_commands_are_one_line_each_in_an_environment_of_their_own():
  begin = 'python3 -m venv .venv && . .venv/bin/activate && pip install -r '
  mains = [line.removeprefix(begin) for line in README.splitlines() if line.startswith(begin)]
  assert mains == [
    'requirements.txt && python launch.py --config=configs/cnn.py',
    'tests/requirements.txt && python -m pytest',
  ]


COMPARISON = json.loads((conftest.ROOT / 'results' / 'compare.json').read_text())


@pytest.mark.parametrize('model', ['softmax', 'mlp', 'cnn'])
def test_the_table_is_that_of_the_committed_comparison(model):
  scores = COMPARISON['models'][model]
  assert scores['test']['accuracy']['n'] == COMPARISON['num_seeds'] == 10
  for key, decimals in (('accuracy', 6), ('loss', 6)):
    spread = scores['test'][key]
    assert spread['mean'] == pytest.approx(statistics.mean(spread['per_seed']), abs=10**-decimals)
    assert spread['std'] == pytest.approx(statistics.stdev(spread['per_seed']), abs=10**-decimals)
  accuracy, loss, published = scores['test']['accuracy'], scores['test']['loss'], scores['published']
  single = json.loads((conftest.ROOT / 'results' / f'{model}.json').read_text())
  row = (
    f'| `{model}` | {100 * accuracy["mean"]:.2f} ± {100 * accuracy["std"]:.2f} % | {100 * published["accuracy"]:.2f} % '
    f'| {loss["mean"]:.4f} ± {loss["std"]:.4f} | {published["loss"]:.4f} | {scores["num_parameters"]:,} '
    f'| {single["seconds"]["total"]:.0f} s |'
  )
  assert row in README.splitlines()


@pytest.mark.parametrize('model', ['softmax', 'mlp', 'cnn', 'cnn_augmented', 'cnn_reading'])
def test_a_configs_header_is_that_of_its_committed_run(model):
  single = json.loads((conftest.ROOT / 'results' / f'{model}.json').read_text())
  header = (conftest.ROOT / 'configs' / f'{model}.py').read_text().split('"""')[1]
  assert f'python launch.py --config=configs/{model}.py' in header
  assert f'{single["test"]["accuracy"]:.2%}' in header
  assert f'{single["test"]["loss"]:.4f}' in header
  assert f'{single["seconds"]["total"]:.0f} s' in header
  assert single['test']['examples'] == 10_000


def test_the_sentences_about_handwriting_are_those_of_the_committed_measurements():
  answers = json.loads((conftest.ROOT / 'results' / 'handwriting.json').read_text())['answers']
  conditions = json.loads((conftest.ROOT / 'results' / 'reading.json').read_text())['conditions']
  right = {name: f'{counts["right"] / counts["strings"]:.1%}'.replace('%', ' %') for name, counts in conditions.items()}
  times = json.loads((conftest.ROOT / 'results' / 'handwriting.json').read_text())['times']
  text = ' '.join(README.split())
  assert answers['images'] == 10_000
  assert min(counts['strings'] for counts in conditions.values()) >= 500
  for sentence in (
    f'is {100 * answers["accuracy"]:.2f} % as they are and {100 * answers["accuracy_prepared"]:.2f} % through the',
    f'and {100 * answers["answers_unchanged"]:.1f} % of its answers stay the same when',
    f'{right["mix"]} are read without an error; with a line ruled through them {right["ruled through"]}, '
    f'with digits that touch {right["touching"]} (',
    f'answered {times["one_image_seconds"]:.1f} s after the command starts, '
    f'and {times["images_per_second"]:,.0f} images per second',
  ):
    assert sentence in text


def test_the_sentences_about_activations_are_those_of_the_committed_study():
  study = json.loads((conftest.ROOT / 'results' / 'activations.json').read_text())
  findings = {(finding['model'], finding['claim']): finding for finding in study['findings']}
  errors = findings['cnn', 'At the end, ReLU makes fewer test errors than sigmoid.']
  mlp_errors = findings['mlp', 'At the end, ReLU makes fewer test errors than sigmoid.']
  flow = findings[
    'cnn', 'With sigmoid, the gradient of the first layer is smaller against that of the last than with ReLU.'
  ]
  zeros = findings['cnn', 'With sigmoid, fewer hidden activations are zero than with ReLU.']
  assert study['num_seeds'] == 3
  assert [finding['verdict'] for finding in (errors, flow, zeros)] == ['supported'] * 3
  assert mlp_errors['verdict'] == 'undecided'
  percent = {name: 100 * value for name, value in errors['numbers'].items()}
  ratio = flow['numbers']
  text = ' '.join(README.split())
  for sentence in (
    f'{percent["sigmoid"]:.1f} % test errors, ReLU {percent["relu"]:.2f} %, tanh {percent["tanh"]:.2f} %',
    f"gradient is {ratio['sigmoid']:.3f} times the last one's, with ReLU {ratio['relu']:.1f} times",
    f'sigmoid makes {100 * mlp_errors["numbers"]["sigmoid"]:.2f} % errors and ReLU '
    f'{100 * mlp_errors["numbers"]["relu"]:.2f} %, which three seeds do not tell apart',
    f'ReLU activations {zeros["numbers"]["relu"]:.0%} are zero'.replace('%', ' %'),
  ):
    assert sentence in text


@pytest.mark.parametrize('experiment', ['activations', 'sweep'])
def test_the_header_of_an_experiment_is_that_of_its_committed_run(experiment):
  results = json.loads((conftest.ROOT / 'results' / f'{experiment}.json').read_text())
  header = (conftest.ROOT / 'configs' / f'{experiment}.py').read_text().split('"""')[1]
  if experiment == 'sweep':
    best = results['trials'][0]
    assert f'learning rate {best["values"]["learning_rate"]}' in header
    assert f'weight decay {best["values"]["weight_decay"]}' in header
    assert f'validation loss {best["valid"]["loss"]:.4f}' in header
  else:
    numbers = [finding['numbers'] for finding in results['findings'] if finding['claim'].startswith('At the end, ReLU')]
    for errors in numbers:
      assert f'sigmoid {errors["sigmoid"]:.2%}'.replace('%', ' %') in header
      assert f'ReLU {errors["relu"]:.2%}'.replace('%', ' %') in header


FAULTS = json.loads((conftest.ROOT / 'results' / 'faults.json').read_text())


def test_reliability_is_that_of_the_committed_campaign():
  rows = re.findall(r'^\| `(\w+)`: .* \| (\d+) \| (\d+) \|$', README, re.MULTILINE)
  kinds = FAULTS['kinds']
  assert {kind: (int(trials), int(lost)) for kind, trials, lost in rows} == {
    kind: (row['trials'], row['lost']) for kind, row in kinds.items()
  }
  for row in kinds.values():
    assert sum(row['outcomes'].values()) == row['trials']
    assert row['outcomes'].get('lost', 0) == row['lost']
  assert set(FAULTS['caught']) == {'no-checksums', 'no-lock', 'forgetful'}
  assert all(FAULTS['caught'].values())
  struck = kinds['disk']['trials'] - kinds['disk']['outcomes'].get('not hit', 0)
  assert f'of the `disk` trials {struck} struck' in ' '.join(README.split())


def record_rows():
  """The rows of the table of the record, of the committed results."""
  record = json.loads((conftest.ROOT / 'results' / 'record.json').read_text())
  rows = []
  for name, scores in {'cnn': COMPARISON['models']['cnn'], **record['models']}.items():
    accuracy, loss = scores['test']['accuracy'], scores['test']['loss']
    seconds = scores['seconds']['total']['mean']
    time = f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.1f} min'
    if name != 'cnn' and scores['devices'] != ['cpu']:
      time += ' on a GPU'
    rows.append(
      f'| `{name if name == "cnn" else f"cnn_{name}"}` | {accuracy["n"]} | {100 * accuracy["mean"]:.2f} ± '
      f'{100 * accuracy["std"]:.2f} % | {loss["mean"]:.4f} ± {loss["std"]:.4f} | {scores["num_parameters"]:,} '
      f'| {time} |'
    )
  for name, scores in record['ensembles'].items():
    low, high = scores['interval_95']
    members = scores['members']
    size = members * record['models'][name]['num_parameters'] if name != 'all' else None
    rows.append(
      f'| {"all" if name == "all" else f"`cnn_{name}`"}, averaged | {members} | {100 * scores["accuracy"]:.2f} % '
      f'({100 * low:.2f} to {100 * high:.2f}) | {scores["loss"]:.4f} | {f"{size:,}" if size else ""} | |'
    )
  return rows


def test_the_table_of_the_record_is_that_of_the_committed_results():
  section = README.split('## The record')[1].split('\n## ')[0]
  table = section.split('\n\n')[3].splitlines()
  assert table[:2] == [
    '| recipe | networks | test accuracy | test loss | parameters | time |',
    '|---|---|---|---|---|---|',
  ]
  assert table[2:] == record_rows()


def test_the_sentences_about_the_record_are_those_of_the_committed_results():
  record = json.loads((conftest.ROOT / 'results' / 'record.json').read_text())
  (pair,) = [pair for pair in record['pairs'] if (pair['a'], pair['b']) == ('record', 'distilled')]
  numbers = [findings.signed(value) for value in (pair['difference'], *pair['interval_95'])]
  text = ' '.join(README.split())
  assert f'one of them ({numbers[0]} points, 95 % interval {numbers[1]} to {numbers[2]})' in text
  for name in ('large', 'distilled', 'record'):
    header = ' '.join((conftest.ROOT / 'configs' / f'cnn_{name}.py').read_text().split('"""')[1].split())
    accuracy = record['models'][name]['test']['accuracy']
    assert f'test accuracy {100 * accuracy["mean"]:.2f} ± {100 * accuracy["std"]:.2f} %' in header
  assert f'probabilities: {100 * record["ensembles"]["large"]["accuracy"]:.2f} %' in (
    conftest.ROOT / 'configs' / 'cnn_large.py'
  ).read_text().replace('\n', ' ')


def test_the_sentences_about_the_explanation_are_those_of_the_committed_results():
  explained = json.loads((conftest.ROOT / 'results' / 'explain.json').read_text())
  assert explained['num_seeds'] == 5
  means = {
    name: {measure: statistics.mean(values) for measure, values in recipe['measures'].items()}
    for name, recipe in explained['recipes'].items()
  }
  verdicts = [finding['verdict'] for finding in explained['findings']]
  counts = [verdicts.count(verdict) for verdict in findings.VERDICTS]

  def right(name, measure='accuracy', decimals=2):
    return f'{100 * means[name][measure]:.{decimals}f} %'

  def wrong(name):
    return f'{100 * (1 - means[name]["accuracy"]):.2f} %'

  text = ' '.join(README.split())
  for sentence in (
    f'of {len(verdicts)} claims, {counts[0]} are supported, {counts[1]} are contradicted and {counts[2]} undecided.',
    f'the perceptron is right on {right("mlp_linear")}, softmax regression on {right("softmax")}.',
    f'ten times as many parameters makes {wrong("mlp_ten_times")} errors, the CNN {wrong("cnn")}.',
    f'is right on {right("mlp_permuted")} ({right("mlp")} before), and the CNN on {right("cnn_permuted")}.',
    f'with 3,000 images it is right on {right("cnn_of_3000")}, the perceptron with 30,000 on {right("mlp_of_30000")}.',
    f'by 2 pixels it keeps {right("cnn", "shift_2", 1)} (the perceptron {right("mlp", "shift_2", 1)}), by 4 only '
    f'{right("cnn", "shift_4", 1)}.',
    f'found in forty steps, leave {right("cnn", "pgd_0.2", 1)}.',
  ):
    assert sentence in text
  claims = {finding['claim']: finding['verdict'] for finding in explained['findings']}
  for claim, verdict in (
    ('Without its nonlinearity it is no better: within half a point of softmax regression.', 'supported'),
    ('It beats even one of ten times as many.', 'supported'),
    ('It loses its whole lead over the MLP.', 'supported'),
    ('It is invariant to shifts: 4 pixels, a seventh of the image, cost it less than 2 points.', 'contradicted'),
  ):
    assert claims[claim] == verdict
  assert claims['With a tenth of the images it is better than the MLP with all.'] == 'undecided'


def test_the_sentences_about_the_ablation_are_those_of_the_committed_results():
  ablation = json.loads((conftest.ROOT / 'results' / 'ablation.json').read_text())
  assert ablation['num_seeds'] == 5
  points = {(pair['a'], pair['b']): f'{abs(100 * pair["difference"]):.2f}' for pair in ablation['pairs']}
  losses = ('everything', 'with_erasing'), ('everything', 'with_averaging'), ('softmax', 'softmax_augmented')
  assert {(pair['a'], pair['b']) for pair in ablation['pairs'] if pair['difference'] < 0} == {*losses}
  significant = {(pair['a'], pair['b']) for pair in ablation['pairs'] if findings.is_significant(pair)}
  assert significant == {('nothing', 'everything'), ('softmax', 'softmax_augmented')}
  names = 'affine', 'elastic', 'thickness', 'smoothing'
  alone = [points['nothing', f'only_{name}'] for name in names]
  left_out = [points[f'without_{name}', 'everything'] for name in names]
  erasing, averaging, softmax = (points[pair] for pair in losses)
  text = ' '.join(README.split())
  for sentence in (
    f'together they gain {points["nothing", "everything"]} points; affine changes alone {alone[0]}, elastic ones '
    f'{alone[1]}, thickness {alone[2]}, label smoothing {alone[3]}.',
    f'Without one of them, {left_out[0]}, {left_out[1]}, {left_out[2]} and {left_out[3]} are lost.',
    f'To erase a patch costs {erasing} points and to average the weights {averaging}.',
    f'The perceptron gains {points["mlp", "mlp_augmented"]} points;',
    f'loses {softmax}. Only the first and the last of these differences are significant by both tests',
  ):
    assert sentence in text


def test_the_sentences_about_transfer_are_those_of_the_committed_measurement():
  measured = json.loads((conftest.ROOT / 'results' / 'transfer.json').read_text())
  models = [measured[name] for name in ('cnn', 'cnn_augmented', 'cnn_reading')]
  plain, _, reading = models
  section = ' '.join(README.split('Augmentation helps with real writing')[1].split('\n\n')[0].split())
  assert [one['photos']['digits'] for one in models] == [25] * 3
  right = [one['photos']['right'] for one in models]
  assert f'`cnn` reads {right[0]} rightly, `cnn_augmented` {right[1]} and `cnn_reading` {right[2]}' in section
  strings = [f'{100 * one["strings"]["right"] / one["strings"]["strings"]:.1f} %' for one in models]
  assert f'of the strings {strings[0]}, {strings[1]} and {strings[2]}' in section
  assert len(plain['corruptions']['accuracy']) == 15
  means = [100 * one['corruptions']['mean'] for one in (reading, plain)]
  assert f'accuracy is {means[0]:.1f} % on average where `cnn` reaches {means[1]:.1f} %' in section
  lower = [
    name.replace('_', ' ')
    for name, accuracy in reading['corruptions']['accuracy'].items()
    if accuracy < plain['corruptions']['accuracy'][name]
  ]
  assert f'it is lower under {", ".join(lower[:-1])} and {lower[-1]}.' in section


def test_the_table_of_photographs_is_that_of_the_committed_measurements():
  now, before = (
    json.loads((conftest.ROOT / 'results' / f'{name}.json').read_text()) for name in ('paper', 'paper_before')
  )
  assert (now['split'], now['seed']) == (before['split'], before['seed']) == ('test', 0)
  rows = []
  for kind, counts in now['kinds'].items():
    old = before['kinds'][kind]
    assert (counts['num'], old['num']) == (now['num'], before['num']) == (200, 40)
    shares = old['text'] / old['num'], counts['text'] / counts['num'], counts['digits'] / counts['num']
    rows.append(f'| {kind} | ' + ' | '.join(f'{100 * share:.0f} %' for share in shares) + ' |')
  assert list(now['kinds']) == list(paper.KINDS)
  table = README.split('| photographs | text before | text now | digits now |\n|---|---|---|---|\n')[1].split('\n\n')[0]
  assert table.splitlines() == rows
  sure, right = (sum(counts[name] for counts in now['kinds'].values()) for name in ('sure', 'sure_right'))
  text = ' '.join(README.split())
  assert f'on {before["num"]} pictures of each kind' in text
  assert f'now there are {now["num"]}. Of the answers that are at least 95 % sure, ' in text
  assert f'at least 95 % sure, {100 * right / sure:.1f} % are right' in text
