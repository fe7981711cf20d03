import json
import re
import shutil
import subprocess

import matplotlib.figure
import numpy as np
import pytest
from support import chromium, own_models
from support.comparisons import make_comparison, make_history, make_runs, make_split
from support.outline import Outline

from digits import errors, statistics
from digits.models.activations import ACTIVATIONS
from digits.report import figures, findings, sections
from digits.report import page as page_lib
from digits.report import summary as comparison_lib


@pytest.fixture(scope='module')
def comparison():
  return make_comparison({'softmax': 2.0, 'mlp': 3.0, 'cnn': 4.0}, num_test=400)


@pytest.fixture(scope='module')
def written(comparison, tmp_path_factory):
  """The page, and the figures drawn for it."""
  drawn = []
  save = matplotlib.figure.Figure.savefig

  def record(self, *args, **kwargs):
    drawn.append(self)
    return save(self, *args, **kwargs)

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', record)
    page = page_lib.write_report(comparison, tmp_path_factory.mktemp('report'))
  return page, drawn


@pytest.fixture(scope='module')
def page(written):
  return written[0]


def test_the_page_is_one_small_file_that_needs_nothing_else(page):
  text = page.read_text()
  assert len(text.encode()) < 5_000_000
  outline = Outline(text)
  assert all(link.startswith(('#', 'data:')) for link in outline.links)
  assert not re.search(r'url\((?!#)|@import|<script', text)


def test_the_page_is_accessible(page):
  outline = Outline(page.read_text())
  assert len(outline.ids) == len(set(outline.ids))
  assert {link[1:] for link in outline.links if link.startswith('#')} <= set(outline.ids)
  assert outline.headings[0] == 1
  assert set(outline.headings[1:]) == {2}
  tags = [tag for tag, _ in outline.tags]
  assert tags.count('table') == tags.count('caption') > 0
  assert tags.count('figure') == tags.count('figcaption') > 0
  for tag, attrs in outline.tags:
    if tag == 'svg':
      assert attrs['role'] == 'img'
      assert attrs['aria-label'].endswith('.')
    if tag == 'th':
      assert attrs['scope'] in ('row', 'col', 'colgroup')


def test_the_page_to_draw_on_is_in_it(comparison, page):
  (frame,) = [attrs for tag, attrs in Outline(page.read_text()).tags if tag == 'iframe']
  temperature = comparison_lib.summarize(comparison)['models']['mlp']['calibration']['temperature']['per_seed'][0]
  written = json.loads(re.search(r'id="content">(.*)</script>', frame['srcdoc'])[1])
  assert [model['name'] for model in written] == ['softmax', 'mlp', 'cnn']
  assert written[1]['temperature'] == temperature != 1


def test_every_panel_of_the_page_is_written_as_png_and_svg(page):
  names = {attrs['id'] for tag, attrs in Outline(page.read_text()).tags if tag == 'svg'}
  for suffix in ('png', 'svg'):
    assert {path.stem for path in (page.parent / 'figures').glob(f'*.{suffix}')} == names
  assert {'loss-cnn', 'confusion-mlp', 'weights-softmax', 'weights-mlp', 'filters-cnn', 'maps-conv2-cnn'} <= names


def test_hidden_units_are_shown_by_the_norm_of_their_outgoing_weights(comparison, monkeypatch):
  shown = []
  tiles = figures.tiles
  monkeypatch.setattr(
    figures, 'tiles', lambda name, images, **kwargs: shown.append(images) or tiles(name, images, **kwargs)
  )
  runs = comparison.models['mlp']
  norms = np.roll(np.arange(1.0, 13.0), 5)
  params = runs.variables['params'] | {'logits': {'kernel': np.full((10, 12), norms), 'bias': np.zeros(10)}}
  sections._dense_weights('mlp', runs._replace(variables={'params': params}), (28, 28))
  incoming = params['hidden']['kernel']
  np.testing.assert_array_equal(shown[0], incoming[np.argsort(-norms)].reshape(12, 28, 28))


