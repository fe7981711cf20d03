// Runs the script of an exported page without a browser: writes what layers make of images.
//
// node run_page.mjs PAGE JOB OUTPUT: the job is JSON, {"images": base64 of uint8[n, 784], "items": {MODEL: [i, ...]}};
// the output is float32, of each image each model's items of the trace, in order.
import {readFileSync, writeFileSync} from 'node:fs';
import vm from 'node:vm';

const [page, job, output] = process.argv.slice(2);
const html = readFileSync(page, 'utf8');
const content = /<script type="application\/json" id="content">(.*)<\/script>/.exec(html)[1];
const script = /<script>([^]*)<\/script>/.exec(html)[1];
const context = vm.createContext({atob, btoa});
vm.runInContext(`${script};globalThis.digits = digits;`, context);
const {digits} = context;
const models = digits.readModels(content);
const {images, items} = JSON.parse(readFileSync(job, 'utf8'));
const levels = Buffer.from(images, 'base64');
const parts = [];
for (let start = 0; start < levels.length; start += 784) {
  const image = digits.toImage(levels.subarray(start, start + 784));
  for (const model of models) {
    const trace = digits.run(model, image);
    for (const item of items[model.name]) parts.push(Buffer.from(Float32Array.from(trace[item].values).buffer));
  }
}
writeFileSync(output, Buffer.concat(parts));
