import assert from 'node:assert/strict';
import {test} from 'node:test';

import {
  channelOf, direction, evidence, featureMaps, gradient, hiddenUnits, isLinear, kernelsOf, occlusion, templates,
  unitImage,
} from '../src/explanation.js';
import {logits, run} from '../src/inference.js';
import {activation, convolution, DEEP, dense, IMAGE, LINEAR, makeModel, PERCEPTRON, randomNumbers} from './models.js';

/**
 * @param {number} actual
 * @param {number} expected
 * @param {number} tolerance
 */
function assertNear(actual, expected, tolerance = 1e-4) {
  assert(Math.abs(actual - expected) <= tolerance, `${actual} is not ${expected}`);
}

test('gradients are differences of logits', () => {
  // With ink everywhere, because max-pooling has no gradient where its values are equal.
  const image = {...IMAGE, values: randomNumbers(784, 7)};
  const slopes = gradient(DEEP, run(DEEP, image), direction(3, 8));
  for (const pixel of [0, 210, 333, 480, 783]) {
    const moved = (/** @type {number} */ step) => {
      const values = image.values.slice();
      values[pixel] += step;
      const output = logits(DEEP, {...image, values});
      return output[3] - output[8];
    };
    assertNear(slopes[pixel], (moved(1e-3) - moved(-1e-3)) / 2e-3);
    assert(Math.abs(slopes[pixel]) > 1e-3);
  }
});

test('evidence of a linear model is ink times weight, and with the bias it is the logit', () => {
  const {pixels, ink, blank, score} = evidence(LINEAR, IMAGE, direction(4, null));
  const [layer] = LINEAR.layers;
  assert(layer.kind === 'dense');
  pixels.forEach((value, i) => assertNear(value, IMAGE.values[i] * layer.kernel[i * 10 + 4], 1e-6));
  assertNear(blank, layer.bias[4], 1e-6);
  assertNear(score, logits(LINEAR, IMAGE)[4], 1e-6);
  assertNear(ink + blank, score);
});

test('evidence of a pair is the difference of the evidence of the two', () => {
  for (const model of [LINEAR, PERCEPTRON]) {
    const [four, nine] = [4, 9].map((digit) => evidence(model, IMAGE, direction(digit, null)));
    evidence(model, IMAGE, direction(4, 9)).pixels.forEach((value, i) => {
      assertNear(value, four.pixels[i] - nine.pixels[i], 1e-5);
    });
  }
});

test('evidence of any model nearly adds up to what the drawing changes', () => {
  for (const model of [PERCEPTRON, DEEP]) {
    const {ink, blank, score} = evidence(model, IMAGE, direction(2, null));
    assertNear(ink + blank, score, 0.02);
  }
});

test('evidence of blank paper is nothing', () => {
  const {pixels, ink} = evidence(DEEP, {...IMAGE, values: new Float32Array(784)}, direction(1, 7));
  assert(pixels.every((value) => value === 0));
  assert.equal(ink, 0);
});

test('wiping out a square of a linear model loses the evidence in it', () => {
  const {pixels} = evidence(LINEAR, IMAGE, direction(4, null));
  const lost = occlusion(LINEAR, IMAGE, direction(4, null));
  let sum = 0;
  for (let y = 12; y < 16; y++) for (let x = 8; x < 12; x++) sum += pixels[y * 28 + x];
  assertNear(lost[13 * 28 + 9], sum);
  assert.equal(lost[0], 0);
});

test('hidden units and the bias add up to the logit', () => {
  for (const model of [PERCEPTRON, DEEP]) {
    const trace = run(model, IMAGE);
    const units = hiddenUnits(model, trace, direction(6, null));
    assert(units);
    assertNear(units.added.reduce((a, b) => a + b, units.bias), logits(model, IMAGE)[6]);
  }
});

test('a unit that sees the image looks for its weights', () => {
  const [layer] = PERCEPTRON.layers;
  assert(layer.kind === 'dense');
  const weights = unitImage(PERCEPTRON, run(PERCEPTRON, IMAGE), 0, 5);
  assert.deepEqual(weights, layer.kernel.filter((_, k) => k % 12 === 5));
});

test('only what is seen of a model is shown', () => {
  assert.equal(templates(LINEAR)?.length, 10);
  assert.equal(templates(LINEAR)?.[3][50], LINEAR.layers[0].kind === 'dense' && LINEAR.layers[0].kernel[503]);
  for (const model of [PERCEPTRON, DEEP]) assert.equal(templates(model), null);
  assert.equal(hiddenUnits(LINEAR, run(LINEAR, IMAGE), direction(0, null)), null);
  const bare = makeModel(convolution([3, 3, 1, 2]), activation('relu'), dense([1568, 10]));
  assert.equal(hiddenUnits(bare, run(bare, IMAGE), direction(0, null)), null);
  assert.deepEqual([LINEAR, PERCEPTRON, DEEP, bare].map(isLinear), [true, false, false, false]);
});

test('feature maps are those after the activation, with their highest values', () => {
  const trace = run(DEEP, IMAGE);
  const [first, second] = featureMaps(DEEP, trace);
  assert.deepEqual([first.layer, second.layer], [0, 3]);
  assert.equal(first.maps, trace[2]);
  for (const [channel, peak] of second.peaks.entries()) {
    assert.equal(peak, Math.max(...channelOf(second.maps, channel)));
  }
});

test('kernels come by the channel they read, the largest first', () => {
  const layer = convolution([3, 2, 4, 5]);
  assert(layer.kind === 'convolution');
  const kernels = kernelsOf(layer, 2);
  assert.deepEqual(kernels.map(({channel}) => channel).toSorted(), [0, 1, 2, 3]);
  assert(kernels.every(({size}, i) => !i || size <= kernels[i - 1].size));
  const {channel, values} = kernels[0];
  assert.equal(values[3], layer.kernel[(3 * 4 + channel) * 5 + 2]);
});
