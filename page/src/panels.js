/** Panels that show what happens inside of a model; which ones, its layers decide. */

import {make, makeCanvas, rove, signed} from './dom.js';
import {
  channelOf, evidence, evidenceInSteps, featureMaps, hiddenUnits, isLinear, kernelsOf, occlusionInSteps, PATCH,
  templates, unitImage,
} from './explanation.js';
import {SIDE} from './model.js';
import {largestOf, paintOver, paintSigned} from './picture.js';

/** @import {Evidence} from './explanation.js' */
/** @import {Maps} from './inference.js' */
/** @import {Model} from './model.js' */
/** @import {Palette} from './picture.js' */

/**
 * A drawing and a question about it: why a digit, and perhaps why not a rival, which `weights` of the logits say too.
 * @typedef {{image: Maps, trace: Maps[], weights: number[], digit: number, rival: number | null, isEmpty: boolean,
 *   isResting: boolean, palette: Palette}} Moment
 *
 * A panel shows what is quick to find at once, and refines the rest in steps of some milliseconds when the pen rests.
 * @typedef {{element: HTMLElement, show: (moment: Moment) => void, refine?: (moment: Moment) => Generator<void, void>}}
 *   Panel
 */

const STRONGEST_UNITS = 8;
const LARGEST_KERNELS = 8;

/**
 * The panels of a model.
 * @param {Model} model
 * @param {(digit: number) => void} chooseDigit
 * @returns {Panel[]}
 */
export function makePanels(model, chooseDigit) {
  const panels = [makeEvidence(model)];
  if (templates(model)) panels.push(makeTemplates(model, chooseDigit));
  if (!isLinear(model)) panels.push(makeOcclusion(model));
  if (hasUnits(model)) panels.push(makeUnits(model));
  model.layers.forEach((layer, i) => {
    if (layer.kind === 'convolution') panels.push(makeMaps(model, i));
  });
  return panels;
}

/** @param {Model} model */
function hasUnits(model) {
  return model.layers.filter((layer) => layer.kind === 'dense').length > 1;
}

/**
 * @param {string} title
 * @param {string} about
 * @param {boolean} isWide
 * @param {(Node | string)[]} content
 */
function makePanel(title, about, isWide, ...content) {
  const heading = make('h3', {}, title);
  return make('section', {class: isWide ? 'panel wide' : 'panel'}, heading, make('p', {}, about), ...content);
}

/**
 * What each pixel adds to the answer, and the sum.
 * @param {Model} model
 * @returns {Panel}
 */
function makeEvidence(model) {
  const canvas = makeCanvas('picture large', 'What each pixel adds');
  const sum = make('dl', {class: 'sum'});
  const about = isLinear(model)
    ? 'Each pixel: its ink times its weight.'
    : 'Each pixel: its ink times the mean of its gradient on the way from blank paper to this drawing.';
  const element = makePanel('Pixel by pixel', about, false, canvas, sum);

  /**
   * @param {Moment} moment
   * @param {Evidence} found
   */
  function paint({digit, rival, isEmpty, palette}, {pixels, ink, blank, score}) {
    paintSigned(canvas, pixels, SIDE, palette);
    const total = rival === null ? `logit of ${digit}` : `${digit} ahead of ${rival} by`;
    /** @type {[string, number][]} */
    const terms = [['all ink', ink], [isLinear(model) ? 'bias' : 'blank paper', blank]];
    // What the steps of the mean leave out.
    if (Math.abs(score - ink - blank) >= 0.005) terms.push(['left over', score - ink - blank]);
    terms.push([total, score]);
    const rows = terms.map(([name, value]) => [make('dt', {}, name), make('dd', {}, make('bdi', {}, signed(value)))]);
    sum.replaceChildren(...rows.flat());
    canvas.setAttribute('aria-label', isEmpty ? 'Nothing drawn' : `What each pixel adds: ${signed(ink)} together`);
  }

  return {
    element,
    show(moment) {
      if (isLinear(model)) paint(moment, evidence(model, moment.image, moment.weights));
    },
    * refine(moment) {
      if (!isLinear(model)) paint(moment, yield* evidenceInSteps(model, moment.image, moment.weights));
    },
  };
}

