/** The elementwise functions that models use, with their slopes: those of digits/models/activations.py. */

/** @import {ActivationName} from './model.js' */

/** @param {number} x */
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// The approximation of GELU that Flax uses.
const GELU_SCALE = Math.sqrt(2 / Math.PI);
const GELU_CUBE = 0.044715;

/** @param {number} x */
const geluTanh = (x) => Math.tanh(GELU_SCALE * (x + GELU_CUBE * x ** 3));

/** @type {Record<ActivationName, {value: (x: number) => number, slope: (x: number) => number}>} */
export const ACTIVATIONS = {
  elu: {value: (x) => (x > 0 ? x : Math.expm1(x)), slope: (x) => (x > 0 ? 1 : Math.exp(x))},
  gelu: {
    value: (x) => (x / 2) * (1 + geluTanh(x)),
    slope: (x) => (1 + geluTanh(x)) / 2 + (x / 2) * (1 - geluTanh(x) ** 2) * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x),
  },
  identity: {value: (x) => x, slope: () => 1},
  relu: {value: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0)},
  sigmoid: {value: sigmoid, slope: (x) => sigmoid(x) * (1 - sigmoid(x))},
  silu: {value: (x) => x * sigmoid(x), slope: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x)))},
  tanh: {value: Math.tanh, slope: (x) => 1 - Math.tanh(x) ** 2},
};
