"""Measures how soon the drawing page answers: python -m measurements.drawing digits.html [--strokes=20].

Draws strokes on an exported page in headless Chromium, and prints the milliseconds from the moment when the page takes
up a new point to the moment when the answers of all models stand in it: the median and the 95th percentile. While it
draws, the page shows the inside of each model in turn. The machine should be quiet.
"""

import argparse
import math
import os
import pathlib

import numpy as np

from tests.support import chromium

_NUM_POINTS = 60
# The page's own work begins in the same frame, after this. What changes the answers is seen once they are complete.
_WATCH = """(() => {
  window.milliseconds = [];
  let began = 0;
  addEventListener('pointerdown', () => { began = performance.now(); }, true);
  addEventListener('pointermove', () => requestAnimationFrame(() => { began = performance.now(); }), true);
  new MutationObserver(() => {
    if (began) milliseconds.push(performance.now() - began);
    began = 0;
  }).observe(document.getElementById('answers'), {childList: true, subtree: true});
})()"""


def draw(page, frame):
  """Draws a stroke like a 9."""
  for i in range(_NUM_POINTS + 1):
    turn, rest = 2 * math.pi * min(i, 40) / 40, max(i - 40, 0) / 20
    x = frame['x'] + frame['width'] * (0.5 + 0.16 * math.cos(turn) - 0.06 * rest)
    y = frame['y'] + frame['width'] * (0.36 - 0.16 * math.sin(turn) + 0.44 * rest)
    kind = 'mousePressed' if i == 0 else 'mouseReleased' if i == _NUM_POINTS else 'mouseMoved'
    page.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', buttons=1, clickCount=1)


def main():
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m measurements.drawing', description=__doc__)
  parser.add_argument('page', type=pathlib.Path, help='a file of digits export --format=html')
  parser.add_argument('--strokes', type=int, default=20, help='strokes per model')
  args = parser.parse_args()
  print(f'{args.page.stat().st_size:,} bytes; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores')
  with chromium.Page(args.page.resolve().as_uri()) as page:
    page.call('Emulation.setDeviceMetricsOverride', width=1280, height=900, deviceScaleFactor=1, mobile=False)
    page.evaluate(_WATCH)
    for i in range(page.evaluate('digits.page.models.length')):
      page.evaluate(f'document.querySelectorAll("#models input")[{i}].click(); scrollTo(0, 0); milliseconds.length = 0')
      for _ in range(args.strokes):
        draw(page, page.evaluate('document.getElementById("pad").getBoundingClientRect().toJSON()'))
        page.evaluate('document.getElementById("clear").click()')
      taken = np.array(page.evaluate('milliseconds'))
      name = page.evaluate(f'digits.page.models[{i}].name')
      print(
        f'{name}: median {np.median(taken):.1f} ms, 95 % within {np.quantile(taken, 0.95):.1f} ms, {len(taken)} answers'
      )


if __name__ == '__main__':
  main()
