/** The bundle: in a browser it starts the page; elsewhere, as in tests, it only gives its functions. */

import {start} from './app.js';

export * from './explanation.js';
export * from './inference.js';
export * from './model.js';
export * from './preparation.js';
export * from './strokes.js';

export const page = typeof document === 'undefined' ? null : start();
