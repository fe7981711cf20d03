import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {test} from 'node:test';
import {inflateSync} from 'node:zlib';

import {prepare} from '../src/preparation.js';

// Python meets the same: tests/test_page.py.
const vectors = JSON.parse(readFileSync(new URL('preparation.json', import.meta.url), 'utf8'));
const unpack = (/** @type {string} */ text) => new Uint8Array(inflateSync(Buffer.from(text, 'base64')));

for (const {name, width, height, levels, prepared} of vectors) {
  test(`prepares ${name} as Python does`, () => {
    assert.deepEqual(prepare(unpack(levels), width, height), unpack(prepared));
  });
}
