// The page: a grid of INRs with filters, and a bench where two of them are augmented and mixed.

const data = JSON.parse(document.getElementById("data").textContent);
const network = makeNetwork(data.architecture);
const allParameters = decodeParameters(data.parameters);
const numINRs = data.label.length;
const isLine = network.inputs === 1;
const SYMMETRIES = network.isSine
  ? ["none", "permutation", "signed_permutation"]
  : ["none", "permutation"];
const SYMMETRY_NAMES = {
  none: "as it is",
  permutation: "permutation",
  signed_permutation: "signed permutation",
};
const WALK_STEPS = 9;
const FRAME_MS = 12; // of computing, before the browser may draw

const state = {
  own: 0,
  partner: Math.max(0, data.label.findIndex((label) => label !== data.label[0])),
  next: "own", // which of the two a click in the grid chooses
  share: 0.5, // lambda: A's
  symmetry: SYMMETRIES[SYMMETRIES.length - 1],
  preview: null,
  seed: 1,
  factor: isLine ? 1 : 4,
  classes: new Set(),
};
if (state.partner === 0 && numINRs > 1) state.partner = 1;

const AUGMENTATIONS = {
  rotation: {
    name: "Rotation",
    fits: network.inputs === 2,
    note: "f(x) becomes f(Rx), exactly",
    sliders: { angle: { value: 30, min: -180, max: 180, step: 1, unit: "\u00b0" } },
  },
  translation: {
    name: "Translation",
    fits: true,
    note: "f(x) becomes f(x + t), exactly",
    sliders: {
      x: { value: 0.25, min: -1, max: 1, step: 0.01, unit: "" },
      ...(isLine ? {} : { y: { value: 0, min: -1, max: 1, step: 0.01, unit: "" } }),
    },
  },
  noise: {
    name: "Noise",
    fits: true,
    note: "normal, relative to each tensor's spread: about the same picture",
    sliders: { ratio: { value: 0.1, min: 0, max: 1, step: 0.01, unit: "" } },
  },
  negation: {
    name: "SIREN negation",
    fits: network.isSine,
    note: "half of the neurons change sign: the same picture",
    sliders: {},
  },
  permutation: {
    name: "Permutation",
    fits: true,
    note: "neurons change places: the same picture",
    sliders: {},
  },
};

function isActive(name) {
  return AUGMENTATIONS[name].isOn || state.preview === name;
}

function rowOf(index) {
  return allParameters.subarray(index * network.size, (index + 1) * network.size);
}

// An INR after all augmentations that are on; each INR has random numbers of its own.
function augmentedRow(index) {
  let row = rowOf(index);
  const random = (stream) => makeRandom(state.seed * 7919 + index * 104729 + stream);
  if (isActive("negation")) {
    row = moveNeurons(network, row, identityPermutations(network), drawSigns(network, random(1)));
  }
  if (isActive("permutation")) {
    row = moveNeurons(network, row, drawPermutations(network, random(2)), unitSigns(network));
  }
  if (isActive("noise")) {
    const ratio = AUGMENTATIONS.noise.sliders.ratio.value;
    row = addNoise(network, row, ratio, data.tensor_std, drawNormal(network.size, random(3)));
  }
  if (isActive("rotation") || isActive("translation")) {
    const { x, y } = AUGMENTATIONS.translation.sliders;
    const degrees = isActive("rotation") ? AUGMENTATIONS.rotation.sliders.angle.value : 0;
    const matrix = network.inputs === 2 ? rotationMatrix(degrees) : identityMatrix(1);
    let shift = isActive("translation") ? [x.value, y ? y.value : 0] : [0, 0];
    if (data.axis_order === "ij" && !isLine) shift = [shift[1], shift[0]];
    row = transformInput(network, row, matrix, shift);
  }
  return row;
}

// ---- drawing, a little in every frame ------------------------------------------------------

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

const pointsOf = new Map();

