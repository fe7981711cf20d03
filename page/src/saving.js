/** The drawing and the answers as a picture. */

/** @import {Model} from './model.js' */

const SIDE = 448;
const MARGIN = 32;
const CARD = 240;
const ROW = 28;

/**
 * Draws the picture: black on white in any theme.
 * @param {HTMLCanvasElement} pad
 * @param {Model[]} models
 * @param {(number[] | null)[]} answers
 */
function compose(pad, models, answers) {
  const canvas = document.createElement('canvas');
  canvas.width = SIDE + 2 * MARGIN + models.length * (CARD + MARGIN);
  canvas.height = SIDE + 2 * MARGIN;
  const context = canvas.getContext('2d');
  if (!context) throw new Error('This browser cannot draw.');
  // What is drawn has the colour of the theme; its opacity is the ink.
  context.drawImage(pad, MARGIN, MARGIN, SIDE, SIDE);
  context.globalCompositeOperation = 'source-in';
  context.fillStyle = '#000';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = 'destination-over';
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = 'source-over';
  context.strokeStyle = '#ccc';
  context.strokeRect(MARGIN - 0.5, MARGIN - 0.5, SIDE + 1, SIDE + 1);
  models.forEach((model, i) => {
    context.save();
    context.translate(SIDE + 2 * MARGIN + i * (CARD + MARGIN), MARGIN);
    composeCard(context, model, answers[i]);
    context.restore();
  });
  return canvas;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Model} model
 * @param {number[] | null} probabilities
 */
function composeCard(context, model, probabilities) {
  context.fillStyle = '#000';
  context.textBaseline = 'top';
  context.font = 'bold 22px sans-serif';
  context.fillText(model.name, 0, 0, CARD);
  if (!probabilities) return;
  const best = probabilities.indexOf(Math.max(...probabilities));
  context.font = 'bold 72px sans-serif';
  context.fillText(String(best), 0, 40);
  probabilities.forEach((probability, digit) => {
    const y = 140 + digit * ROW;
    context.font = `${digit === best ? 'bold ' : ''}18px sans-serif`;
    context.fillStyle = '#000';
    context.fillText(String(digit), 0, y);
    context.fillText(`${(100 * probability).toFixed(1)}%`, CARD - 62, y);
    context.fillStyle = digit === best ? '#1c64b0' : '#777';
    context.fillRect(20, y + 2, probability * (CARD - 92), 14);
  });
}

/**
 * Saves the picture as a file.
 * @param {HTMLCanvasElement} pad
 * @param {Model[]} models
 * @param {(number[] | null)[]} answers
 */
export async function savePicture(pad, models, answers) {
  const canvas = compose(pad, models, answers);
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ done) => canvas.toBlob(done, 'image/png'));
  if (!blob) throw new Error('This browser made no picture.');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = 'digit.png';
  link.click();
  // The browser reads it after this.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
