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
  const faint = Math.max(FLAT_LEVELS, Math.min(width, height) < LARGE ? 0 : FAINT * peak);
  // The rest of the paper is left out, because a drawing is prepared in every frame.
  const {top, bottom, left, right} = findBox(levels, width, height, faint);
  const [wide, tall] = [right - left, bottom - top];
  const ink = new Float32Array(wide * tall);
  for (let y = 0, i = 0; y < tall; y++) {
    for (let x = 0, from = (top + y) * width + left; x < wide; x++, i++, from++) {
      if (levels[from] > faint) ink[i] = levels[from] / peak;
    }
  }
  dropSpecks(ink, wide, tall);
  return center(ink, wide, tall);
}

/**
 * The box around all values above one; right and bottom are just outside.
 * @param {ArrayLike<number>} values
 * @param {number} width
 * @param {number} height
 * @param {number} above
 */
function findBox(values, width, height, above) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!(values[i] > above)) continue;
      if (y < top) top = y;
      bottom = y + 1;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
    }
  }
  return {top, bottom, left, right};
}

/**
 * @param {Float32Array} ink
 * @param {number} width
 * @param {number} height
 */
function dropSpecks(ink, width, height) {
  const runs = findRuns(ink, width, height);
  /** @type {Map<Run, {top: number, bottom: number, left: number, right: number}>} */
  const boxes = new Map();
  for (const run of runs) {
    const {y, left, right} = run;
    const box = boxes.get(rootOf(run));
    // Runs come from top to bottom.
    if (!box) boxes.set(rootOf(run), {top: y, bottom: y, left, right});
    else Object.assign(box, {bottom: y, left: Math.min(box.left, left), right: Math.max(box.right, right)});
  }
  const sizes = new Map();
  for (const [root, {top, bottom, left, right}] of boxes) sizes.set(root, Math.max(bottom + 1 - top, right - left));
  const largest = Math.max(...sizes.values());
  for (const run of runs) {
    if (sizes.get(rootOf(run)) < SPECK * largest) ink.fill(0, run.y * width + run.left, run.y * width + run.right);
  }
}

/**
 * Ink side by side in a row, from left to before right, and another run of the same piece or itself.
 * @typedef {{y: number, left: number, right: number, parent: Run}} Run
 */

/**
 * All runs of ink from top to bottom, those that touch by sides or corners joined to pieces.
 * @param {Float32Array} ink
 * @param {number} width
 * @param {number} height
 * @returns {Run[]}
 */
function findRuns(ink, width, height) {
  const runs = [];
  /** @type {Run[]} */
  let above = [];
  for (let y = 0; y < height; y++) {
    /** @type {Run[]} */
    const row = [];
    for (let x = 0, i = y * width; x < width; x++, i++) {
      if (!ink[i]) continue;
      const left = x;
      while (x < width && ink[i]) {
        x++;
        i++;
      }
      const run = /** @type {Run} */ ({y, left, right: x});
      run.parent = run;
      for (const other of above) if (other.left <= x && left <= other.right) rootOf(other).parent = rootOf(run);
      row.push(run);
    }
    runs.push(...row);
    above = row;
  }
  return runs;
}

/**
 * The run that stands for a piece.
 * @param {Run} run
 */
function rootOf(run) {
  while (run.parent !== run) run = run.parent = run.parent.parent;
  return run;
}

/**
 * The digit in MNIST's size and place: as digits/data/center.py.
 * @param {Float32Array} ink
 * @param {number} width
 * @param {number} height
 */
function center(ink, width, height) {
  const prepared = new Uint8Array(SIDE * SIDE);
  const {top, bottom, left, right} = findBox(ink, width, height, 0);
  const [tall, wide] = [bottom - top, right - left];
  const side = Math.max(tall, wide, LEAST_SQUARE);
  const rows = areaWeights(top - Math.floor((side - tall) / 2), side, height);
  const columns = areaWeights(left - Math.floor((side - wide) / 2), side, width);
  const box = new Float64Array(BOX * BOX);
  rows.forEach((row, i) => {
    const line = new Float64Array(width);
    for (const [y, weight] of row) for (let x = left; x < right; x++) line[x] += weight * ink[y * width + x];
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
