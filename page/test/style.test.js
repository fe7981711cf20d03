import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {test} from 'node:test';

const style = readFileSync(new URL('../src/style.css', import.meta.url), 'utf8');
const themes = style.matchAll(/:root \{([^}]*)\}/g);

/**
 * The contrast of two colours by WCAG 2.
 * @param {string} a
 * @param {string} b
 */
function contrast(a, b) {
  const [low, high] = [a, b].map((color) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const value = parseInt(color.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }).sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

test('both themes reach AA: 4.5 for text, 3 for what is painted', () => {
  assert(Math.abs(contrast('#000000', '#ffffff') - 21) < 1e-9);
  let count = 0;
  for (const [, block] of themes) {
    const named = block.matchAll(/--(\w+): (#\w{6});/g);
    const colors = Object.fromEntries(Array.from(named, ([, name, color]) => [name, color]));
    for (const back of ['paper', 'ground']) {
      for (const text of ['ink', 'quiet']) assert(contrast(colors[text], colors[back]) >= 4.5, `${text} on ${back}`);
      for (const mark of ['for', 'against']) assert(contrast(colors[mark], colors[back]) >= 3, `${mark} on ${back}`);
    }
    count++;
  }
  assert.equal(count, 2);
});

test('nothing moves or flashes by itself', () => {
  assert.doesNotMatch(style, /animation|transition|@keyframes/);
});
