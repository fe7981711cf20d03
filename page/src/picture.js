/** Small pictures of numbers, on canvases. */

/**
 * Red, green and blue, 0 to 255.
 * @typedef {[number, number, number]} Color
 * @typedef {{paper: Color, ink: Color, for: Color, against: Color}} Palette
 */

/**
 * The colours of the theme in use.
 * @returns {Palette}
 */
export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const read = (/** @type {string} */ name) => {
    const value = parseInt(style.getPropertyValue(`--${name}`).trim().slice(1), 16);
    return /** @type {Color} */ ([value >> 16, (value >> 8) & 255, value & 255]);
  };
  return {paper: read('paper'), ink: read('ink'), for: read('for'), against: read('against')};
}

/** @param {ArrayLike<number>} values */
export function largestOf(values) {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]));
  return largest;
}

/**
 * Paints numbers in two colours: the further from zero, the stronger.
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} values row by row
 * @param {number} width
 * @param {Palette} palette
 * @param {number} largest is painted at full strength
 */
export function paintSigned(canvas, values, width, palette, largest = largestOf(values)) {
  const picture = new ImageData(width, values.length / width);
  for (let i = 0; i < values.length; i++) {
    put(picture, i, palette.paper, 1);
    const share = largest ? Math.min(1, Math.abs(values[i]) / largest) : 0;
    put(picture, i, values[i] > 0 ? palette.for : palette.against, share);
  }
  show(canvas, picture);
}

/**
 * Paints where a map fires over the drawing, which stays visible as grey.
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} ink 0 to 1, row by row
 * @param {number} width of the ink
 * @param {ArrayLike<number>} map row by row, of a size that pooling has made smaller
 * @param {Palette} palette
 */
export function paintOver(canvas, ink, width, map, palette) {
  const size = Math.sqrt(map.length);
  const stride = 2 ** Math.floor(Math.log2(width / size));
  const largest = largestOf(map);
  const picture = new ImageData(width, ink.length / width);
  for (let i = 0; i < ink.length; i++) {
    const [y, x] = [Math.floor(i / width / stride), Math.floor((i % width) / stride)];
    // Pooling drops an odd last row or column.
    const value = y < size && x < size ? map[y * size + x] : 0;
    put(picture, i, palette.paper, 1);
    put(picture, i, palette.ink, 0.6 * ink[i]);
    put(picture, i, value > 0 ? palette.for : palette.against, largest ? (0.75 * Math.abs(value)) / largest : 0);
  }
  show(canvas, picture);
}

/**
 * Paints levels as the models see them: white on black.
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} levels 0 to 255
 * @param {number} width
 */
export function paintLevels(canvas, levels, width) {
  const picture = new ImageData(width, levels.length / width);
  for (let i = 0; i < levels.length; i++) put(picture, i, [levels[i], levels[i], levels[i]], 1);
  show(canvas, picture);
}

/**
 * Covers a pixel with a colour; the share says how much.
 * @param {ImageData} picture
 * @param {number} i
 * @param {Color} color
 * @param {number} share 0 to 1
 */
function put({data}, i, color, share) {
  for (let k = 0; k < 3; k++) data[4 * i + k] += (color[k] - data[4 * i + k]) * share;
  data[4 * i + 3] = 255;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} picture
 */
function show(canvas, picture) {
  // Setting a size clears a canvas, which would be seen.
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    Object.assign(canvas, {width: picture.width, height: picture.height});
  }
  canvas.getContext('2d')?.putImageData(picture, 0, 0);
}
