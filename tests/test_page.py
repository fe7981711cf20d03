"""The page to draw on: its layers and its preparation are Python's, in a real browser and without one."""

import base64
import hashlib
import html
import io
import json
import pathlib
import re
import shutil
import subprocess
import zlib

import conftest
import jax
import numpy as np
from PIL import Image
import pytest
from support import chromium
from support.own_models import OwnResNet, random_variables

from digits import errors
from digits.export import drawing_page
from digits.handwriting import prepare
from digits.models import layers as layers_lib
from digits.train import step as step_lib

PAGE = conftest.ROOT / 'page'
NODE = shutil.which('node')
needs_node = pytest.mark.skipif(NODE is None, reason='Node is not installed: apt-get install nodejs')
needs_packages = pytest.mark.skipif(not (PAGE / 'node_modules').exists(), reason='Run npm ci in page/ first.')

needs_chromium = pytest.mark.skipif(
  chromium.BINARY is None, reason='Chromium is not installed: apt-get install chromium'
)
browser = [pytest.mark.browser, needs_chromium]


def _models():
  """Random models by name, with what the page shows of each."""
  from test_export import make_run

  runs = {
    'softmax': make_run('softmax'),
    'mlp': make_run('mlp', activation='tanh'),
    'cnn': make_run('cnn', kernel_size=4),
    'mlp_elu': make_run('mlp', activation='elu'),
    'cnn_silu': make_run('cnn', features=(3, 4), conv_activation='silu'),
    'own': make_run('own_described', inner='gelu', outer='identity'),
  }
  return {
    name: drawing_page.Answerer(
      run.model, run.params, title=run.config.model, temperature=1.5, accuracy={'softmax': 0.92}.get(name)
    )
    for name, run in runs.items()
  }


def test_the_page_is_one_file_with_the_parameters_in_it():
  models = _models()
  content = drawing_page.to_html(models).decode()
  assert len(content) < 2_000_000
  # The namespace of SVG is a name.
  code = content.replace('http://www.w3.org/2000/svg', '')
  assert not re.search(r'src\s*=|<[^>]* href|https?:|@import|url\(|fetch\(|XMLHttp', code)
  written = json.loads(re.search(r'id="content">(.*)</script>', content)[1])
  assert [model['name'] for model in written] == list(models)
  layers = written[2]['layers']
  block = ['convolution', 'activation', 'max_pool']
  assert [layer['kind'] for layer in layers] == block * 3 + ['dense', 'activation', 'dense']
  assert [layer['activation'] for layer in layers if 'activation' in layer] == ['relu'] * 3 + ['sigmoid']
  assert [layer['name'] for layer in layers if 'name' in layer] == ['conv1', 'conv2', 'conv3', 'hidden', 'logits']
  kernel = np.frombuffer(base64.b64decode(layers[0]['kernel']), '<f4').reshape(layers[0]['shape'])
  np.testing.assert_array_equal(kernel, models['cnn'].params['conv1']['kernel'])
  kernel = np.frombuffer(base64.b64decode(layers[-1]['kernel']), '<f4').reshape(layers[-1]['shape'])
  np.testing.assert_array_equal(kernel, models['cnn'].params['logits']['kernel'].T)


def test_the_policy_lets_only_the_pages_own_script_and_style_in():
  content = drawing_page.to_html(_models()).decode()
  policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', content)[1]
  parts = [re.search(rf'<{tag}>(.*?)</{tag}>', content, re.DOTALL)[1] for tag in ('script', 'style')]
  script, style = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
  assert policy == (
    f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
  )


def test_names_cannot_end_the_script():
  models = _models()
  models['mlp'] = models['mlp']._replace(title='</script><!--<script>alert(1)//')
  content = drawing_page.to_html({'<b>': models['mlp']}).decode()
  assert content.count('<script') == content.count('</script>') == 2
  written = json.loads(re.search(r'id="content">(.*)</script>', content)[1])
  assert (written[0]['name'], written[0]['title']) == ('<b>', '</script><!--<script>alert(1)//')


def _unpack(text):
  return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


