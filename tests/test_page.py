"""The page to draw on: its forward pass and preparation are Python's, in a real browser."""

import base64
import json
import re

import jax
import numpy as np
import pytest
from support import chromium
from support.own_models import OwnResNet, random_variables

from digits import errors
from digits.export import drawing_page
from digits.handwriting import prepare
from digits.train import step as step_lib

browser = [
  pytest.mark.browser,
  pytest.mark.skipif(chromium.BINARY is None, reason='Chromium is not installed: apt-get install chromium'),
]


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
  assert not re.search(r'(src|href)\s*=|https?:|@import|url\(|fetch\(|XMLHttp', content)
  assert "default-src 'none'" in content
  written = json.loads(re.search(r'const models = (\[.*\]);\n', content)[1])
  assert [model['name'] for model in written] == list(models)
  layers = written[2]['layers']
  block = ['convolution', 'activation', 'max_pool']
  assert [layer['kind'] for layer in layers] == block * 3 + ['dense', 'activation', 'dense']
  assert [layer['name'] for layer in layers if 'name' in layer] == ['relu'] * 3 + ['sigmoid']
  kernel = np.frombuffer(base64.b64decode(layers[0]['kernel']), '<f4').reshape(layers[0]['shape'])
  np.testing.assert_array_equal(kernel, models['cnn'].params['conv1']['kernel'])
  kernel = np.frombuffer(base64.b64decode(layers[-1]['kernel']), '<f4').reshape(layers[-1]['shape'])
  np.testing.assert_array_equal(kernel, models['cnn'].params['logits']['kernel'].T)


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
    f'const seen = digits.prepare(levels, {width}, {height});'
    'return {seen: Array.from(seen), logits: digits.models.map(m => Array.from(digits.logits(m, seen)))}; })()'
  )


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

  def _levels(self, opened):
    values = opened.evaluate('Array.from(digits.levels())')
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
    opened.evaluate('document.getElementById("clear").click(); scrollTo(0, 0)')
    assert opened.evaluate('document.documentElement.scrollWidth') <= width
    down = [(0.5, 0.2 + 0.06 * i) for i in range(11)]
    self._draw(opened, down, kind)
    first = self._levels(opened)
    assert first[100:340, 224].min() == 255
    self._draw(opened, [(0.3, 0.5), (0.7, 0.5)], kind)
    both = self._levels(opened)
    assert (both > 0).sum() > (first > 0).sum()
    seen = opened.evaluate('Array.from(digits.prepare(digits.levels(), 448, 448))')
    np.testing.assert_array_equal(np.reshape(seen, (28, 28)), prepare.prepare(both[None])[0, ..., 0])
    assert opened.evaluate('document.querySelectorAll(".best").length') == len(_models())
    opened.evaluate('document.getElementById("undo").click()')
    np.testing.assert_array_equal(self._levels(opened), first)
    opened.evaluate('document.getElementById("clear").click()')
    assert not self._levels(opened).any()
    assert opened.evaluate('document.querySelectorAll(".best").length') == 0
    assert opened.evaluate('document.getElementById("undo").disabled') is True

  def _press(self, opened, key, **extra):
    for kind in ('keyDown', 'keyUp'):
      opened.call('Input.dispatchKeyEvent', type=kind, key=key, **extra)

  def test_keys_and_screen_reader(self, opened):
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
    self._press(opened, 'u')
    assert self._levels(opened).any()
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
