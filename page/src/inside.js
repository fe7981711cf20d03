/** The part of the page that shows one model from inside, for a digit and perhaps against another. */

import {bestOf} from './answers.js';
import {find, make} from './dom.js';
import {direction} from './explanation.js';
import {logitsOf} from './inference.js';
import {makePanels} from './panels.js';
import {readPalette} from './picture.js';

/** @import {Maps} from './inference.js' */
/** @import {Model} from './model.js' */
/** @import {Moment, Panel} from './panels.js' */

// After so many milliseconds without a change the pen rests.
const REST = 120;

/** What is chosen, and the panels that show it. */
export class Inside {
  /** @type {Model[]} */
  #models;
  #panels = find('panels', HTMLElement);
  #digit = find('digit', HTMLSelectElement);
  #rival = find('rival', HTMLSelectElement);
  /** @type {Maps[][]} */
  #traces = [];
  #timer = 0;
  #frame = 0;
  // Counts what was shown, so that refining stops when there is something new.
  #turn = 0;
  /** @type {Panel[]} */
  #shown = [];

  /** @param {Model[]} models */
  constructor(models) {
    this.#models = models;
    this.model = models[0];
    const digits = Array.from({length: 10}, (_, digit) => String(digit));
    this.#digit.append(make('option', {value: 'best'}, 'its answer'));
    this.#rival.append(make('option', {value: ''}, '\u2014'), make('option', {value: 'second'}, 'its second choice'));
    for (const select of [this.#digit, this.#rival]) {
      select.append(...digits.map((digit) => make('option', {value: digit}, digit)));
      select.addEventListener('change', () => this.#show(true));
    }
    models.forEach((model, i) => {
      const input = make('input', {type: 'radio', name: 'model', checked: i === 0});
      input.addEventListener('change', () => this.#choose(model));
      find('models', HTMLFieldSetElement).append(make('label', {}, input, model.name));
    });
    this.#choose(this.model);
  }

  /**
   * Shows a drawing soon: after the answers, and in full when the pen rests.
   * @param {Maps[][]} traces what each model's layers make of it
   */
  update(traces) {
    this.#traces = traces;
    this.#turn++;
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#show(false));
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#show(true), REST);
  }

  /** @param {Model} model */
  #choose(model) {
    this.model = model;
    this.#shown = makePanels(model, (digit) => {
      this.#digit.value = String(digit);
      this.#show(true);
    });
    this.#panels.replaceChildren(...this.#shown.map(({element}) => element));
    if (this.#traces.length) this.#show(true);
  }

  /** @param {boolean} isResting */
  #show(isResting) {
    const trace = this.#traces[this.#models.indexOf(this.model)];
    const [image] = trace;
    const {digit, rival} = this.#question(logitsOf(trace));
    const isEmpty = !image.values.some((value) => value);
    const moment = {
      image, trace, digit, rival, isEmpty, isResting, weights: direction(digit, rival), palette: readPalette(),
    };
    find('legend-for', HTMLElement).textContent = `speaks for ${digit}`;
    const against = rival === null ? `speaks against ${digit}` : `speaks for ${rival}`;
    find('legend-against', HTMLElement).textContent = against;
    find('blank', HTMLElement).hidden = !isEmpty;
    for (const panel of this.#shown) panel.show(moment);
    if (isResting) this.#refine(moment);
  }

  /** @param {Moment} moment */
  async #refine(moment) {
    const turn = ++this.#turn;
    for (const panel of this.#shown) {
      for (const steps = panel.refine?.(moment); steps && !steps.next().done; ) {
        // A stroke that begins now is answered now.
        await new Promise((done) => setTimeout(done));
        if (turn !== this.#turn) return;
      }
    }
  }

  /**
   * The digit in question, and the rival.
   * @param {Float32Array} logits
   */
  #question(logits) {
    const digit = this.#digit.value === 'best' ? bestOf(logits) : Number(this.#digit.value);
    const others = logits.map((value, i) => (i === digit ? -Infinity : value));
    const chosen = this.#rival.value === 'second' ? bestOf(others) : Number(this.#rival.value);
    // A digit is not its own rival.
    return {digit, rival: this.#rival.value === '' || chosen === digit ? null : chosen};
  }
}