@pytest.fixture(scope='module')
def own_page(tmp_path_factory):
  """The page of recipes of models of one's own, whose names are not those of their models."""
  own_models.register()
  test, valid = make_split(100), make_split(60, seed=1)
  smoothed = {'label_smoothing': 0.1, 'optimizer': {'name': 'adam', 'b1': 0.8}, 'momentum': 0.0, 'nesterov': False}
  models = {
    'described': make_runs(
      'described', 2.0, test, valid, model='own_described', architecture={'inner': 'gelu', 'outer': 'silu'}
    ),
    'silent': make_runs('silent', 3.0, test, valid, model='own_resnet', architecture={'features': 2}, **smoothed),
    'wide': make_runs('wide', 3.0, test, valid, model='mlp'),
  }
  directory = tmp_path_factory.mktemp('own')
  return page_lib.write_report(comparison_lib.Comparison(models, test, valid), directory)


def test_a_model_that_says_nothing_of_its_layers_is_left_out_of_two_parts_and_said_to_be(own_page):
  text = own_page.read_text()
  outline = Outline(text)
  assert text.count('<li>silent does not describe its layers, so it is left out here.</li>') == 2
  (frame,) = [attrs for tag, attrs in outline.tags if tag == 'iframe']
  written = json.loads(re.search(r'id="content">(.*)</script>', frame['srcdoc'])[1])
  assert [(model['name'], model['title']) for model in written] == [
    ('described', 'layers of my own'),
    ('wide', 'one hidden layer'),
  ]
  names = {attrs['id'] for tag, attrs in outline.tags if tag == 'svg'}
  assert {'loss-silent', 'confusion-silent', 'filters-described', 'weights-wide'} <= names
  assert not names & {'filters-silent', 'weights-silent', 'maps-first-described'}  # It sows nothing.


def test_the_page_says_which_loss_a_training_curve_is_and_how_each_model_is_trained(own_page):
  text = own_page.read_text()
  assert text.count('Its training loss is cross-entropy with label smoothing 0.1') == 1
  for row in ('optimizer</th><td>sgd</td><td>adam, b1 0.8</td><td>sgd', 'label smoothing</th><td>0</td><td>0.1</td>'):
    assert row in text
  assert {'augment', 'ema decay'} <= set(re.findall(r'<tr><th scope="row">([a-z ]+)</th>', text))


def test_models_of_which_none_describes_its_layers(tmp_path):
  own_models.register()
  test, valid = make_split(50), make_split(60, seed=1)
  runs = make_runs('silent', 3.0, test, valid, model='own_resnet', architecture={'features': 2})
  text = page_lib.write_report(comparison_lib.Comparison({'silent': runs}, test, valid), tmp_path).read_text()
  assert 'iframe' not in {tag for tag, _ in Outline(text).tags}


def test_the_sentences_are_those_of_the_numbers(comparison, page, tmp_path):
  assert 'Of 3 models, cnn has the highest test accuracy' in page.read_text()
  better, worse = comparison.models['mlp'], comparison.models['softmax']
  models = {
    'softmax': worse._replace(test_logits=better.test_logits),
    'mlp': better._replace(test_logits=worse.test_logits),
  }
  turned = page_lib.write_report(comparison._replace(models=models), tmp_path).read_text()
  assert 'Of 2 models, softmax has the highest test accuracy' in turned


@pytest.mark.parametrize('strength', [0.5, 30.0])
def test_one_model_one_seed_no_validation(tmp_path, strength):
  """All that can be absent is: pairs, deviations, bands, temperatures, disputed labels, errors, a page for digits."""
  comparison = make_comparison({'softmax': strength}, num_test=50, num_valid=0, num_seeds=1, dataset='fashion_mnist')
  text = page_lib.write_report(comparison, tmp_path / 'new' / 'directory').read_text()
  Outline(text)
  text = re.sub(r'base64,[^"]*', '', text)  # Where any letters may follow each other.
  for absent in ('nan', '±', 'Disputed labels', 'Are the differences real', 'emperature of', '<iframe'):
    assert absent not in text
  assert ('every test image correctly' in text) == (strength == 30)