# The page meets the same: page/test/preparation.test.js.
@pytest.mark.parametrize(
  'vector', json.loads((PAGE / 'test' / 'preparation.json').read_text()), ids=lambda vector: vector['name']
)
def test_python_prepares_what_the_page_is_tested_with(vector):
  levels = _unpack(vector['levels']).reshape(1, vector['height'], vector['width'])
  np.testing.assert_array_equal(prepare.prepare(levels).ravel(), _unpack(vector['prepared']))


def test_the_page_was_built_since_its_sources_changed():
  sources = b''.join(path.read_bytes() for path in sorted((PAGE / 'src').iterdir()))
  digest = base64.b64encode(hashlib.sha256(sources).digest()).decode()
  content = (conftest.ROOT / 'digits' / 'export' / 'drawing_page.html').read_text()
  assert f'content="page/src sha256-{digest}"' in content, 'Run npm run build in page/.'


@pytest.mark.node
@needs_node
@needs_packages
def test_the_page_is_what_its_sources_build():
  subprocess.run([NODE, 'build.js', '--check'], cwd=PAGE, check=True)


def _sown(model, params, images):
  """What layers make of images, by the page's number of the item: all that Python shows of it."""
  apply = jax.jit(lambda image: model.apply({'params': params}, image, mutable='intermediates'))
  logits, state = apply(np.asarray(images, np.float32) / 255)
  described = model.layers()
  found = {len(described): logits}
  for i, layer in enumerate(described):
    sown = state.get('intermediates', {}).get(f'{getattr(layer, "of", None)}_active')
    if sown:
      # A pool that follows comes first in Python.
      last = i + 1
      while isinstance(described[last], layers_lib.MaxPool):
        last += 1
      found[last] = sown[0]
  return {item: np.asarray(found[item]).reshape(len(images), -1) for item in sorted(found)}


def _run_in_node(models, images, items, directory):
  """What the page's script makes of images: of each model the items, and the gradient of 4 against 9."""
  page, job, output = (directory / name for name in ('digits.html', 'job.json', 'output'))
  page.write_bytes(drawing_page.to_html(models))
  job.write_text(json.dumps({'images': base64.b64encode(images.tobytes()).decode(), 'items': items, 'pair': [4, 9]}))
  script = pathlib.Path(chromium.__file__).with_name('run_page.mjs')
  subprocess.run([NODE, script, page, job, output], check=True)
  return np.fromfile(output, '<f4').reshape(len(images), -1)


@pytest.mark.node
@needs_node
def test_every_layer_in_node_agrees_with_python_on_200_test_images(mnist, tmp_path):
  models = _models()
  images = mnist.test.image[:200]
  expected = {name: _sown(one.model, one.params, images) for name, one in models.items()}
  assert [len(items) for items in expected.values()] == [1, 2, 5, 2, 4, 1]
  values = _run_in_node(models, images, {name: list(found) for name, found in expected.items()}, tmp_path)
  at = 0
  for name, found in expected.items():
    for item, array in found.items():
      part = values[:, at : at + array.shape[1]]
      np.testing.assert_allclose(part, array, rtol=0, atol=1e-4, err_msg=f'{name}, item {item}')
      at += array.shape[1]
    at += 784
  assert at == values.shape[1]


@pytest.mark.node
@needs_node
def test_gradients_in_node_are_those_of_jax(tmp_path):
  models = _models()
  # Noise, because max-pooling has no gradient where its values are equal, as on blank paper.
  images = np.random.default_rng(0).integers(1, 256, (20, 28, 28, 1)).astype(np.uint8)
  values = _run_in_node(models, images, {name: [] for name in models}, tmp_path).reshape(20, len(models), 784)
  for i, one in enumerate(models.values()):

    def ahead(image, one=one):
      logits = one.model.apply({'params': one.params}, image)
      return (logits[:, 4] - logits[:, 9]).sum()

    expected = np.asarray(jax.jit(jax.grad(ahead))(np.asarray(images, np.float32) / 255)).reshape(20, 784)
    np.testing.assert_allclose(values[:, i], expected, rtol=0, atol=1e-4 * np.abs(expected).max() + 1e-6)


def test_a_model_that_says_nothing_of_its_layers_is_refused():
  own = OwnResNet()
  with pytest.raises(errors.UsageError, match='--format=html needs to know the layers of OwnResNet'):
    drawing_page.to_html({'own': drawing_page.Answerer(own, random_variables(own)['params'], 'own', 1.0, None)})


