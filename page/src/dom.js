/** Elements: how they are found and made. */

/**
 * An element of the page that must be there.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function find(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`The page has no ${type.name} with the id ${id}.`);
  return element;
}

/**
 * A new element with attributes and children; an attribute that is false is left out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean>} attributes
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * A canvas that is an image to those who cannot see it, or hidden from them where text beside it says the same.
 * @param {string} className
 * @param {string} label
 */
export function makeCanvas(className, label = '') {
  return make('canvas', {
    class: className, width: 28, height: 28, ...(label ? {role: 'img', 'aria-label': label} : {'aria-hidden': 'true'}),
  });
}

/**
 * A number with its sign, to two places.
 * @param {number} value
 */
export function signed(value) {
  const text = Math.abs(value).toFixed(2);
  if (text === '0.00') return text;
  return (value < 0 ? '\u2212' : '+') + text;
}

/**
 * Makes one stop of many buttons: arrow keys, Home and End move between them.
 * @param {HTMLElement} group
 */
export function rove(group) {
  const buttons = Array.from(group.querySelectorAll('button'));
  const focus = (/** @type {number} */ index) => {
    buttons.forEach((button, i) => { button.tabIndex = i === index ? 0 : -1; });
  };
  focus(0);
  buttons.forEach((button, i) => button.addEventListener('focus', () => focus(i)));
  group.addEventListener('keydown', (event) => {
    const at = buttons.findIndex((button) => button === document.activeElement);
    const forward = getComputedStyle(group).direction === 'rtl' ? -1 : 1;
    const {top} = buttons[at]?.getBoundingClientRect() ?? {top: 0};
    const inRow = buttons.filter((button) => button.getBoundingClientRect().top === top).length;
    /** @type {Record<string, number>} */
    const targets = {
      ArrowRight: at + forward, ArrowLeft: at - forward, ArrowDown: at + inRow, ArrowUp: at - inRow, Home: 0,
      End: buttons.length - 1,
    };
    const target = buttons[targets[event.key]];
    if (at < 0 || !target) return;
    target.focus();
    event.preventDefault();
  });
}
