"""The page of a study, and the page that lists all results in a folder."""

import html
import json
import math
import pathlib
import re
import shutil

import conftest
import pytest
from support import chromium
from support.outline import Outline

import digits
from digits import config as config_lib
from digits import errors
from digits.commands import cli, report
from digits.experiments import collect, runner
from digits.report import figures, findings, index, study
from digits.runtime import sealed_json

CLAIMS = [
  study.Claim('Water is <wet>.', 'supported', 'It wets 3 of 3.'),
  study.Claim('Fire is cold.', 'contradicted', 'It burns at 600 °C.'),
  study.Claim('Snow is warm.', 'undecided', 'Between −1 and 1 °C.'),
]


def _make_study(**changes):
  panels = []
  with figures.style():
    for name in ('first', 'second'):
      drawing, axes = figures.new(2.0, name)
      axes.plot([0, 1], [0, 1])
      axes.set(xlabel='x', ylabel='y')
      panels.append(figures.Panel(f'panel-{name}', f'The {name} line.', drawing))
  sections = [
    study.Section('What is asked', ['One paragraph & more.', 'Another one.']),
    study.Section('Water', (), CLAIMS[:1], [figures.Figure(panels, 'Two lines.')]),
    study.Section('The rest', ['Text.'], CLAIMS[1:]),
  ]
  return study.Study('What things do', 'A lead.', sections, {'All results': '../index.html'})._replace(**changes)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  return study.write_study(_make_study(), tmp_path_factory.mktemp('study') / 'new')


def test_all_that_a_study_says_is_on_its_page(page):
  text = page.read_text()
  visible = html.unescape(re.sub(r'<[^>]*>', ' ', text))
  for said in ('What things do', 'A lead.', 'What is asked', 'One paragraph & more.', 'Another one.', 'Two lines.'):
    assert said in visible
  assert 'Of 3 claims, 1 is supported, 1 is contradicted and 1 is undecided.' in visible
  for claim in CLAIMS:
    assert visible.count(claim.claim) == 2
    assert visible.count(claim.sentence) == 1
    assert text.count(f'<span class="badge {claim.verdict}">{claim.verdict}</span>') == 2


def test_the_page_is_one_file_whose_links_lead_somewhere(page):
  text = page.read_text()
  outline = Outline(text)
  assert text.startswith('<!DOCTYPE html>')
  assert not re.search(r'url\((?!#)|@import|<script|https?://(?!www\.w3\.org)', text)
  assert len(outline.ids) == len(set(outline.ids))
  inner = [link[1:] for link in outline.links if link.startswith('#')]
  assert set(inner) <= set(outline.ids)
  assert {f'claim-{i}' for i in (1, 2, 3)} <= set(inner)
  assert {link for link in outline.links if not link.startswith(('#', 'data:'))} == {'../index.html'}
  assert outline.headings == [1, 2, 2, 2]


def test_every_panel_of_a_study_is_written(page):
  names = sorted(path.name for path in (page.parent / 'figures').iterdir())
  assert names == [f'panel-{name}.{suffix}' for name in ('first', 'second') for suffix in ('png', 'svg')]
  assert {'panel-first', 'panel-second'} <= set(Outline(page.read_text()).ids)


def test_what_a_study_does_not_have_is_not_on_its_page(tmp_path):
  text = study.write_study(
    _make_study(sections=[study.Section('Only text', ['Text.'])], links={}), tmp_path
  ).read_text()
  Outline(text)
  assert 'Related pages' not in text
  assert '<span class="badge' not in text
  assert 'claims' not in re.sub(r'<style>.*</style>', '', text, flags=re.DOTALL)
  assert not (tmp_path / 'figures').exists()


def test_a_study_that_cannot_be_written_is_one_sentence(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.DigitsError, match='file'):
    study.write_study(_make_study(), tmp_path / 'file')


def test_verdicts_are_counted():
  assert findings.verdicts([]) == ''
  assert findings.verdicts(['undecided']) == 'The one claim is undecided.'
  assert findings.verdicts(['supported'] * 2) == 'Of 2 claims, 2 are supported.'


def _luminance(color):
  values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_and_badges_have_enough_contrast_in_both_themes(page):
  light, dark = re.findall(r':root \{(.*?)\}', page.read_text(), re.DOTALL)[:2]
  for theme in (light, dark):
    colors = dict(re.findall(r'--([\w-]+): (#[0-9a-f]{6})', theme))
    for name in ('ink', 'muted', 'link', *findings.VERDICTS):
      lower, higher = sorted([_luminance(colors[name]), _luminance(colors['paper'])])
      assert (higher + 0.05) / (lower + 0.05) >= 4.5, name