/**
 * What each square of the drawing is worth to the answer.
 * @param {Model} model
 * @returns {Panel}
 */
function makeOcclusion(model) {
  const canvas = makeCanvas('picture large', 'What wiping out each square changes');
  const most = make('p');
  const about = `Each square of ${PATCH}\u00d7${PATCH} pixels: what is lost when it is wiped out.`;
  return {
    element: makePanel('Square by square', about, false, canvas, most),
    show() {},
    * refine({image, weights, palette}) {
      const lost = yield* occlusionInSteps(model, image, weights);
      const largest = largestOf(lost);
      paintSigned(canvas, lost, SIDE, palette);
      most.textContent = largest ? `At most ${largest.toFixed(2)} in one square.` : '';
    },
  };
}

/**
 * The weight images of the ten digits.
 * @param {Model} model
 * @param {(digit: number) => void} chooseDigit
 * @returns {Panel}
 */
function makeTemplates(model, chooseDigit) {
  const images = templates(model) ?? [];
  const largest = Math.max(...images.map(largestOf));
  const buttons = images.map((_, digit) => {
    const canvas = makeCanvas('picture');
    const button = make('button', {type: 'button', 'aria-label': `Template of ${digit}`}, canvas, String(digit));
    button.addEventListener('click', () => chooseDigit(digit));
    return {button, canvas};
  });
  const group = make('div', {class: 'pictures', role: 'group', 'aria-label': 'Templates'});
  group.append(...buttons.map(({button}) => button));
  rove(group);
  return {
    element: makePanel('Templates', 'The weights of each digit, which the ink is multiplied with.', false, group),
    show({digit, isResting, palette}) {
      if (!isResting) return;
      buttons.forEach(({button, canvas}, i) => {
        paintSigned(canvas, images[i], SIDE, palette, largest);
        button.setAttribute('aria-pressed', String(i === digit));
      });
    },
  };
}

const SVG = 'http://www.w3.org/2000/svg';

/**
 * The hidden units that the logits are made of.
 * @param {Model} model
 * @returns {Panel}
 */
function makeUnits(model) {
  const bars = document.createElementNS(SVG, 'svg');
  bars.setAttribute('class', 'bars');
  bars.setAttribute('preserveAspectRatio', 'none');
  bars.setAttribute('role', 'img');
  const strongest = Array.from({length: STRONGEST_UNITS}, () => {
    const canvas = makeCanvas('picture');
    const caption = make('figcaption');
    return {canvas, caption, figure: make('figure', {class: 'unit'}, canvas, caption)};
  });
  const pictures = make('div', {class: 'pictures'}, ...strongest.map(({figure}) => figure));
  const about = 'A bar is as high as its unit is active. Below it: the units that add most, and what each looks for.';
  return {
    element: makePanel('Hidden units', about, true, bars, pictures),
    show({trace, weights}) {
      const units = hiddenUnits(model, trace, weights);
      if (units) showBars(bars, units.active, units.added);
    },
    * refine({trace, weights, isEmpty, palette}) {
      const units = hiddenUnits(model, trace, weights);
      if (!units) return;
      const {layer, active, added} = units;
      const order = Array.from(added.keys()).sort((a, b) => Math.abs(added[b]) - Math.abs(added[a]));
      for (const [i, {canvas, caption, figure}] of strongest.entries()) {
        const unit = order[i];
        figure.hidden = isEmpty || unit === undefined;
        if (figure.hidden) continue;
        paintSigned(canvas, unitImage(model, trace, layer, unit), SIDE, palette);
        const lines = [`no. ${unit}`, `active ${active[unit].toFixed(2)}`, `adds ${signed(added[unit])}`];
        caption.replaceChildren(...lines.flatMap((line) => [line, make('br')]));
        yield;
      }
    },
  };
}

/**
 * @param {SVGSVGElement} svg
 * @param {Float32Array} active
 * @param {Float32Array} added
 */