function pointsAt(shape) {
  const key = shape.join();
  if (!pointsOf.has(key)) pointsOf.set(key, gridPoints(shape, data.axis_order));
  return pointsOf.get(key);
}

const rangeOf = new Map(); // a line is drawn over the values that it has unaugmented

function lineRange(index) {
  if (!rangeOf.has(index)) {
    const values = evaluate(network, rowOf(index), pointsAt(data.fine_grid));
    rangeOf.set(index, [Math.min(...values), Math.max(...values)]);
  }
  return rangeOf.get(index);
}

function draw(canvas, row, factor, indices) {
  const shape = data.fine_grid.map((size) => size * factor);
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

// ---- elements ------------------------------------------------------------------------------

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

function isRight(index) {
  return predictionOf(index).name === className(index);
}

function hueOf(label) {
  return `hsl(${Math.round((360 * label) / Math.max(1, data.classes.length))} 62% 46%)`;
}

// ---- the grid ------------------------------------------------------------------------------

const tiles = Array.from({ length: numINRs }, (_, index) => makeTile(index));
const stale = new Set();
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.isSeen = isIntersecting;
    if (isIntersecting && stale.has(target.index)) drawTile(target.index);
  }
}, { rootMargin: "50%" });

function makeTile(index) {
  const tile = make("button", "tile");
  tile.type = "button";
  tile.index = index;
  const label = make("span", "name", className(index));
  const dot = make("i", "dot");
  dot.style.background = hueOf(data.label[index]);
  label.prepend(dot);
  const facts = [psnrText(index), data.view.some(Boolean) ? `view ${data.view[index]}` : ""];
  const factsText = facts.filter(Boolean).join(" \u00b7 ");
  tile.append(make("canvas", "picture"), label, make("span", "facts", factsText));
  const prediction = predictionOf(index);
  if (prediction) {
    const isTrue = isRight(index);
    const { probability } = prediction;
    const share = probability === null ? "" : ` ${Math.round(100 * probability)} %`;
    const text = `${isTrue ? "\u2713" : "\u2717"} ${prediction.name}${share}`;
    tile.classList.add(isTrue ? "right" : "wrong");
    tile.append(make("span", "prediction", text));
  }
  tile.title = `${className(index)}, object ${data.object_id[index]}, view ${data.view[index]}`;
  tile.addEventListener("click", () => choose(index));
  return tile;
}

function drawTile(index) {
  schedule(`tile ${index}`, () => {
    stale.delete(index);
    draw(tiles[index].firstChild, augmentedRow(index), 1, [index]);
  });
}

function redrawTiles() {
  for (const tile of tiles) {
    stale.add(tile.index);
    if (tile.isSeen && !tile.hidden) drawTile(tile.index);
  }
}

function passesFilters(index) {
  const label = data.label[index];
  if (state.classes.size && !state.classes.has(label)) return false;
  const slider = find("psnr");
  const isLimited = slider.value !== slider.min;
  if (isLimited && !(data.psnr[index] >= Number(slider.value))) return false;
  const prediction = predictionOf(index);
  if (!prediction) return true;
  const outcome = find("outcome").value;
  if (outcome !== "all" && isRight(index) !== (outcome === "right")) return false;
  const predicted = find("predicted").value;
  return predicted === "" || prediction.name === predicted;
}

function filter() {
  let shown = 0;
  for (const tile of tiles) {
    tile.hidden = !passesFilters(tile.index);
    shown += tile.hidden ? 0 : 1;
  }
  find("count").textContent = `${shown} of ${numINRs} INRs`;
  find("psnr-value").textContent = `${find("psnr").value} dB`;
  for (const chip of find("classes").children) {
    chip.setAttribute("aria-pressed", state.classes.has(chip.label));
  }
}

const countOf = new Map();
const rankInClass = data.label.map((label) => {
  countOf.set(label, (countOf.get(label) || 0) + 1);
  return countOf.get(label);
});