@pytest.mark.browser
@pytest.mark.skipif(chromium.BINARY is None, reason='needs chromium: apt-get install chromium')
@pytest.mark.parametrize('width', [1280, 390])
def test_a_study_fits_the_screen(page, width):
  with chromium.Page(page.as_uri()) as opened:
    opened.call('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    assert opened.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth')
    assert opened.problems() == []


# The list of results.


@pytest.fixture(scope='module')
def results(tmp_path_factory, prepared_data_dir):
  """A folder with a comparison, a run, and a run that was never started again."""
  root = tmp_path_factory.mktemp('results') / 'runs'
  shipped = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / 'softmax.py'))
  small = {'data_dir': str(prepared_data_dir), 'num_validation': 60}
  tiny = shipped | small | {'epochs': 1, 'batch_size': 32, 'eval_batch_size': 50}
  digits.run(config_lib.from_dict(tiny), root / 'softmax')
  digits.run(config_lib.from_dict(tiny), root / 'deep' / 'er' / 'a run')
  compared = config_lib.to_dict(config_lib.load_config(conftest.ROOT / 'configs' / 'compare.py'))
  compared |= small | {'recipes': {'one': tiny, 'two': tiny | {'epochs': 2}}, 'num_seeds': 2}
  digits.run(config_lib.from_dict(compared), root / 'compare')
  (root / 'begun').mkdir()
  shutil.copy(root / 'softmax' / 'config.json', root / 'begun')
  return root


@pytest.fixture
def runs(results, tmp_path):
  return shutil.copytree(results, tmp_path / 'runs')


def _list(runs, capsys, *arguments):
  report.run(report.parse([f'--workdir={runs}', *arguments]))
  return capsys.readouterr().out


def test_the_list_has_finished_unfinished_and_nested_results(runs, capsys):
  listed = json.loads(_list(runs, capsys, '--json'))
  found = {one['workdir']: one for one in listed['experiments']}
  assert list(found) == ['begun', 'deep/er/a run', 'softmax', 'compare']
  assert [one['state'] for one in found.values()] == ['unfinished', 'finished', 'finished', 'finished']
  single = json.loads((runs / 'softmax' / 'results.json').read_text())
  assert found['softmax']['headline'] == (
    f'Test accuracy: {100 * single["test"]["accuracy"]:.2f} %, loss {single["test"]["loss"]:.4f}.'
  )
  assert (found['softmax']['num_seeds'], found['softmax']['seconds']) == (1, single['seconds']['total'])
  compared = found['compare']
  assert (compared['subject'], compared['num_seeds'], compared['report']) == ('one, two', 2, 'compare/report.html')
  members = [json.loads(path.read_text()) for path in runs.glob('compare/*/seed-*/results.json')]
  assert len(members) == 4
  assert compared['seconds'] == pytest.approx(sum(one['seconds']['total'] for one in members))
  text = pathlib.Path(listed['index']).read_text()
  outline = Outline(text)
  assert [link for link in outline.links if not link.startswith(('#', 'data:'))] == ['compare/report.html']
  assert '<span class="badge unfinished">unfinished</span> The command that began it continues it.' in text
  assert compared['headline'] in text.replace('\u00a0', ' ')
  assert re.findall('<h2[^>]*>(.*)</h2>', text) == ['Train', 'Compare']
  assert not re.search(r'url\(|@import|<script|https?:', text)


def test_damaged_results_are_said_and_do_not_stop_the_list(runs, capsys):
  path = runs / 'softmax' / 'results.json'
  path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
  (runs / 'compare' / 'config.json').write_text('{')
  (runs / 'deep' / 'er' / 'a run' / 'config.json').unlink()
  sealed_json.write(runs / 'begun' / 'config.json', {'experiment': 'guess'})
  (runs / 'old').mkdir()
  sealed_json.write(runs / 'old' / 'config.json', {'experiment': 'train', 'model': 'cnn'})
  sealed_json.write(runs / 'old' / 'results.json', {'experiment': 'train', 'accuracy': 0.9})
  (runs / 'older').mkdir()
  sealed_json.write(runs / 'older' / 'config.json', {'experiment': 'train'})
  printed = _list(runs, capsys)
  assert f'softmax: damaged. {path} is damaged (its content does not match its SHA-256).' in printed
  assert f'compare: damaged. {runs}/compare/config.json is damaged (it is not JSON).' in printed
  assert 'a run: damaged. Its config.json is missing.' in printed
  assert "begun: damaged. This version knows no experiment 'guess'." in printed
  assert 'old: damaged. Its config.json or its results.json does not hold what this version writes.' in printed
  assert 'older: damaged. Its config.json or its results.json does not hold what this version writes.' in printed
  text = (runs / 'index.html').read_text()
  assert re.findall('<h2[^>]*>(.*)</h2>', text) == ['Train', 'Of unknown kind']
  assert text.count('class="badge damaged"') == 6


