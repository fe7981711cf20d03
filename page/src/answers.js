/** The answers of all models, as cards with bars. */

import {make} from './dom.js';

/** @import {Model} from './model.js' */

/** @param {number} value */
export function percent(value) {
  return `${(100 * value).toFixed(value < 0.9995 && value >= 0.0005 ? 1 : 0)}%`;
}

/** @param {ArrayLike<number>} values */
export function bestOf(values) {
  const list = Array.from(values);
  return list.indexOf(Math.max(...list));
}

/** One model's answer. */
export class Card {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.answer = make('div', {class: 'answer'});
    this.strong = make('strong');
    this.rest = make('span');
    this.rows = Array.from({length: 10}, (_, digit) => {
      const bar = make('div', {class: 'bar'});
      const share = make('span');
      const track = make('div', {class: 'track'}, bar);
      const row = make('div', {class: 'row'}, make('span', {}, String(digit)), track, share);
      return {row, bar, share};
    });
    this.answer.append(this.strong, this.rest);
    const about = make('p', {}, model.title);
    if (model.accuracy !== null) about.append(make('br'), `test accuracy ${(100 * model.accuracy).toFixed(2)}%`);
    const rows = make('div', {'aria-hidden': 'true'}, ...this.rows.map(({row}) => row));
    this.element = make('article', {}, make('h2', {}, model.name), about, this.answer, rows);
  }

  /**
   * Shows probabilities, or that there are none.
   * @param {number[] | null} probabilities
   * @returns {string} the answer as a sentence
   */
  show(probabilities) {
    const best = probabilities ? bestOf(probabilities) : -1;
    const share = probabilities ? percent(probabilities[best]) : '';
    this.strong.hidden = !probabilities;
    this.strong.textContent = probabilities ? String(best) : '';
    this.rest.textContent = probabilities ? share : 'nothing drawn';
    this.rows.forEach((each, digit) => {
      each.row.classList.toggle('best', digit === best);
      each.bar.style.width = probabilities ? `${100 * probabilities[digit]}%` : '0';
      each.share.textContent = probabilities ? percent(probabilities[digit]) : '';
    });
    return probabilities ? `${this.model.name} says ${best}, ${share}.` : '';
  }
}
