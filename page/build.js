/**
 * Bundles the page into digits/export/drawing_page.html.
 *
 * With --check, fails if that file is not what it would build.
 */

import {createHash} from 'node:crypto';
import {readdirSync, readFileSync, writeFileSync} from 'node:fs';
import {fileURLToPath} from 'node:url';

import {buildSync} from 'esbuild';

const read = (/** @type {string} */ path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const hash = (/** @type {string} */ text) => `sha256-${createHash('sha256').update(text).digest('base64')}`;

function build() {
  const {outputFiles} = buildSync({
    absWorkingDir: fileURLToPath(new URL('.', import.meta.url)),
    entryPoints: ['src/main.js'],
    bundle: true,
    format: 'iife',
    globalName: 'digits',
    legalComments: 'none',
    target: 'es2023',
    write: false,
  });
  const script = `\n${outputFiles[0].text}`;
  const style = `\n${read('src/style.css')}`;
  const names = readdirSync(new URL('src/', import.meta.url)).sort();
  // Where these tools are missing, a test still sees by it that sources have changed.
  const sources = hash(names.map((name) => read(`src/${name}`)).join(''));
  /** @type {Record<string, string>} */
  const parts = {
    SCRIPT: script, STYLE: style, SCRIPT_HASH: hash(script), STYLE_HASH: hash(style), SOURCES_HASH: sources,
  };
  if (script.includes('</script')) throw new Error('The script would end where it says </script.');
  return read('src/page.html').replace(/\/\*(\w+)\*\//g, (place, name) => parts[name] ?? place);
}

const target = new URL('../digits/export/drawing_page.html', import.meta.url);
if (!process.argv.includes('--check')) {
  writeFileSync(target, build());
} else if (readFileSync(target, 'utf8') !== build()) {
  console.error('digits/export/drawing_page.html is not what page/ builds: run npm run build there.');
  process.exitCode = 1;
}