function order() {
  const by = find("order").value;
  const keys = tiles.map(({ index }) => {
    if (by === "psnr") return data.psnr[index] === null ? Infinity : data.psnr[index];
    const prediction = predictionOf(index);
    if (by === "probability") return prediction ? prediction.probability : Infinity;
    return by === "class" ? index : rankInClass[index];
  });
  const sorted = [...tiles].sort((a, b) => keys[a.index] - keys[b.index] || a.index - b.index);
  find("grid").append(...sorted);
}

function setUpFilters() {
  data.classes.forEach((name, label) => {
    const count = countOf.get(label);
    if (!count) return;
    const chip = make("button", "chip", name);
    chip.type = "button";
    chip.label = label;
    const dot = make("i", "dot");
    dot.style.background = hueOf(label);
    chip.prepend(dot);
    chip.append(make("small", "", ` ${count}`));
    chip.addEventListener("click", () => {
      if (!state.classes.delete(label)) state.classes.add(label);
      filter();
    });
    find("classes").append(chip);
  });
  const known = data.psnr.filter((value) => value !== null);
  find("psnr-filter").hidden = !known.length;
  if (known.length) {
    const slider = find("psnr");
    slider.min = Math.floor(Math.min(...known));
    slider.max = Math.ceil(Math.max(...known));
    slider.step = 0.5;
    slider.value = slider.min;
  }
  find("outcome-filter").hidden = !data.predictions || !data.classes.length;
  find("predicted-filter").hidden = !data.predictions;
  const isPossible = {
    mixed: countOf.size > 1,
    class: true,
    psnr: known.length > 0,
    probability: Boolean(data.predictions),
  };
  for (const option of [...find("order").options]) if (!isPossible[option.value]) option.remove();
  const names = (data.predictions || []).filter(Boolean).map(({ name }) => name);
  for (const name of ["", ...[...new Set(names)].sort()]) {
    const option = make("option", "", name || "any class");
    option.value = name;
    find("predicted").append(option);
  }
  for (const id of ["psnr", "outcome", "predicted"]) find(id).addEventListener("input", filter);
  find("order").addEventListener("input", order);
}

// ---- the bench -----------------------------------------------------------------------------

const walks = {};
const bench = {};

function choose(index) {
  state[state.next] = index;
  state.next = state.next === "own" ? "partner" : "own";
  redrawBench();
}

function markChosen() {
  for (const tile of tiles) {
    const marks = [tile.index === state.own ? "A" : "", tile.index === state.partner ? "B" : ""];
    const mark = marks.filter(Boolean).join(" ");
    if (mark) tile.dataset.mark = mark;
    else delete tile.dataset.mark;
  }
  for (const side of ["own", "partner"]) find(side).classList.toggle("next", state.next === side);
}

function redrawBench() {
  markChosen();
  schedule("align", () => {
    bench.own = augmentedRow(state.own);
    bench.partner = augmentedRow(state.partner);
    bench.aligned = {};
    for (const symmetry of SYMMETRIES) {
      bench.aligned[symmetry] = align(network, bench.own, bench.partner, symmetry);
      const distance = Math.sqrt(bench.aligned[symmetry].squaredDistance);
      walks[symmetry].distance.textContent = `distance ${distance.toPrecision(3)}`;
    }
    for (const [side, index] of [["own", state.own], ["partner", state.partner]]) {
      schedule(side, () => drawSide(side, index));
    }
    redrawMixed();
    for (const symmetry of SYMMETRIES) schedule(`walk ${symmetry}`, () => drawWalk(symmetry));
  });
}

function drawSide(side, index) {
  const [picture, weights, caption] = find(side).children;
  const values = draw(picture, bench[side], state.factor, [index]);
  const row = side === "own" ? bench.own : bench.aligned[state.symmetry].row;
  drawWeights(weights, network, row);
  caption.textContent = `${side === "own" ? "A" : "B"}: ${className(index)}`;
  if (side === "own") tellChange(values);
}

