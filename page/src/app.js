/** The page: what is drawn, prepared, answered and shown. */

import {Card} from './answers.js';
import {find} from './dom.js';
import {logitsOf, run, softmax, toImage} from './inference.js';
import {Inside} from './inside.js';
import {readModels, SIDE} from './model.js';
import {Pad} from './pad.js';
import {paintLevels} from './picture.js';
import {prepare} from './preparation.js';
import {savePicture} from './saving.js';
import {decodeStrokes, encodeStrokes, WRITTEN} from './strokes.js';

// So long after the last change the answers are said to a screen reader, in milliseconds.
const SPEAK_AFTER = 400;
const KEY = 'drawing=';

/** Brings the page to life. */
export function start() {
  const models = readModels(find('content', HTMLElement).textContent ?? '');
  const cards = models.map((model) => new Card(model));
  find('answers', HTMLElement).append(...cards.map(({element}) => element));
  const inside = new Inside(models);
  const [undoButton, clearButton, saveButton, linkButton] = ['undo', 'clear', 'save', 'link'].map(
    (id) => find(id, HTMLButtonElement),
  );
  const seen = find('seen', HTMLCanvasElement);
  const canvas = find('pad', HTMLCanvasElement);
  const pad = new Pad(canvas, answer);
  /** @type {(number[] | null)[]} */
  let answers = [];
  let speaking = 0;

  function answer() {
    pad.paint();
    const levels = prepare(pad.levels(), canvas.width, canvas.height);
    const image = toImage(levels);
    const isEmpty = !levels.some((level) => level);
    const traces = models.map((model) => run(model, image));
    answers = models.map((model, i) => (isEmpty ? null : softmax(logitsOf(traces[i]), model.temperature)));
    const said = cards.map((card, i) => card.show(answers[i]));
    paintLevels(seen, levels, SIDE);
    undoButton.disabled = !pad.drawing.canUndo;
    clearButton.disabled = saveButton.disabled = linkButton.disabled = pad.isEmpty;
    const count = pad.drawing.strokes.length;
    canvas.setAttribute('aria-label', `Drawing area, ${count ? `${count} stroke${count > 1 ? 's' : ''}` : 'empty'}`);
    tell('');
    clearTimeout(speaking);
    if (!pad.isDrawing) {
      const text = isEmpty ? 'Nothing drawn.' : said.join(' ');
      speaking = window.setTimeout(() => { find('status', HTMLElement).textContent = text; }, SPEAK_AFTER);
    }
    inside.update(traces);
  }

  /** @param {string} text */
  function tell(text) {
    find('note', HTMLElement).textContent = text;
  }

  function undo() {
    pad.drawing.undo();
    answer();
  }

  /** @param {import('./strokes.js').Stroke[]} strokes */
  function replace(strokes) {
    pad.drawing.replace(strokes);
    answer();
  }

  async function copyLink() {
    history.replaceState(null, '', `#${KEY}${encodeStrokes(pad.drawing.strokes)}`);
    try {
      await navigator.clipboard.writeText(location.href);
      tell('The link is copied. It carries the strokes, and no server sees them.');
    } catch {
      tell('The link is in the address bar. It carries the strokes, and no server sees them.');
    }
  }

  function readLink() {
    const text = location.hash.slice(1);
    if (!text.startsWith(KEY)) return;
    const strokes = decodeStrokes(text.slice(KEY.length));
    if (strokes) replace(strokes);
    else tell('The link is damaged: copy it again.');
  }

  undoButton.addEventListener('click', undo);
  clearButton.addEventListener('click', () => replace([]));
  saveButton.addEventListener('click', () => savePicture(canvas, models, answers));
  linkButton.addEventListener('click', copyLink);
  window.addEventListener('hashchange', readLink);
  document.addEventListener('keydown', (event) => {
    const key = event.key.toLowerCase();
    const isCommand = event.ctrlKey || event.metaKey;
    // The same keys choose from a list of digits.
    if (pad.isDrawing || event.target instanceof HTMLSelectElement) return;
    if (event.altKey || (isCommand && key !== 'z')) return;
    if (key === 'u' || (key === 'z' && isCommand)) undo();
    else if (key === 'c' || key === 'delete') replace([]);
    else if (/^[0-9]$/.test(key)) replace(structuredClone(WRITTEN[Number(key)]));
    else return;
    event.preventDefault();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', answer);

  // Not instanceof: it is an element of another window.
  const outside = /** @type {HTMLElement | null} */ (window.frameElement);
  if (outside) {
    // Inside a report: its frame becomes as high as the page, and two pixels for the border. It has no link of its own.
    linkButton.hidden = true;
    const fit = () => { outside.style.height = `${document.body.offsetHeight + 2}px`; };
    new ResizeObserver(() => requestAnimationFrame(fit)).observe(document.body);
  }
  answer();
  readLink();
  return {models, levels: () => pad.levels()};
}
