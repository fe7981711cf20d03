/** What speaks for an answer and against it: gradients of the layers, and what is read off them. */

import {ACTIVATIONS} from './activations.js';
import {logits, run} from './inference.js';

/** @import {Convolution, Dense, Layer, Model} from './model.js' */
/** @import {Maps} from './inference.js' */

// So many gradients, in the middles of equal steps from blank paper to the drawing, make up the evidence of a pixel.
const STEPS = 24;

/**
 * Runs to the end what comes in steps.
 * @template T
 * @param {Generator<void, T>} steps
 * @returns {T}
 */
function finish(steps) {
  let step = steps.next();
  while (!step.done) step = steps.next();
  return step.value;
}

/**
 * How a weighted sum of one item of a trace changes with another item before it.
 * @param {Model} model
 * @param {Maps[]} trace
 * @param {ArrayLike<number>} weights of the values of item `from`
 * @param {number} from
 * @param {number} to
 */
export function gradient(model, trace, weights, from = trace.length - 1, to = 0) {
  let slopes = Float32Array.from(weights);
  for (let i = from - 1; i >= to; i--) slopes = passBack(model.layers[i], trace[i], slopes);
  return slopes;
}

/**
 * @param {Layer} layer
 * @param {Maps} x what came in
 * @param {Float32Array} slopes of what came out
 */
function passBack(layer, x, slopes) {
  switch (layer.kind) {
    case 'convolution':
      return passConvolution(layer, x, slopes);
    case 'dense':
      return passDense(layer, slopes);
    case 'max_pool':
      return passPool(x, slopes);
    case 'activation':
      return slopes.map((slope, i) => slope && slope * ACTIVATIONS[layer.activation].slope(x.values[i]));
  }
}

/**
 * @param {Convolution} layer
 * @param {Maps} x
 * @param {Float32Array} slopes
 */
function passConvolution({shape: [height, width, channels, features], kernel}, {values, size}, slopes) {
  const top = (height - 1) >> 1;
  const left = (width - 1) >> 1;
  const back = new Float32Array(values.length);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const out = (i * size + j) * features;
      const active = [];
      for (let o = 0; o < features; o++) if (slopes[out + o]) active.push(o);
      if (!active.length) continue;
      for (let a = Math.max(0, top - i); a < Math.min(height, size + top - i); a++) {
        for (let b = Math.max(0, left - j); b < Math.min(width, size + left - j); b++) {
          const into = ((i + a - top) * size + j + b - left) * channels;
          const at = (a * width + b) * channels * features;
          for (let c = 0; c < channels; c++) {
            let sum = 0;
            for (const o of active) sum += kernel[at + c * features + o] * slopes[out + o];
            back[into + c] += sum;
          }
        }
      }
    }
  }
  return back;
}

/**
 * @param {Dense} layer
 * @param {Float32Array} slopes
 */
function passDense({shape: [inputs, outputs], kernel}, slopes) {
  return Float32Array.from({length: inputs}, (_, i) => {
    let sum = 0;
    for (let o = 0; o < outputs; o++) sum += kernel[i * outputs + o] * slopes[o];
    return sum;
  });
}

/**
 * @param {Maps} x
 * @param {Float32Array} slopes
 */
function passPool({values, size, channels}, slopes) {
  const half = size >> 1;
  const below = size * channels;
  const back = new Float32Array(values.length);
  slopes.forEach((slope, to) => {
    const c = to % channels;
    const place = (to - c) / channels;
    const from = (2 * Math.floor(place / half) * size + 2 * (place % half)) * channels + c;
    const window = [from, from + channels, from + below, from + below + channels];
    back[window.reduce((best, k) => (values[k] > values[best] ? k : best))] += slope;
  });
  return back;
}

/**
 * Weights of the ten logits: one digit's, or how far it is ahead of another.
 * @param {number} digit
 * @param {number | null} rival
 */
