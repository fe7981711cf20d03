/** What the page knows of a model: its description of its layers, as digits/export/drawing_page.py writes it. */

/** Pixels along a side of the images that the models see. */
export const SIDE = 28;

/**
 * @typedef {'elu' | 'gelu' | 'identity' | 'relu' | 'sigmoid' | 'silu' | 'tanh'} ActivationName
 *
 * Stride 1, padded to keep height and width; shape is [height, width, channels in, channels out].
 * @typedef {{kind: 'convolution', name: string, shape: [number, number, number, number], kernel: Float32Array,
 *   bias: Float32Array}} Convolution
 *
 * Shape is [in, out], the transpose of Python's.
 * @typedef {{kind: 'dense', name: string, shape: [number, number], kernel: Float32Array, bias: Float32Array}} Dense
 *
 * @typedef {{kind: 'max_pool'}} MaxPool
 * @typedef {{kind: 'activation', activation: ActivationName}} Activation
 * @typedef {Convolution | Dense | MaxPool | Activation} Layer
 *
 * The accuracy is that on the test split, if it was measured; logits are divided by the temperature.
 * @typedef {{name: string, title: string, accuracy: number | null, temperature: number, layers: Layer[]}} Model
 */

/**
 * Reads the models from the page's JSON, in which arrays are little-endian float32 in base64.
 * @param {string} text
 * @returns {Model[]}
 */
export function readModels(text) {
  const models = JSON.parse(text);
  for (const layer of models.flatMap((/** @type {Model} */ model) => model.layers)) {
    if ('kernel' in layer) Object.assign(layer, {kernel: decode(layer.kernel), bias: decode(layer.bias)});
  }
  return models;
}

/** @param {string} text */
function decode(text) {
  return new Float32Array(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
}