def test_the_same_comparison_gives_the_same_page(tmp_path):
  comparison = make_comparison({'softmax': 1.0}, num_test=50, num_seeds=1)
  first, second = (page_lib.write_report(comparison, tmp_path / name).read_bytes() for name in 'ab')
  assert first == second


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.DigitsError, match='file'):
    page_lib.write_report(make_comparison({'softmax': 1.0}), tmp_path / 'file')


def test_the_hardest_errors_are_wrong_and_in_order():
  comparison = make_comparison({'softmax': 2.0, 'mlp': 2.0}, num_test=400)
  images, num_wrong = sections.find_hardest(comparison, limit=10)
  labels = comparison.test.label
  probs = [statistics.probabilities(runs.test_logits).mean(0) for runs in comparison.models.values()]
  wrong = (probs[0].argmax(-1) != labels) | (probs[1].argmax(-1) != labels)
  assert num_wrong == wrong.sum() > 10
  given = (probs[0] + probs[1])[np.arange(400), labels] / 2
  assert [image.number for image in images] == sorted(np.flatnonzero(wrong), key=lambda i: given[i])[:10]
  first = images[0]
  assert first.label == labels[first.number]
  np.testing.assert_array_equal(first.image, comparison.test.image[first.number, ..., 0])
  assert first.answers['mlp'] == (probs[1][first.number].argmax(), probs[1][first.number].max())


@pytest.mark.parametrize('activation', ['relu', 'tanh'])
def test_feature_maps_are_what_the_next_layer_sees(activation):
  """The oracle applies the first layer as the textbook has it: convolution, activation, then pooling."""
  from jax import lax

  comparison = make_comparison({'cnn': 1.0}, num_test=10)
  runs = comparison.models['cnn']
  model = runs.model.clone(conv_activation=activation)
  image = comparison.test.image[0, ..., 0]
  maps = sections.feature_maps(model, runs.variables, image)
  assert {layer: array.shape for layer, array in maps.items()} == {'conv1': (2, 14, 14), 'conv2': (3, 7, 7)}
  conv1 = runs.variables['params']['conv1']
  outputs = lax.conv_general_dilated(
    (image / np.float32(255))[None, None], conv1['kernel'], (1, 1), 'SAME', dimension_numbers=('NCHW', 'HWIO', 'NCHW')
  )
  outputs = np.asarray(ACTIVATIONS[activation].function(outputs + conv1['bias'].reshape(1, -1, 1, 1)))[0]
  expected = outputs.reshape(2, 14, 2, 14, 2).max((2, 4))
  np.testing.assert_allclose(maps['conv1'], expected, atol=1e-5)


def test_learning_curve_counts_epochs_and_keeps_what_all_seeds_recorded():
  long, short = make_history(3), make_history(3)[:-3]
  curve = figures.learning_curve([long, short], 'valid', 'loss')
  np.testing.assert_allclose(curve.epochs, [1, 2])
  np.testing.assert_allclose(curve.values, [[0.5, 0.25]] * 2)
  np.testing.assert_allclose(figures.learning_curve([long], 'train', 'loss').epochs, [0.6, 1, 1.6, 2, 2.6, 3])
  assert figures.learning_curve([[]], 'train', 'loss') is None


def test_every_axis_has_a_label(written):
  _, drawn = written
  assert drawn
  for figure in drawn:
    for axes in figure.axes:
      for axis in (axes.xaxis, axes.yaxis):
        if axes.axison and len(axis.get_ticklocs()):
          assert axis.get_label_text(), figure


