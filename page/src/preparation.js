/**
 * From a drawing to what the models see, as digits/handwriting/prepare.py does with flat paper. Printed lines and parts
 * of neighbours are not sought, because nobody draws them here.
 */

import {SIDE} from './model.js';

const BOX = 20; // The side of the box that the digit fills, inside SIDE.
const LEAST_SQUARE = 10; // A smaller digit is not blown up to fill the box.
const FLAT_LEVELS = 2; // Fewer levels than this are paper.
const LEAST_CONTRAST = 0.04; // The least that counts as ink, as a part of the range.
const FAINT = 0.25; // In pictures of this size, ink is darker than this part of the darkest.
const LARGE = 56;
const SPECK = 0.15; // Pieces of ink that are smaller than this part of the largest are specks.

/**
 * Prepares a drawing.
 * @param {ArrayLike<number>} levels of ink, 0 to 255 on 0, row by row
 * @param {number} width
 * @param {number} height
 * @returns {Uint8Array} 28x28 levels
 */
export function prepare(levels, width, height) {
  let peak = 0;
  for (let i = 0; i < levels.length; i++) if (levels[i] > peak) peak = levels[i];
  if (peak <= Math.max(FLAT_LEVELS, 255 * LEAST_CONTRAST)) return new Uint8Array(SIDE * SIDE);
  const ink = new Float32Array(levels.length);
  const faint = Math.max(FLAT_LEVELS, Math.min(width, height) < LARGE ? 0 : FAINT * peak);
  for (let i = 0; i < levels.length; i++) if (levels[i] > faint) ink[i] = levels[i] / peak;
  dropSpecks(ink, width, height);
  return center(ink, width, height);
}

/**
 * @param {Float32Array} ink
 * @param {number} width
 * @param {number} height
 */
function dropSpecks(ink, width, height) {
  const seen = new Uint8Array(ink.length);
  const pieces = [];
  for (let start = 0; start < ink.length; start++) {
    if (ink[start] && !seen[start]) pieces.push(findPiece(ink, seen, start, width, height));
  }
  const largest = pieces.reduce((most, {size}) => Math.max(most, size), 0);
  for (const {piece, size} of pieces) if (size < SPECK * largest) for (const i of piece) ink[i] = 0;
}

/**
 * The piece of ink that a pixel belongs to; pixels touch by sides or corners.
 * @param {Float32Array} ink
 * @param {Uint8Array} seen is marked
 * @param {number} start
 * @param {number} width
 * @param {number} height
 */
function findPiece(ink, seen, start, width, height) {
  const piece = [start];
  let [top, bottom, left, right] = [height, 0, width, 0];
  seen[start] = 1;
  for (let k = 0; k < piece.length; k++) {
    const x = piece[k] % width;
    const y = (piece[k] - x) / width;
    if (y < top) top = y;
    if (y > bottom) bottom = y;
    if (x < left) left = x;
    if (x > right) right = x;
    for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
      for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
        const i = v * width + u;
        if (ink[i] && !seen[i]) {
          seen[i] = 1;
          piece.push(i);
        }
      }
    }
  }
  return {piece, size: Math.max(bottom - top, right - left) + 1};
}

/**
 * The digit in MNIST's size and place: as digits/data/center.py.
 * @param {Float32Array} ink
 * @param {number} width
 * @param {number} height
 */
function center(ink, width, height) {
  const prepared = new Uint8Array(SIDE * SIDE);
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!ink[i]) continue;
      if (y < top) top = y;
      bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
  }
  if (bottom < 0) return prepared;
  const [tall, wide] = [bottom - top + 1, right - left + 1];
  const side = Math.max(tall, wide, LEAST_SQUARE);
  const rows = areaWeights(top - Math.floor((side - tall) / 2), side, height);
  const columns = areaWeights(left - Math.floor((side - wide) / 2), side, width);
  const box = new Float64Array(BOX * BOX);
  rows.forEach((row, i) => {
    const line = new Float64Array(width);
    for (const [y, weight] of row) for (let x = left; x <= right; x++) line[x] += weight * ink[y * width + x];
    columns.forEach((column, j) => {
      for (const [x, weight] of column) box[i * BOX + j] += weight * line[x];
    });
  });
  const peak = box.reduce((a, b) => Math.max(a, b));
  let [mass, momentY, momentX] = [0, 0, 0];
  for (let i = 0; i < box.length; i++) {
    box[i] = Math.floor(255 * (box[i] / peak) + 0.5);
    mass += box[i];
    momentY += box[i] * (Math.floor(i / BOX) + 0.5);
    momentX += box[i] * ((i % BOX) + 0.5);
  }
  const y0 = offset(momentY / mass);
  const x0 = offset(momentX / mass);
  for (let i = 0; i < box.length; i++) prepared[(y0 + Math.floor(i / BOX)) * SIDE + x0 + (i % BOX)] = box[i];
  return prepared;
}

/**
 * Where the box starts, so that its centre of mass comes to lie in the middle and no ink outside.
 * @param {number} centroid
 */
function offset(centroid) {
  return Math.min(Math.max(Math.trunc(SIDE / 2 + 1 - centroid), 0), SIDE - BOX);
}

/**
 * For each of 20 equal parts of [start, start + side): the pixels that lie in it, and how much of the part each is.
 * @param {number} start
 * @param {number} side
 * @param {number} length
 */
function areaWeights(start, side, length) {
  return Array.from({length: BOX}, (_, i) => {
    const low = start + (side * i) / BOX;
    const high = start + (side * (i + 1)) / BOX;
    /** @type {[number, number][]} */
    const weights = [];
    for (let pixel = Math.max(0, Math.floor(low)); pixel < Math.min(length, high); pixel++) {
      const overlap = Math.min(high, pixel + 1) - Math.max(low, pixel);
      if (overlap > 0) weights.push([pixel, (overlap * BOX) / side]);
    }
    return weights;
  });
}