function showBars(svg, active, added) {
  while (svg.childElementCount < active.length) svg.append(document.createElementNS(SVG, 'rect'));
  const largest = largestOf(active) || 1;
  // Units with tanh and the like are also negative, and then their bars hang down.
  const hasNegative = active.some((value) => value < 0);
  const [zero, scale] = hasNegative ? [50, 50 / largest] : [100, 100 / largest];
  svg.setAttribute('viewBox', `0 0 ${active.length} 100`);
  const most = active.indexOf(Math.max(...active));
  svg.setAttribute('aria-label', `${active.length} hidden units; the most active is no. ${most}`);
  Array.from(svg.children).forEach((rect, i) => {
    const height = Math.abs(active[i]) * scale;
    const box = {x: i + 0.1, width: 0.8, y: active[i] < 0 ? zero : zero - height, height};
    for (const [name, value] of Object.entries(box)) rect.setAttribute(name, value.toFixed(2));
    rect.setAttribute('class', added[i] > 0 ? 'for' : 'against');
  });
}

/**
 * The feature maps of a convolution; of the chosen one, its kernels and where it fires.
 * @param {Model} model
 * @param {number} index of the layer
 * @returns {Panel}
 */
function makeMaps(model, index) {
  const layer = model.layers[index];
  if (layer.kind !== 'convolution') throw new Error('Only a convolution has feature maps.');
  const features = layer.shape[3];
  let order = Array.from({length: features}, (_, i) => i);
  let chosen = -1;
  /** @type {Moment | null} */
  let latest = null;
  const buttons = order.map((_, place) => {
    const canvas = makeCanvas('picture small');
    const button = make('button', {type: 'button'}, canvas);
    button.addEventListener('click', () => {
      chosen = chosen === order[place] ? -1 : order[place];
      if (latest) show(latest);
    });
    return {button, canvas};
  });
  const group = make('div', {class: 'pictures maps', role: 'group', 'aria-label': `Feature maps of ${layer.name}`});
  group.append(...buttons.map(({button}) => button));
  rove(group);
  const fires = makeCanvas('picture large', 'Where the map fires on the drawing');
  const firesCaption = make('figcaption');
  const kernels = make('div', {class: 'pictures'});
  const kernelCaption = make('figcaption');
  const detail = make(
    'div', {class: 'detail', hidden: true},
    make('figure', {}, firesCaption, fires), make('figure', {}, kernelCaption, kernels),
  );
  const about = `${features} feature maps, the strongest first. Choose one to see its kernel and where it fires.`;

  /** @param {Moment} moment */
  function show(moment) {
    latest = moment;
    const {maps, peaks} = featureMaps(model, moment.trace).filter((each) => each.layer === index)[0];
    // While the pen moves, maps keep their places.
    if (moment.isResting) order = order.toSorted((a, b) => peaks[b] - peaks[a]);
    const largest = largestOf(maps.values);
    buttons.forEach(({button, canvas}, place) => {
      const feature = order[place];
      paintSigned(canvas, channelOf(maps, feature), maps.size, moment.palette, largest);
      button.setAttribute('aria-label', `Map ${feature}, at most ${peaks[feature].toFixed(2)}`);
      button.setAttribute('aria-pressed', String(feature === chosen));
    });
    detail.hidden = chosen < 0;
    if (chosen < 0) return;
    paintOver(fires, moment.image.values, SIDE, channelOf(maps, chosen), moment.palette);
    firesCaption.textContent = `Where map ${chosen} fires: at most ${peaks[chosen].toFixed(2)}`;
    showKernels(moment.palette);
  }

  /** @param {Palette} palette */
  function showKernels(palette) {
    if (layer.kind !== 'convolution') return;
    const all = kernelsOf(layer, chosen);
    const some = all.slice(0, LARGEST_KERNELS);
    const largest = Math.max(...some.map(({values}) => largestOf(values)));
    const of = all.length > some.length ? `the ${some.length} largest of ${all.length}` : 'one';
    kernelCaption.textContent = all.length > 1 ? `Its kernel, by map that comes in: ${of}` : 'Its kernel';
    kernels.replaceChildren(...some.map(({channel, values, width}) => {
      const canvas = makeCanvas('picture', `Kernel for ${all.length > 1 ? `map ${channel}` : 'the image'}`);
      paintSigned(canvas, values, width, palette, largest);
      return make('figure', {}, canvas, make('figcaption', {}, all.length > 1 ? `map ${channel}` : ''));
    }));
  }

  return {element: makePanel(`Convolution: ${layer.name}`, about, true, group, detail), show};
}