function redrawMixed() {
  schedule("mixed", () => {
    const indices = [state.own, state.partner];
    const row = mix(bench.own, bench.aligned[state.symmetry].row, state.share);
    const [picture, weights, caption] = find("mixed").children;
    draw(picture, row, state.factor, indices);
    drawWeights(weights, network, row);
    caption.textContent = `\u03bb = ${state.share.toFixed(2)}`;
  });
  for (const symmetry of SYMMETRIES) {
    walks[symmetry].element.classList.toggle("chosen", symmetry === state.symmetry);
    walks[symmetry].button.setAttribute("aria-checked", symmetry === state.symmetry);
  }
}

function drawWalk(symmetry) {
  walks[symmetry].canvases.forEach((canvas, step) => {
    const row = mix(bench.own, bench.aligned[symmetry].row, 1 - step / (WALK_STEPS - 1));
    schedule(`walk ${symmetry} ${step}`, () => draw(canvas, row, 1, [state.own, state.partner]));
  });
}

function tellChange(values) {
  const before = rowOf(state.own);
  const zero = new Float64Array(before.length);
  const share = Math.sqrt(squaredDistance(bench.own, before) / squaredDistance(before, zero));
  const shape = data.fine_grid.map((size) => size * state.factor);
  const original = evaluate(network, before, pointsAt(shape));
  const [low, high] = isLine ? lineRange(state.own) : data.value_range;
  const largest = values.reduce((most, v, k) => Math.max(most, Math.abs(v - original[k])), 0);
  const change = largest / (high - low || 1);
  const picture = change < 1e-3 ? change.toExponential(0) : `${(100 * change).toFixed(0)} %`;
  find("change").textContent = share
    ? `A: weights changed by ${(100 * share).toFixed(0)} % of their norm; its picture by at most ` +
      `${picture}${change < 1e-3 ? " (rounding)" : ""} of its range.`
    : "Nothing is changed: hover over an augmentation, click to keep it.";
}

function setShare(share) {
  state.share = share;
  find("share").value = 1 - share;
  redrawMixed();
}

function setSymmetry(symmetry) {
  state.symmetry = symmetry;
  schedule("partner", () => drawSide("partner", state.partner));
  redrawMixed();
}

function setUpBench() {
  for (const symmetry of SYMMETRIES) {
    const element = make("div", "walk");
    const button = make("button", "symmetry", SYMMETRY_NAMES[symmetry]);
    const distance = make("small", "");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.append(distance);
    button.addEventListener("click", () => setSymmetry(symmetry));
    const canvases = Array.from({ length: WALK_STEPS }, (_, step) => {
      const canvas = make("canvas", "picture");
      canvas.addEventListener("click", () => {
        setSymmetry(symmetry);
        setShare(1 - step / (WALK_STEPS - 1));
      });
      return canvas;
    });
    element.append(button, ...canvases);
    walks[symmetry] = { element, button, distance, canvases };
    find("walks").append(element);
  }
  find("share").addEventListener("input", (event) => setShare(1 - Number(event.target.value)));
  for (const side of ["own", "partner"]) {
    const select = () => {
      state.next = side;
      markChosen();
    };
    find(side).addEventListener("click", select);
    find(side).addEventListener("focus", select);
  }
  for (const factor of isLine ? [1, 4] : [1, 2, 4, 8]) {
    const size = data.fine_grid.map((number) => number * factor).join(" \u00d7 ");
    const option = make("option", "", size);
    option.value = factor;
    option.selected = factor === state.factor;
    find("resolution").append(option);
  }
  find("resolution").addEventListener("input", (event) => {
    state.factor = Number(event.target.value);
    redrawBench();
  });
}

// ---- augmentations -------------------------------------------------------------------------

function redrawAll() {
  redrawBench();
  redrawTiles();
}