export function direction(digit, rival) {
  return Array.from({length: 10}, (_, i) => Number(i === digit) - Number(i === rival));
}

/**
 * Whether a model adds up what it sees, with nothing in between: then evidence is just ink times weight.
 * @param {Model} model
 */
export function isLinear(model) {
  return model.layers.every((layer) => layer.kind === 'dense' || layer.kind === 'convolution' || isIdentity(layer));
}

/** @param {Layer} layer */
function isIdentity(layer) {
  return layer.kind === 'activation' && layer.activation === 'identity';
}

/**
 * @typedef {{pixels: Float32Array, ink: number, blank: number, score: number}} Evidence
 *   What each pixel adds, all of them together, what blank paper gives, and what the drawing gives. For a linear model
 *   ink + blank = score; for the others it nearly is.
 */

/**
 * What every pixel adds to a weighted sum of the logits: ink times weight, where the weight of a model that is not
 * linear is the mean of its gradient on the way from blank paper to the drawing (integrated gradients, Sundararajan et
 * al. 2017).
 * @param {Model} model
 * @param {Maps} image
 * @param {ArrayLike<number>} weights of the logits
 * @returns {Evidence}
 */
export function evidence(model, image, weights) {
  return finish(evidenceInSteps(model, image, weights));
}

/**
 * The same, in steps of some milliseconds, between which there is time for other work.
 * @param {Model} model
 * @param {Maps} image
 * @param {ArrayLike<number>} weights of the logits
 * @returns {Generator<void, Evidence>}
 */
export function* evidenceInSteps(model, image, weights) {
  const steps = isLinear(model) ? 1 : STEPS;
  const pixels = new Float32Array(image.values.length);
  for (let step = 0; step < steps; step++) {
    const trace = run(model, scaled(image, (step + 0.5) / steps));
    gradient(model, trace, weights).forEach((slope, i) => {
      pixels[i] += (slope * image.values[i]) / steps;
    });
    yield;
  }
  const total = (/** @type {Maps} */ x) => dot(weights, logits(model, x));
  return {pixels, ink: pixels.reduce((a, b) => a + b, 0), blank: total(scaled(image, 0)), score: total(image)};
}

/** Pixels along a side of the squares that are wiped out. */
export const PATCH = 4;

/**
 * How much of a weighted sum of the logits is lost when a square of the drawing is wiped out, as an image in which all
 * pixels of a square are the same (Zeiler and Fergus 2014).
 * @param {Model} model
 * @param {Maps} image
 * @param {ArrayLike<number>} weights of the logits
 */
export function occlusion(model, image, weights) {
  return finish(occlusionInSteps(model, image, weights));
}

/**
 * The same, in steps of some milliseconds.
 * @param {Model} model
 * @param {Maps} image
 * @param {ArrayLike<number>} weights of the logits
 * @returns {Generator<void, Float32Array>}
 */
export function* occlusionInSteps(model, image, weights) {
  const {values, size} = image;
  const lost = new Float32Array(values.length);
  const whole = dot(weights, logits(model, image));
  for (let top = 0; top < size; top += PATCH) {
    for (let left = 0; left < size; left += PATCH) {
      const places = squareAt(top, left, size);
      if (places.every((i) => !values[i])) continue;
      const wiped = values.slice();
      for (const i of places) wiped[i] = 0;
      const change = whole - dot(weights, logits(model, {...image, values: wiped}));
      for (const i of places) lost[i] = change;
      yield;
    }
  }
  return lost;
}

/**
 * @param {number} top
 * @param {number} left
 * @param {number} size
 */
function squareAt(top, left, size) {
  return Array.from({length: PATCH * PATCH}, (_, k) => (top + Math.floor(k / PATCH)) * size + left + (k % PATCH));
}

/**
 * @param {Maps} image
 * @param {number} factor
 * @returns {Maps}
 */
function scaled(image, factor) {
  return {...image, values: image.values.map((value) => value * factor)};
}

