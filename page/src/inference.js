/** The forward pass: what every layer makes of an image. */

import {ACTIVATIONS} from './activations.js';
import {SIDE} from './model.js';

/** @import {Convolution, Dense, Layer, Model} from './model.js' */

/**
 * Feature maps as [size, size, channels], or a vector where size is 1.
 * @typedef {{values: Float32Array, size: number, channels: number}} Maps
 */

/**
 * The image as the models take it.
 * @param {ArrayLike<number>} levels 28x28 levels of ink, 0 to 255
 * @returns {Maps}
 */
export function toImage(levels) {
  return {values: Float32Array.from(levels, (level) => level / 255), size: SIDE, channels: 1};
}

/**
 * The image, and then the output of every layer in order: layer i takes item i, and gives item i + 1.
 * @param {Model} model
 * @param {Maps} image
 */
export function run(model, image) {
  const trace = [image];
  for (const layer of model.layers) trace.push(apply(layer, trace[trace.length - 1]));
  return trace;
}

/**
 * The logits, which are the output of the last layer.
 * @param {Maps[]} trace
 */
export function logitsOf(trace) {
  return trace[trace.length - 1].values;
}

/**
 * The logits of an image.
 * @param {Model} model
 * @param {Maps} image
 */
export function logits(model, image) {
  return logitsOf(run(model, image));
}

/**
 * Probabilities of logits.
 * @param {ArrayLike<number>} values
 * @param {number} temperature
 */
export function softmax(values, temperature = 1) {
  const scaled = Array.from(values, (value) => value / temperature);
  const largest = Math.max(...scaled);
  const powers = scaled.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/**
 * @param {Layer} layer
 * @param {Maps} x
 * @returns {Maps}
 */
function apply(layer, x) {
  switch (layer.kind) {
    case 'convolution':
      return convolve(layer, x);
    case 'dense':
      return multiply(layer, x);
    case 'max_pool':
      return pool(x);
    case 'activation':
      return {...x, values: x.values.map(ACTIVATIONS[layer.activation].value)};
  }
}

/**
 * @param {Convolution} layer
 * @param {Maps} x
 * @returns {Maps}
 */
function convolve({shape: [height, width, channels, features], kernel, bias}, {values, size}) {
  const top = (height - 1) >> 1;
  const left = (width - 1) >> 1;
  const output = new Float32Array(size * size * features);
  // What comes into one place that is not zero, and where its weights begin: most of an image is empty, and so is much
  // of what follows a ReLU.
  const inputs = new Float64Array(height * width * channels);
  const weights = new Int32Array(height * width * channels);
  for (let i = 0, to = 0; i < size; i++) {
    for (let j = 0; j < size; j++, to += features) {
      let count = 0;
      for (let a = Math.max(0, top - i); a < Math.min(height, size + top - i); a++) {
        for (let b = Math.max(0, left - j); b < Math.min(width, size + left - j); b++) {
          const from = ((i + a - top) * size + j + b - left) * channels;
          const at = (a * width + b) * channels * features;
          for (let c = 0; c < channels; c++) {
            if (!values[from + c]) continue;
            inputs[count] = values[from + c];
            weights[count++] = at + c * features;
          }
        }
      }
      // Four sums at a time, which stay in registers.
      let o = 0;
      for (; o + 4 <= features; o += 4) {
        let [s, t, u, v] = [bias[o], bias[o + 1], bias[o + 2], bias[o + 3]];
        for (let n = 0; n < count; n++) {
          const input = inputs[n];
          const k = weights[n] + o;
          s += input * kernel[k];
          t += input * kernel[k + 1];
          u += input * kernel[k + 2];
          v += input * kernel[k + 3];
        }
        output[to + o] = s;
        output[to + o + 1] = t;
        output[to + o + 2] = u;
        output[to + o + 3] = v;
      }
      for (; o < features; o++) {
        let sum = bias[o];
        for (let n = 0; n < count; n++) sum += inputs[n] * kernel[weights[n] + o];
        output[to + o] = sum;
      }
    }
  }
  return {values: output, size, channels: features};
}

/**
 * @param {Dense} layer
 * @param {Maps} x
 * @returns {Maps}
 */
function multiply({shape: [inputs, outputs], kernel, bias}, {values}) {
  const sums = Float64Array.from(bias);
  for (let i = 0; i < inputs; i++) {
    const value = values[i];
    if (value) for (let o = 0, k = i * outputs; o < outputs; o++, k++) sums[o] += value * kernel[k];
  }
  return {values: Float32Array.from(sums), size: 1, channels: outputs};
}

/**
 * @param {Maps} x
 * @returns {Maps}
 */
function pool({values, size, channels}) {
  const half = size >> 1;
  const output = new Float32Array(half * half * channels);
  const below = size * channels;
  for (let i = 0, to = 0; i < half; i++) {
    for (let j = 0; j < half; j++) {
      for (let c = 0, k = (2 * i * size + 2 * j) * channels; c < channels; c++, k++, to++) {
        output[to] = Math.max(values[k], values[k + channels], values[k + below], values[k + below + channels]);
      }
    }
  }
  return {values: output, size: half, channels};
}
