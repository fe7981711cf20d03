import assert from 'node:assert/strict';
import {test} from 'node:test';

import {decodeStrokes, Drawing, encodeStrokes, toGrid, WRITTEN} from '../src/strokes.js';

/** @typedef {import('../src/strokes.js').Stroke} Stroke */

test('strokes come back from text as they were', () => {
  const others = /** @type {Stroke[][]} */ ([[[[0, 0], [1, 1], [-1, 2], [0.5, 0.25]]], [[[0.125, 0.5]]]]);
  for (const strokes of [...WRITTEN, WRITTEN.flat(), ...others]) {
    const text = encodeStrokes(strokes);
    assert.match(text, /^[\w-]+$/);
    assert.deepEqual(decodeStrokes(text), strokes);
  }
});

test('points are kept on a grid, not far outside', () => {
  assert.deepEqual(toGrid(-3, 7), [-1, 2]);
  const [x, y] = toGrid(0.3, 0.7);
  assert(Math.abs(x - 0.3) < 1e-3 && Math.abs(y - 0.7) < 1e-3);
  assert.deepEqual(toGrid(x, y), [x, y]);
});

test('a long drawing stays a short link', () => {
  const turn = (/** @type {number} */ i) => [0.5 + (i / 1200) * Math.cos(i / 20), 0.5 + (i / 1200) * Math.sin(i / 20)];
  const spiral = Array.from({length: 500}, (_, i) => turn(i));
  assert(encodeStrokes([/** @type {Stroke} */ (spiral)]).length < 2000);
});

test('text that is no drawing is refused', () => {
  const text = encodeStrokes(WRITTEN[3]);
  // Empty, not base64, cut off, a count without points, no end of a number, out of the square, far too many.
  const outside = btoa('\x01\xfe\x3f\0');
  const damaged = ['', '%%%', 'A', text.slice(0, -3), 'BQ', '_____w', outside, 'a'.repeat(200_000)];
  for (const bad of damaged) {
    assert.equal(decodeStrokes(bad), null, bad.slice(0, 20));
  }
});

test('any text gives a drawing not far outside of the square, or null', () => {
  let state = 1;
  for (let round = 0; round < 3000; round++) {
    const bytes = Array.from({length: 1 + (round % 40)}, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> (round % 2 ? 24 : 29);
    });
    const strokes = decodeStrokes(btoa(String.fromCharCode(...bytes)).replace(/=+$/, '').replace(/[+/]/g, '_'));
    assert(strokes === null || strokes.flat(2).every((value) => value >= -1 && value <= 2));
  }
});

test('undo goes back change by change, over clearing too', () => {
  const drawing = new Drawing();
  assert.equal(drawing.canUndo, false);
  drawing.begin([0.1, 0.1]).push([0.2, 0.2]);
  drawing.begin([0.5, 0.5]);
  drawing.replace([]);
  drawing.replace([]);
  assert.equal(drawing.strokes.length, 0);
  drawing.undo();
  assert.deepEqual(drawing.strokes, [[[0.1, 0.1], [0.2, 0.2]], [[0.5, 0.5]]]);
  drawing.undo();
  assert.deepEqual(drawing.strokes, [[[0.1, 0.1], [0.2, 0.2]]]);
  drawing.undo();
  assert.deepEqual(drawing.strokes, []);
  assert.equal(drawing.canUndo, false);
  drawing.undo();
  assert.deepEqual(drawing.strokes, []);
});
