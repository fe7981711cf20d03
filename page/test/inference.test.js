import assert from 'node:assert/strict';
import {test} from 'node:test';

import {ACTIVATIONS} from '../src/activations.js';
import {logits, run, softmax, toImage} from '../src/inference.js';
import {readModels} from '../src/model.js';
import {convolution, DEEP, IMAGE, makeModel, randomNumbers} from './models.js';

test('a convolution is the sum over its kernel, padded with zeros as Flax pads', () => {
  for (const [height, width] of [[5, 5], [4, 3], [1, 2]]) {
    const layer = convolution([height, width, 2, 3]);
    assert(layer.kind === 'convolution');
    const x = {values: randomNumbers(6 * 6 * 2, 9), size: 6, channels: 2};
    const [, y] = run(makeModel(layer), x);
    for (let i = 0; i < 6; i++) {
      for (let j = 0; j < 6; j++) {
        for (let o = 0; o < 3; o++) {
          let sum = layer.bias[o];
          for (let a = 0; a < height; a++) {
            for (let b = 0; b < width; b++) {
              const [u, v] = [i + a - Math.floor((height - 1) / 2), j + b - Math.floor((width - 1) / 2)];
              if (u < 0 || v < 0 || u >= 6 || v >= 6) continue;
              for (let c = 0; c < 2; c++) {
                sum += x.values[(u * 6 + v) * 2 + c] * layer.kernel[((a * width + b) * 2 + c) * 3 + o];
              }
            }
          }
          assert(Math.abs(y.values[(i * 6 + j) * 3 + o] - sum) < 1e-5);
        }
      }
    }
  }
});

test('max-pooling drops an odd last row and column', () => {
  const x = {values: Float32Array.of(1, 5, 9, 3, -2, 9, 9, 9, 9), size: 3, channels: 1};
  assert.deepEqual(run(makeModel({kind: 'max_pool'}), x)[1], {values: Float32Array.of(5), size: 1, channels: 1});
});

test('activations at a point have the values of their definitions', () => {
  const expected = {
    elu: [-0.63212, 2], gelu: [-0.15881, 1.9546], identity: [-1, 2], relu: [0, 2], sigmoid: [0.26894, 0.8808],
    silu: [-0.26894, 1.76159], tanh: [-0.76159, 0.96403],
  };
  for (const [name, {value}] of Object.entries(ACTIVATIONS)) {
    const [below, above] = expected[/** @type {keyof typeof expected} */ (name)];
    assert(Math.abs(value(-1) - below) < 1e-4 && Math.abs(value(2) - above) < 1e-4, name);
  }
});

test('slopes of activations are differences of their values', () => {
  for (const [name, {value, slope}] of Object.entries(ACTIVATIONS)) {
    for (const x of [-2.3, -0.4, 0.3, 1.7]) {
      const difference = (value(x + 1e-5) - value(x - 1e-5)) / 2e-5;
      assert(Math.abs(slope(x) - difference) < 1e-6, `${name} at ${x}`);
    }
  }
});

test('the trace holds the image, every layer and at last the logits', () => {
  const trace = run(DEEP, IMAGE);
  assert.equal(trace.length, DEEP.layers.length + 1);
  assert.deepEqual(trace.map(({size}) => size), [28, 28, 28, 14, 14, 14, 7, 7, 1, 1, 1, 1]);
  assert.deepEqual(trace[trace.length - 1].values, logits(DEEP, IMAGE));
});

test('probabilities sum to one, also of large logits, and a temperature makes them milder', () => {
  assert.deepEqual(softmax([1000, 1000]), [0.5, 0.5]);
  const [cold, warm] = [softmax([0, 1, 3]), softmax([0, 1, 3], 2)];
  assert(Math.abs(cold.reduce((a, b) => a + b) - 1) < 1e-12);
  assert(warm[2] < cold[2]);
});

test('levels become numbers from 0 to 1', () => {
  assert.deepEqual([...toImage([0, 51, 255]).values], [0, Math.fround(0.2), 1]);
});

test('arrays of the page are little-endian float32', () => {
  const kernel = btoa('\0\0\x80\x3f\0\0\0\xc0');
  const layers = [{kind: 'dense', name: 'x', shape: [2, 1], kernel, bias: btoa('\0\0\0\0')}, {kind: 'max_pool'}];
  const [model] = readModels(JSON.stringify([{name: 'm', layers}]));
  assert.deepEqual(model.layers[0], {
    kind: 'dense', name: 'x', shape: [2, 1], kernel: Float32Array.of(1, -2), bias: Float32Array.of(0),
  });
});
