/** What is drawn: strokes, the history that undo goes back in, digits as a person writes them, and strokes as text. */

/**
 * A point of the square of side 1, from its upper left corner; a stroke may leave the square by its side.
 * @typedef {[number, number]} Point
 * @typedef {Point[]} Stroke
 */

// Points lie on a grid of this many places along a side, so that a link carries them exactly.
const GRID = 1792;
// Text of more points than this is refused: it is no drawing of a person.
const MOST_POINTS = 20000;

/**
 * The point of the grid that is nearest.
 * @param {number} x
 * @param {number} y
 * @returns {Point}
 */
export function toGrid(x, y) {
  return [snap(x), snap(y)];
}

/** @param {number} value */
function snap(value) {
  return Math.round(GRID * Math.min(Math.max(value, -1), 2)) / GRID;
}

/** The strokes of a drawing, and all that it was before. */
export class Drawing {
  /** @type {Stroke[]} */
  strokes = [];
  /** @type {Stroke[][]} */
  #earlier = [];

  /**
   * Replaces what is drawn.
   * @param {Stroke[]} strokes
   */
  replace(strokes) {
    if (!strokes.length && !this.strokes.length) return;
    this.#earlier.push(this.strokes);
    this.strokes = strokes;
  }

  /**
   * Begins a stroke, to which points are then added.
   * @param {Point} point
   * @returns {Stroke}
   */
  begin(point) {
    /** @type {Stroke} */
    const stroke = [point];
    this.replace([...this.strokes, stroke]);
    return stroke;
  }

  /** Goes back to what was drawn before the last change. */
  undo() {
    this.strokes = this.#earlier.pop() ?? this.strokes;
  }

  get canUndo() {
    return this.#earlier.length > 0;
  }
}

/**
 * Strokes as text that fits the fragment of a link.
 * @param {Stroke[]} strokes
 */
export function encodeStrokes(strokes) {
  /** @type {number[]} */
  const bytes = [];
  const write = (/** @type {number} */ value) => {
    for (; value > 127; value >>= 7) bytes.push((value & 127) | 128);
    bytes.push(value);
  };
  for (const stroke of strokes) {
    write(stroke.length);
    const place = [0, 0];
    for (const point of stroke) {
      for (const axis of [0, 1]) {
        const step = Math.round(point[axis] * GRID) - place[axis];
        // Differences of both signs, small ones as small numbers.
        write(step < 0 ? -2 * step - 1 : 2 * step);
        place[axis] += step;
      }
    }
  }
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/**
 * The strokes of a text; null where it is not one of `encodeStrokes`.
 * @param {string} text
 * @returns {Stroke[] | null}
 */
export function decodeStrokes(text) {
  if (!/^[\w-]+$/.test(text) || text.length > 8 * MOST_POINTS) return null;
  let bytes;
  try {
    bytes = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  } catch {
    return null;
  }
  let at = 0;
  const read = () => {
    let value = 0;
    for (let shift = 0; shift < 21; shift += 7) {
      const byte = bytes.charCodeAt(at++); // NaN past the end, which is no byte.
      value += (byte & 127) << shift;
      if (!(byte > 127)) return Number.isNaN(byte) ? NaN : value;
    }
    return NaN;
  };
  const strokes = [];
  let left = MOST_POINTS;
  while (at < bytes.length) {
    const count = read();
    left -= count;
    if (!(count > 0 && left >= 0)) return null;
    const place = [0, 0];
    /** @type {Stroke} */
    const stroke = [];
    for (let i = 0; i < count; i++) {
      for (const axis of [0, 1]) {
        const step = read();
        place[axis] += step % 2 ? -(step + 1) / 2 : step / 2;
        if (!(place[axis] >= -GRID && place[axis] <= 2 * GRID)) return null;
      }
      stroke.push([place[0] / GRID, place[1] / GRID]);
    }
    strokes.push(stroke);
  }
  return strokes;
}

/**
 * Part of an ellipse, from and to in turns, clockwise from the right.
 * @param {number} x
 * @param {number} y
 * @param {number} width half of it
 * @param {number} height half of it
 * @param {number} from
 * @param {number} to
 * @returns {Stroke}
 */
function arc(x, y, width, height, from, to) {
  return Array.from({length: 25}, (_, i) => {
    const angle = 2 * Math.PI * (from + ((to - from) * i) / 24);
    return [x + width * Math.cos(angle), y + height * Math.sin(angle)];
  });
}

/** @type {Stroke[][]} */
const OUTLINES = [
  [arc(0.5, 0.5, 0.17, 0.3, -0.25, 0.76)],
  [[[0.42, 0.32], [0.52, 0.2], [0.52, 0.8]]],
  [[...arc(0.5, 0.36, 0.17, 0.16, -0.45, 0.1), [0.33, 0.8], [0.7, 0.8]]],
  [[...arc(0.47, 0.35, 0.17, 0.15, -0.42, 0.2), ...arc(0.47, 0.65, 0.19, 0.16, -0.2, 0.42)]],
  [[[0.38, 0.22], [0.33, 0.55], [0.68, 0.55]], [[0.62, 0.25], [0.6, 0.82]]],
  [[[0.4, 0.22], [0.37, 0.47], ...arc(0.47, 0.62, 0.19, 0.18, -0.35, 0.38)], [[0.4, 0.22], [0.68, 0.22]]],
  [[[0.6, 0.2], [0.42, 0.4], ...arc(0.5, 0.64, 0.15, 0.16, -0.5, 0.52)]],
  [[[0.32, 0.22], [0.68, 0.22], [0.46, 0.8]]],
  [[...arc(0.5, 0.35, 0.14, 0.15, 0.25, -0.75), ...arc(0.5, 0.65, 0.17, 0.15, -0.25, 0.76)]],
  [[...arc(0.49, 0.37, 0.15, 0.16, 0, -1), [0.64, 0.37], [0.6, 0.8]]],
];

/** How a person writes each digit. */
export const WRITTEN = OUTLINES.map((strokes) => strokes.map((stroke) => stroke.map(([x, y]) => toGrid(x, y))));