@pytest.fixture(scope='module')
def opened(mnist, tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'digits.html'
  path.write_bytes(drawing_page.to_html(_models()))
  with chromium.Page(path.as_uri()) as browser_page:
    yield browser_page
    assert browser_page.problems() == []


def _in_browser(opened, levels):
  """What the page sees and says of levels uint8[H, W]."""
  text = base64.b64encode(levels.tobytes()).decode()
  height, width = levels.shape
  return opened.evaluate(
    f'(() => {{ const levels = Uint8Array.from(atob("{text}"), c => c.charCodeAt(0));'
    f'const seen = digits.prepare(levels, {width}, {height}), image = digits.toImage(seen);'
    'return {seen: Array.from(seen), logits: digits.page.models.map(m => Array.from(digits.logits(m, image)))}; })()'
  )


@pytest.mark.browser
@needs_chromium
def test_inside_a_report_its_frame_becomes_as_high_as_the_page(tmp_path):
  models = {name: one for name, one in _models().items() if name in ('softmax', 'cnn')}
  path = tmp_path / 'report.html'
  path.write_text(f'<!doctype html><iframe srcdoc="{html.escape(drawing_page.to_html(models).decode())}"></iframe>')
  with chromium.Page(path.as_uri()) as report:
    measure = (
      '(async () => { await new Promise(done => setTimeout(done, 500)); const frame = document.querySelector("iframe");'
      'return [frame.offsetHeight, frame.contentDocument.body.offsetHeight]; })()'
    )
    outer, inner = report.evaluate(measure)
    assert outer >= inner > 500
    report.evaluate('document.querySelector("iframe").contentDocument.querySelectorAll("#models input")[1].click()')
    higher, inner = report.evaluate(measure)
    assert higher >= inner > outer
    link = 'document.querySelector("iframe").contentDocument.getElementById("link").checkVisibility()'
    assert report.evaluate(link) is False
    assert report.problems() == []


@pytest.mark.usefixtures('opened')
class TestInBrowser:
  pytestmark = browser

  def test_browser_and_python_agree_on_200_test_images(self, opened, mnist):
    models = _models()
    pictures = list(mnist.test.image[:200, ..., 0])
    # Half of them as large as a drawing.
    pictures[100:] = [np.kron(picture, np.ones((4, 4), np.uint8)) for picture in pictures[100:]]
    prepared = prepare.prepare(pictures)
    answers = [_in_browser(opened, picture) for picture in pictures]
    np.testing.assert_array_equal([answer['seen'] for answer in answers], prepared.reshape(200, 784))
    for i, answerer in enumerate(models.values()):
      logits = np.array([answer['logits'][i] for answer in answers])
      variables = {'params': answerer.params}
      expected = np.asarray(jax.jit(step_lib.apply_model, static_argnums=0)(answerer.model, variables, prepared))
      np.testing.assert_allclose(logits, expected, atol=1e-3)
      np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))

  def _clear(self, opened):
    opened.evaluate('document.getElementById("clear").click(); scrollTo(0, 0)')
    opened.evaluate('document.querySelectorAll("#models input")[0].click()')

  def _levels(self, opened):
    values = opened.evaluate('Array.from(digits.page.levels())')
    return np.array(values, np.uint8).reshape(448, 448)

  def _draw(self, opened, points, kind='mouse'):
    frame = opened.evaluate(
      '(({x, y, width}) => ({x, y, width}))(document.getElementById("pad").getBoundingClientRect())'
    )
    places = [(frame['x'] + x * frame['width'], frame['y'] + y * frame['width']) for x, y in points]
    for i, (x, y) in enumerate(places):
      if kind == 'mouse':
        name = 'mousePressed' if i == 0 else 'mouseMoved'
        opened.call('Input.dispatchMouseEvent', type=name, x=x, y=y, button='left', buttons=1, clickCount=1)
      else:
        name = 'touchStart' if i == 0 else 'touchMove'
        opened.call('Input.dispatchTouchEvent', type=name, touchPoints=[{'x': x, 'y': y}])
    if kind == 'mouse':
      opened.call('Input.dispatchMouseEvent', type='mouseReleased', x=x, y=y, button='left', clickCount=1)
    else:
      opened.call('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])
    opened.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')

  @pytest.mark.parametrize(('width', 'height', 'kind'), [(1280, 800, 'mouse'), (390, 844, 'touch')])
  def test_drawing_undo_and_clear(self, opened, width, height, kind):
    opened.call(
      'Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=kind == 'touch'
    )
    opened.call('Emulation.setTouchEmulationEnabled', enabled=kind == 'touch')
    self._clear(opened)
    assert opened.evaluate('document.documentElement.scrollWidth') <= width
    down = [(0.5, 0.2 + 0.06 * i) for i in range(11)]
    self._draw(opened, down, kind)
    first = self._levels(opened)
    assert first[100:340, 224].min() == 255
    self._draw(opened, [(0.3, 0.5), (0.7, 0.5)], kind)
    both = self._levels(opened)
    assert (both > 0).sum() > (first > 0).sum()
    seen = opened.evaluate('Array.from(digits.prepare(digits.page.levels(), 448, 448))')
    np.testing.assert_array_equal(np.reshape(seen, (28, 28)), prepare.prepare(both[None])[0, ..., 0])
    assert opened.evaluate('document.querySelectorAll(".best").length') == len(_models())
    opened.evaluate('document.getElementById("undo").click()')
    np.testing.assert_array_equal(self._levels(opened), first)
    opened.evaluate('document.getElementById("clear").click()')
    assert not self._levels(opened).any()
    assert opened.evaluate('document.querySelectorAll(".best").length') == 0
    assert opened.evaluate('document.getElementById("clear").disabled') is True
    opened.evaluate('document.getElementById("undo").click()')
    np.testing.assert_array_equal(self._levels(opened), first)

  def _press(self, opened, key, **extra):
    for kind in ('keyDown', 'keyUp'):
      opened.call('Input.dispatchKeyEvent', type=kind, key=key, **extra)

  def test_keys_and_screen_reader(self, opened):
    self._clear(opened)
    self._press(opened, '7')
    assert self._levels(opened).any()
    spoken = opened.evaluate(
      'new Promise(done => setTimeout(() => done(document.getElementById("status").textContent), 600))'
    )
    assert re.fullmatch(' '.join(rf'{name} says \d, [\d.]+%\.' for name in _models()), spoken)
    assert opened.evaluate('document.getElementById("status").getAttribute("aria-live")') == 'polite'
    self._press(opened, 'z', modifiers=2)
    assert not self._levels(opened).any()
    self._press(opened, '4')
    four = self._levels(opened)
    self._press(opened, '5')
    self._press(opened, 'u')
    np.testing.assert_array_equal(self._levels(opened), four)
    self._press(opened, 'c')
    assert not self._levels(opened).any()

  def test_the_ink_does_not_depend_on_the_colours(self, opened):
    levels = []
    for scheme in ('light', 'dark'):
      opened.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
      opened.evaluate('document.getElementById("clear").click()')
      self._press(opened, '5')
      levels.append(self._levels(opened))
    np.testing.assert_array_equal(*levels)

  def _choose(self, opened, model, digit='best', rival=''):
    opened.evaluate(f'document.querySelectorAll("#models input")[{list(_models()).index(model)}].click()')
    for name, value in (('digit', digit), ('rival', rival)):
      opened.evaluate(
        f'(() => {{ const list = document.getElementById("{name}"); list.value = "{value}";'
        'list.dispatchEvent(new Event("change")); })()'
      )
    opened.evaluate('new Promise(done => setTimeout(done, 200))')

  def _texts(self, opened, selector):
    return opened.evaluate(f'Array.from(document.querySelectorAll("{selector}"), each => each.textContent)')

  def test_what_is_inside_follows_from_the_layers(self, opened):
    self._clear(opened)
    self._press(opened, '4')
    panels = {}
    for name in _models():
      self._choose(opened, name)
      panels[name] = self._texts(opened, '#panels h3')
    hidden = ['Pixel by pixel', 'Square by square', 'Hidden units']
    assert panels == {
      'softmax': ['Pixel by pixel', 'Templates'],
      'mlp': hidden,
      'cnn': [*hidden, *(f'Convolution: conv{i}' for i in (1, 2, 3))],
      'mlp_elu': hidden,
      'cnn_silu': [*hidden, 'Convolution: conv1', 'Convolution: conv2'],
      'own': [*hidden, 'Convolution: first', 'Convolution: second'],
    }

  def test_ink_times_weight_and_the_bias_sum_to_the_logit(self, opened):
    self._clear(opened)
    self._press(opened, '4')
    seen = np.array(opened.evaluate('Array.from(digits.prepare(digits.page.levels(), 448, 448))'))
    answerer = _models()['softmax']
    kernel, bias = answerer.params['logits']['kernel'], answerer.params['logits']['bias']
    for digit, rival in ((4, None), (4, 9)):
      weights = np.eye(10)[digit] - (0 if rival is None else np.eye(10)[rival])
      self._choose(opened, 'softmax', digit, '' if rival is None else rival)
      ink, blank, score = (float(text.replace('\u2212', '-')) for text in self._texts(opened, '.sum dd'))
      assert ink == pytest.approx(weights @ (kernel @ (seen / 255)), abs=0.006)
      assert blank == pytest.approx(weights @ bias, abs=0.006)
      assert score == pytest.approx(ink + blank, abs=0.011)
    assert self._texts(opened, '#legend-against') == ['speaks for 9']
    assert opened.evaluate('document.querySelectorAll(".pictures button[aria-pressed=true]").length') == 1

  def test_a_map_is_chosen_with_keys_and_shows_its_kernel(self, opened):
    self._clear(opened)
    self._press(opened, '4')
    self._choose(opened, 'cnn')
    opened.evaluate('document.querySelectorAll(".maps")[1].querySelector("button").focus()')
    self._press(opened, 'ArrowRight')
    label = opened.evaluate('document.activeElement.getAttribute("aria-label")')
    assert opened.evaluate('document.querySelectorAll(".maps")[1].querySelectorAll("[tabindex=\'0\']").length') == 1
    self._press(opened, 'Enter', text='\r')
    captions = self._texts(opened, '.detail:not([hidden]) > figure > figcaption')
    number = re.match(r'Map (\d+), at most [\d.]+$', label)[1]
    assert captions[0].startswith(f'Where map {number} fires')
    assert captions[1] == 'Its kernel, by map that comes in: the 8 largest of 16'
    assert opened.evaluate('document.querySelectorAll(".detail:not([hidden]) .pictures canvas").length') == 8
    self._press(opened, 'Enter', text='\r')
    assert opened.evaluate('document.querySelectorAll(".detail:not([hidden])").length') == 0

  def test_a_link_carries_the_strokes(self, opened):
    self._clear(opened)
    self._press(opened, '5')
    before = self._levels(opened)
    opened.evaluate('document.getElementById("link").click()')
    fragment = opened.evaluate('location.hash')
    assert fragment.startswith('#drawing=')
    self._clear(opened)
    for follow in ('', fragment):
      opened.evaluate(f'new Promise(done => {{ location.hash = "{follow}"; setTimeout(done, 100); }})')
    np.testing.assert_array_equal(self._levels(opened), before)
    opened.evaluate('new Promise(done => { location.hash = "#drawing=A"; setTimeout(done, 100); })')
    assert self._texts(opened, '#note') == ['The link is damaged: copy it again.']
    assert self._levels(opened).any()

  def test_the_picture_shows_the_drawing_and_the_answers(self, opened, tmp_path):
    opened.call('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(tmp_path))
    self._clear(opened)
    self._press(opened, '7')
    opened.evaluate('document.getElementById("save").click()')
    for _ in range(100):
      if (tmp_path / 'digit.png').exists():
        break
      opened.evaluate('new Promise(done => setTimeout(done, 50))')
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / 'digit.png').read_bytes())).convert('L'))
    assert picture.shape == (512, 512 + 272 * len(_models()))
    np.testing.assert_allclose(255 - picture[32:480, 32:480], self._levels(opened), atol=1)
    assert all((picture[32:480, 512 + 272 * i : 752 + 272 * i] < 128).sum() > 300 for i in range(len(_models())))

  def test_right_to_left_fits_too(self, opened):
    for width in (1280, 390):
      opened.call('Emulation.setDeviceMetricsOverride', width=width, height=800, deviceScaleFactor=1, mobile=False)
      opened.evaluate('document.documentElement.dir = "rtl"')
      for name in _models():
        self._choose(opened, name)
        assert opened.evaluate('document.documentElement.scrollWidth') <= width
    opened.evaluate('document.documentElement.dir = "ltr"')