/**
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
function dot(a, b) {
  return Array.from(a).reduce((sum, value, i) => sum + value * b[i], 0);
}

/**
 * The last matrix product, which makes the logits out of hidden units or of the image.
 * @param {Model} model
 */
export function lastDense(model) {
  return model.layers.findLastIndex((layer) => layer.kind === 'dense');
}

/**
 * The ten weight images of a model that makes its logits directly out of the image, or null.
 * @param {Model} model
 */
export function templates(model) {
  const [first] = model.layers;
  if (lastDense(model) !== 0 || first.kind !== 'dense' || !isLinear(model)) return null;
  const outputs = first.shape[1];
  return Array.from({length: outputs}, (_, o) => first.kernel.filter((_value, k) => k % outputs === o));
}

/**
 * @typedef {{layer: number, active: Float32Array, added: Float32Array, bias: number}} Units
 *   The layer that computes hidden units, how active each is, what each adds to a weighted sum of the logits, and what
 *   the bias adds.
 */

/**
 * The hidden units of a model from which its last layer makes the logits, or null where there are none.
 * @param {Model} model
 * @param {Maps[]} trace
 * @param {ArrayLike<number>} weights of the logits
 * @returns {Units | null}
 */
export function hiddenUnits(model, trace, weights) {
  const last = lastDense(model);
  const dense = model.layers[last];
  const layer = model.layers.findLastIndex((each, i) => i < last && each.kind === 'dense');
  const between = model.layers.slice(layer + 1, last);
  if (layer < 0 || dense.kind !== 'dense' || between.some((each) => each.kind !== 'activation')) return null;
  const slopes = gradient(model, trace, weights, trace.length - 1, last + 1);
  const active = trace[last].values;
  const added = passDense(dense, slopes).map((weight, j) => weight * active[j]);
  return {layer, active, added, bias: dot(slopes, dense.bias)};
}

/**
 * What a hidden unit looks for: how what it receives changes with each pixel. Of a layer that sees the image itself,
 * that is the unit's weight image.
 * @param {Model} model
 * @param {Maps[]} trace
 * @param {number} layer
 * @param {number} unit
 */
export function unitImage(model, trace, layer, unit) {
  const weights = new Float32Array(trace[layer + 1].values.length);
  weights[unit] = 1;
  return gradient(model, trace, weights, layer + 1);
}

/**
 * @typedef {{layer: number, name: string, maps: Maps, peaks: Float32Array}} Convolved
 *   A convolution, its maps after the activation that follows it, and the highest value of each.
 */

/**
 * The feature maps of every convolution.
 * @param {Model} model
 * @param {Maps[]} trace
 * @returns {Convolved[]}
 */
export function featureMaps(model, trace) {
  return model.layers.flatMap((each, layer) => {
    if (each.kind !== 'convolution') return [];
    const maps = trace[model.layers[layer + 1]?.kind === 'activation' ? layer + 2 : layer + 1];
    const peaks = new Float32Array(maps.channels).fill(-Infinity);
    maps.values.forEach((value, i) => {
      peaks[i % maps.channels] = Math.max(peaks[i % maps.channels], value);
    });
    return [{layer, name: each.name, maps, peaks}];
  });
}

/**
 * One channel of maps, as an image.
 * @param {Maps} maps
 * @param {number} channel
 */
export function channelOf({values, size, channels}, channel) {
  return Float32Array.from({length: size * size}, (_, i) => values[i * channels + channel]);
}

/**
 * The kernels of one feature, by channel that comes in, largest first.
 * @param {Convolution} layer
 * @param {number} feature
 */
export function kernelsOf({shape: [height, width, channels, features], kernel}, feature) {
  const kernels = Array.from({length: channels}, (_, channel) => {
    const values = kernel.filter((_value, k) => k % (channels * features) === channel * features + feature);
    return {channel, values, width, height, size: Math.hypot(...values)};
  });
  return kernels.sort((a, b) => b.size - a.size);
}
