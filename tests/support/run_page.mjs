// Runs the script of an exported page without a browser: writes what layers make of images, and gradients.
//
// node run_page.mjs PAGE JOB OUTPUT: the job is JSON, {"images": base64 of uint8[n, 784], "items": {MODEL: [i, ...]},
// "pair": [digit, rival]}; the output is float32, of each image each model's items of the trace in order, and then the
// gradient, by the image, of how far the digit's logit is ahead of the rival's.
import {readFileSync, writeFileSync} from 'node:fs';
import vm from 'node:vm';

const [page, job, output] = process.argv.slice(2);
const html = readFileSync(page, 'utf8');
const content = /<script type="application\/json" id="content">(.*)<\/script>/.exec(html)[1];
const script = /<script>([^]*)<\/script>/.exec(html)[1];
vm.runInThisContext(script);
const {digits} = globalThis;
const models = digits.readModels(content);
const {images, items, pair} = JSON.parse(readFileSync(job, 'utf8'));
const levels = Buffer.from(images, 'base64');
const parts = [];
for (let start = 0; start < levels.length; start += 784) {
  const image = digits.toImage(levels.subarray(start, start + 784));
  for (const model of models) {
    const trace = digits.run(model, image);
    const found = items[model.name].map((item) => trace[item].values);
    found.push(digits.gradient(model, trace, digits.direction(...pair)));
    for (const values of found) parts.push(Buffer.from(Float32Array.from(values).buffer));
  }
}
writeFileSync(output, Buffer.concat(parts));