def test_the_report_of_an_experiment_is_written_again(runs, capsys):
  page = runs / 'compare' / 'report.html'
  before = page.read_bytes()
  page.unlink()
  printed = _list(runs / 'compare', capsys)
  assert page.read_bytes() == before
  assert printed.startswith('compare: Test accuracy: one ')
  assert printed.endswith(f'The page is {runs}/compare/index.html.\n')
  assert 'href="report.html"' in (runs / 'compare' / 'index.html').read_text()
  assert 'seed-' not in (runs / 'compare' / 'index.html').read_text()
  # A recipe's own folder is asked for by name.
  assert len(_list(runs / 'compare' / 'one', capsys).splitlines()) == 3


def test_a_report_whose_runs_are_gone_fails_after_the_list_is_written(runs, capsys):
  shutil.rmtree(runs / 'compare' / 'two')
  with pytest.raises(errors.UsageError, match='two/seed-0 is not the workdir of a run'):
    _list(runs / 'compare', capsys)
  assert (runs / 'compare' / 'index.html').exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'arguments are required: --workdir'),
    (['--workdir=none'], 'none is not a directory: name one that holds results.'),
    (['--workdir=empty'], 'There are no results in empty'),
    (['--workdir=empty', 'x'], 'Unrecognized arguments: x'),
  ],
)
def test_wrong_calls_are_one_sentence(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UsageError, match=re.escape(message)):
    cli._dispatch(['report', *arguments])
  assert not list((tmp_path / 'empty').iterdir())


@pytest.mark.parametrize('name', config_lib.CONFIGS)
def test_every_experiment_says_in_a_sentence_what_came_out(name):
  if name == 'ensemble':
    ensembles = {'a': {'members': 2, 'accuracy': 0.99, 'single': {'mean': 0.98}}}
    results = {'experiment': name, 'ensembles': ensembles}
  else:
    file = {'train': 'cnn'}.get(name, name)
    results = json.loads((conftest.ROOT / 'results' / f'{file}.json').read_text())
  said = runner.headline(results)
  assert said.endswith('.')
  assert '\n' not in said
  assert {
    'train': 'Test accuracy: 99.',
    'compare': 'Test accuracy: softmax 92.54 ± 0.07 %, mlp ',
    'activations': 'Of 16 claims, 10 are supported, ',
    'ensemble': 'Test accuracy of all 2 networks together: 99.00 %; of one, on average: 98.00 %.',
    'ablation': '2 of ',
    'sweep': 'The best of ',
    'explain': 'Of 32 claims, 24 are supported, ',
  }[name] in said


@pytest.mark.parametrize('name', ['ablation', 'activations', 'compare', 'explain', 'sweep'])
def test_committed_results_are_listed_as_finished(tmp_path, name):
  config = config_lib.load_config(conftest.ROOT / 'configs' / f'{name}.py')
  results = json.loads((conftest.ROOT / 'results' / f'{name}.json').read_text())
  (tmp_path / name).mkdir()
  sealed_json.write(tmp_path / name / 'config.json', config_lib.to_dict(config))
  sealed_json.write(tmp_path / name / 'results.json', {key: value for key, value in results.items() if key != 'sha256'})
  (entry,) = collect.collect(tmp_path)
  assert entry.state == 'finished'
  assert entry.headline == runner.headline(results)


def test_times_are_said_in_the_unit_that_fits():
  assert [index.say_seconds(value) for value in (None, 4.24, 119, 150, 7200, 86400)] == [
    '\u2013',
    '4.2\u00a0s',
    '119.0\u00a0s',
    '2.5\u00a0min',
    '2.0\u00a0h',
    '24.0\u00a0h',
  ]
  assert math.isclose(collect._count_seconds({'seconds': {'total': 3.0}}), 3.0)
  assert collect._count_seconds({'trials': []}) is None
