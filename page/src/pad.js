/** The area to draw on. */

import {Drawing, toGrid} from './strokes.js';

/** @import {Point, Stroke} from './strokes.js' */

const PEN_WIDTH = 0.065;

/** A canvas on which a mouse, a finger or a pen draws. */
export class Pad {
  drawing = new Drawing();
  /** @type {{id: number, stroke: Stroke} | null} */
  #pen = null;
  #frame = 0;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => void} onChange is called after every change
   */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    const context = canvas.getContext('2d', {willReadFrequently: true});
    if (!context) throw new Error('This browser cannot draw.');
    this.context = context;
    canvas.addEventListener('pointerdown', (event) => this.#start(event));
    canvas.addEventListener('pointermove', (event) => this.#move(event));
    for (const kind of /** @type {const} */ (['pointerup', 'pointercancel'])) {
      canvas.addEventListener(kind, (event) => this.#end(event));
    }
  }

  get isDrawing() {
    return this.#pen !== null;
  }

  get isEmpty() {
    return !this.drawing.strokes.length;
  }

  /** @param {PointerEvent} event */
  #start(event) {
    if (this.#pen || event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#pen = {id: event.pointerId, stroke: this.drawing.begin(this.#place(event))};
    this.onChange();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.#pen?.id !== event.pointerId) return;
    const between = event.getCoalescedEvents?.() ?? [];
    const {stroke} = this.#pen;
    for (const each of between.length ? between : [event]) {
      const point = this.#place(each);
      if (String(point) !== String(stroke[stroke.length - 1])) stroke.push(point);
    }
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(this.onChange);
  }

  /** @param {PointerEvent} event */
  #end(event) {
    if (this.#pen?.id !== event.pointerId) return;
    this.#pen = null;
    this.onChange();
  }

  /**
   * @param {PointerEvent} event
   * @returns {Point}
   */
  #place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return toGrid((event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height);
  }

  /** Paints the strokes in the colour of text. */
  paint() {
    const {width, height} = this.canvas;
    this.context.clearRect(0, 0, width, height);
    this.context.lineCap = this.context.lineJoin = 'round';
    this.context.lineWidth = PEN_WIDTH * width;
    this.context.strokeStyle = getComputedStyle(document.body).color;
    for (const stroke of this.drawing.strokes) {
      this.context.beginPath();
      this.context.moveTo(stroke[0][0] * width, stroke[0][1] * height);
      for (const [x, y] of stroke) this.context.lineTo(x * width, y * height);
      this.context.stroke();
    }
  }

  /** What is drawn, as levels of ink: how opaque each pixel is. */
  levels() {
    const {width, height} = this.canvas;
    const {data} = this.context.getImageData(0, 0, width, height);
    const levels = new Uint8Array(width * height);
    for (let i = 0, k = 3; i < levels.length; i++, k += 4) levels[i] = data[k];
    return levels;
  }
}
