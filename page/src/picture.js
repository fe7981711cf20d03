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

/**
 * @param {Color} from
 * @param {Color} to
 * @param {number} share
 * @returns {Color}
 */
function mix(from, to, share) {
  return /** @type {Color} */ (from.map((value, i) => value + (to[i] - value) * share));
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
  paint(canvas, values.length, width, (i) => {
    const share = largest ? Math.min(1, Math.abs(values[i]) / largest) : 0;
    return mix(palette.paper, values[i] > 0 ? palette.for : palette.against, share);
  });
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
  paint(canvas, ink.length, width, (i) => {
    const [y, x] = [Math.floor(i / width / stride), Math.floor((i % width) / stride)];
    // Pooling drops an odd last row or column.
    const value = y < size && x < size ? map[y * size + x] : 0;
    const share = largest ? Math.abs(value) / largest : 0;
    const base = mix(palette.paper, palette.ink, 0.6 * ink[i]);
    return mix(base, value > 0 ? palette.for : palette.against, 0.75 * share);
  });
}

/**
 * Paints levels as the models see them: white on black.
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} levels 0 to 255
 * @param {number} width
 */
export function paintLevels(canvas, levels, width) {
  paint(canvas, levels.length, width, (i) => [levels[i], levels[i], levels[i]]);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} count
 * @param {number} width
 * @param {(i: number) => Color} colorOf
 */
function paint(canvas, count, width, colorOf) {
  const picture = new ImageData(width, count / width);
  for (let i = 0; i < count; i++) {
    const [red, green, blue] = colorOf(i);
    picture.data[4 * i] = red;
    picture.data[4 * i + 1] = green;
    picture.data[4 * i + 2] = blue;
    picture.data[4 * i + 3] = 255;
  }
  // Setting a size clears a canvas, which would be seen.
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    Object.assign(canvas, {width: picture.width, height: picture.height});
  }
  canvas.getContext('2d')?.putImageData(picture, 0, 0);
}