function setUpAugmentations() {
  for (const [key, augmentation] of Object.entries(AUGMENTATIONS)) {
    augmentation.isOn = false;
    if (!augmentation.fits) continue;
    const element = make("div", "augmentation");
    const box = make("input");
    box.type = "checkbox";
    const title = make("label", "toggle");
    title.append(box, make("span", "", augmentation.name));
    element.append(title);
    const turn = (isOn) => {
      augmentation.isOn = isOn;
      box.checked = isOn;
      element.classList.toggle("on", isOn);
      redrawAll();
    };
    augmentation.turn = turn;
    box.addEventListener("input", () => turn(box.checked));
    for (const [name, slider] of Object.entries(augmentation.sliders)) {
      element.append(makeSlider(`${augmentation.name} ${name}`, slider, () => turn(true)));
    }
    if (!Object.keys(augmentation.sliders).length) element.append(make("small", "", augmentation.note));
    else element.title = augmentation.note;
    element.addEventListener("pointerenter", () => setPreview(key));
    element.addEventListener("pointerleave", () => setPreview(null));
    find("augmentations").append(element);
  }
  find("redraw").addEventListener("click", () => {
    state.seed += 1;
    redrawAll();
  });
  find("reset").addEventListener("click", () => {
    for (const augmentation of Object.values(AUGMENTATIONS)) {
      if (augmentation.isOn) augmentation.turn(false);
    }
  });
}

function makeSlider(title, slider, onChange) {
  const holder = make("span", "slider");
  const input = make("input");
  input.type = "range";
  for (const name of ["min", "max", "step", "value"]) input[name] = slider[name];
  input.setAttribute("aria-label", title);
  const output = make("output", "", `${slider.value}${slider.unit}`);
  slider.set = (value) => {
    slider.value = value;
    input.value = value;
    output.textContent = `${value}${slider.unit}`;
    onChange();
  };
  input.addEventListener("input", () => slider.set(Number(input.value)));
  holder.append(input, output);
  return holder;
}

function setPreview(name) {
  const isShown = name && AUGMENTATIONS[name].isOn;
  const wasShown = state.preview && AUGMENTATIONS[state.preview].isOn;
  const isChanged = (name && !isShown) || (state.preview && !wasShown);
  state.preview = name;
  if (isChanged) redrawAll();
}

// What the address says behind #, such as #a=3&b=40&share=0.3&alignment=none&rotation=45&negation.
function readAddress() {
  const given = new URLSearchParams(window.location.hash.slice(1));
  const number = (key, low, high) => {
    const value = given.has(key) ? Number(given.get(key)) : NaN;
    return value >= low && value <= high ? value : null;
  };
  for (const [key, side] of [["a", "own"], ["b", "partner"]]) {
    state[side] = Math.floor(number(key, 0, numINRs - 1) ?? state[side]);
  }
  if (SYMMETRIES.includes(given.get("alignment"))) setSymmetry(given.get("alignment"));
  for (const [key, augmentation] of Object.entries(AUGMENTATIONS)) {
    if (!given.has(key) || !augmentation.fits) continue;
    const [slider] = Object.values(augmentation.sliders);
    if (slider) slider.set(number(key, slider.min, slider.max) ?? slider.value);
    else augmentation.turn(true);
  }
  setShare(number("share", 0, 1) ?? state.share);
}

// ---- start ---------------------------------------------------------------------------------

function start() {
  const { widths, activation, w0 } = data.architecture;
  find("title").textContent = data.title;
  find("facts").textContent =
    `${numINRs} INRs of ${data.signals} \u00b7 ${widths.join("-")} \u00b7 ` +
    `${activation}${network.isSine ? `, w0 ${w0}` : ""} \u00b7 ${network.size} weights each`;
  document.body.classList.toggle("lines", isLine);
  setUpFilters();
  setUpBench();
  setUpAugmentations();
  order();
  filter();
  for (const tile of tiles) observer.observe(tile);
  redrawAll();
  readAddress();
}

start();
