// Drawing a little in every frame, and the elements that show it.

const jobs = new Map();
let isScheduled = false;

function schedule(key, job) {
  jobs.set(key, job); // in the place of an earlier one that has not run
  if (!isScheduled) {
    isScheduled = true;
    requestAnimationFrame(runJobs);
  }
}

function runJobs() {
  const end = performance.now() + FRAME_MS;
  for (const [key, job] of jobs) {
    jobs.delete(key);
    job();
    if (performance.now() > end) break;
  }
  isScheduled = jobs.size > 0;
  if (isScheduled) requestAnimationFrame(runJobs);
}

function draw(canvas, row, factor, indices) {
  const shape = shapeAt(factor);
  const values = evaluate(network, row, pointsAt(shape));
  const range = rangeOver(indices);
  if (isLine) drawLine(canvas, values, network.outputs, range);
  else if (data.kind === "shape") drawDistances(canvas, values, shape, range);
  else drawImage(canvas, toVisible(values, shape, network.outputs, range, data.has_alpha));
  return values;
}

function find(id) {
  return document.getElementById(id);
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className || "";
  if (text !== undefined) element.textContent = text; // never as markup
  return element;
}

function className(index) {
  return data.classes.length ? data.classes[data.label[index]] : `object ${data.object_id[index]}`;
}

function psnrText(index) {
  return data.psnr[index] === null ? "" : `${data.psnr[index].toFixed(1)} dB`;
}

function predictionOf(index) {
  return data.predictions && data.predictions[index];
}

// Predictions are right or wrong where the network knew the store's classes.
const isJudged =
  data.predictions !== null &&
  data.predictions.every((one) => one === null || data.classes.includes(one.name));

function isRight(index) {
  return predictionOf(index).name === className(index);
}

function hueOf(label) {
  return `hsl(${Math.round((360 * label) / Math.max(1, data.classes.length))} 62% 46%)`;
}
