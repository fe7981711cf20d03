/** Small random models that the tests share. */

/** @import {ActivationName, Layer, Model} from '../src/model.js' */

/**
 * Numbers between -0.5 and 0.5 that are the same in every run.
 * @param {number} length
 * @param {number} seed
 */
export function randomNumbers(length, seed) {
  let state = seed;
  return Float32Array.from({length}, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
}

/**
 * @param {[number, number]} shape
 * @param {string} name
 * @returns {Layer}
 */
export function dense(shape, name = 'dense') {
  return {kind: 'dense', name, shape, kernel: randomNumbers(shape[0] * shape[1], 1), bias: randomNumbers(shape[1], 2)};
}

/**
 * @param {[number, number, number, number]} shape
 * @returns {Layer}
 */
export function convolution(shape) {
  const length = shape.reduce((a, b) => a * b);
  return {kind: 'convolution', name: 'conv', shape, kernel: randomNumbers(length, 3), bias: randomNumbers(shape[3], 4)};
}

/**
 * @param {ActivationName} name
 * @returns {Layer}
 */
export function activation(name) {
  return {kind: 'activation', activation: name};
}

/**
 * @param {Layer[]} layers
 * @returns {Model}
 */
export function makeModel(...layers) {
  return {name: 'test', title: 'a test', accuracy: null, temperature: 1, layers};
}

/** Every kind of layer and of activation that is smooth. */
export const DEEP = makeModel(
  convolution([5, 4, 1, 3]), activation('silu'), {kind: 'max_pool'}, convolution([3, 3, 3, 4]), activation('gelu'),
  {kind: 'max_pool'}, activation('elu'), dense([7 * 7 * 4, 6], 'hidden'), activation('tanh'), dense([6, 10]),
  activation('identity'),
);
export const LINEAR = makeModel(dense([784, 10]));
export const PERCEPTRON = makeModel(dense([784, 12], 'hidden'), activation('sigmoid'), dense([12, 10]));

/** An image with ink in the middle. */
export const IMAGE = {
  values: randomNumbers(784, 5).map((value, i) => (i > 200 && i < 500 ? value + 0.5 : 0)), size: 28, channels: 1,
};