def _chromium(tmp_path, *arguments):
  chromium = shutil.which('chromium')
  if chromium is None:
    pytest.skip('needs chromium: apt-get install chromium')
  flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync']
  flags += ['--disable-background-networking', '--disable-component-update']
  flags += ['--allow-file-access-from-files', '--enable-logging=stderr']
  command = [chromium, *flags, f'--user-data-dir={tmp_path / "profile"}', *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.browser
@pytest.mark.parametrize('width', [1280, 375])
def test_the_page_fits_the_screen_and_the_console_is_empty(page, tmp_path, width):
  # In a frame, because a window of chromium is never narrower than 500 pixels.
  frame = tmp_path / 'frame.html'
  frame.write_text(
    f'<iframe src="{page.as_uri()}" style="width: {width}px; height: 800px; border: 0"></iframe><output></output>'
    '<script>onload = () => {'
    'const root = document.querySelector("iframe").contentDocument.documentElement;'
    'document.querySelector("output").textContent = `${root.scrollWidth} of ${root.clientWidth}`;'
    '}</script>'
  )
  done = _chromium(tmp_path, '--window-size=1400,900', '--dump-dom', frame.as_uri())
  scroll, client = map(int, re.search(r'<output>(\d+) of (\d+)</output>', done.stdout).groups())
  assert scroll == client
  assert width - 20 <= client <= width  # Less a scroll bar.
  assert 'CONSOLE' not in done.stderr


@pytest.mark.browser
@pytest.mark.skipif(chromium.BINARY is None, reason='needs chromium: apt-get install chromium')
@pytest.mark.parametrize(('width', 'height'), [(1280, 900), (390, 844)])
def test_a_digit_drawn_in_the_report_is_answered(page, width, height):
  with chromium.Page(page.as_uri()) as opened:
    opened.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
    frame = opened.evaluate(
      """new Promise(done => {
        const frame = document.querySelector('iframe');
        const ready = () => {
          const pad = frame.contentDocument?.getElementById('pad');
          if (!pad) return setTimeout(ready, 50);
          const {x, y} = frame.getBoundingClientRect(), inner = pad.getBoundingClientRect();
          done({x: x + inner.x, y: y + inner.y, side: inner.width, hidden: innerHeight < y + inner.y + inner.width});
        };
        frame.scrollIntoView();
        ready();
      })"""
    )
    assert not frame['hidden']
    x = frame['x'] + frame['side'] / 2
    for i, kind in enumerate(['mousePressed', *['mouseMoved'] * 8, 'mouseReleased']):
      y = frame['y'] + frame['side'] * (0.2 + 0.06 * i)
      opened.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', buttons=1, clickCount=1)
    inner = 'document.querySelector("iframe").contentDocument'
    assert opened.evaluate(f'{inner}.querySelectorAll(".best").length') == 3
    assert opened.evaluate(f'{inner}.documentElement.scrollWidth <= {inner}.documentElement.clientWidth')
    opened.call('Emulation.setEmulatedMedia', media='print')
    assert opened.evaluate('getComputedStyle(document.querySelector(".drawing")).display') == 'none'
    assert opened.problems() == []


def test_differences_are_drawn_on_an_axis_on_which_small_ones_can_be_told_apart():
  small = [
    {'a': 'a', 'b': 'b', 'difference': 0.001 * i, 'interval_95': [0.001 * i - 5e-4, 0.001 * i + 5e-4]} for i in (1, 2)
  ]
  large = {'a': 'b', 'b': 'c', 'difference': -0.5, 'interval_95': [-0.6, -0.4]}
  assert figures.differences(small).figure.axes[0].get_xscale() == 'linear'
  panel = figures.differences([*small, *small, large])
  assert panel.figure.axes[0].get_xscale() == 'symlog'
  assert panel.alt.endswith('b minus a: +0.20 points, +0.15 to +0.25. c minus b: -50.00 points, -60.00 to -40.00.')


def test_the_best_model_leads_no_other_that_it_was_not_compared_with():
  models = {name: {'test': {'accuracy': {'mean': mean, 'n': 2}}} for name, mean in (('a', 0.9), ('b', 0.8), ('c', 0.7))}
  pairs = [{'a': 'a', 'b': other, 'interval_95': [-0.2, -0.1], 'mcnemar_p': 0.001} for other in ('b', 'c')]
  assert findings.best_model(models, pairs).endswith('; its lead over each other model is significant.')
  assert findings.best_model(models, pairs[:1]).endswith('90.00\u00a0% (mean of 2 seeds).')
