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

function shapeAt(factor) {
  return data.fine_grid.map((size) => Math.max(1, Math.round(size * factor)));
}

const pointsOf = new Map();

function pointsAt(shape) {
  const key = shape.join();
  if (!pointsOf.has(key)) pointsOf.set(key, gridPoints(shape, data.axis_order));
  return pointsOf.get(key);
}

const rangeOf = new Map(); // a line is drawn over the values that it has unaugmented

function lineRange(index) {
  if (!rangeOf.has(index)) {
    const values = evaluate(network, rowOf(index), pointsAt(shapeAt(tileFactor)));
    rangeOf.set(index, [Math.min(...values), Math.max(...values)]);
  }
  return rangeOf.get(index);
}

function draw(canvas, row, factor, indices) {
  const shape = shapeAt(factor);
  const values = evaluate(network, row, pointsAt(shape));
  if (isLine) {
    const ranges = indices.map(lineRange);
    const range = [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))];
    drawLine(canvas, values, network.outputs, range);
  } else {
    drawImage(canvas, values, shape, network.outputs, data.value_range);
  }
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
