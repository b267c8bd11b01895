// The bench, where two INRs are aligned and mixed.

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
  const indices = [state.own, state.partner];
  walks[symmetry].canvases.forEach((canvas, step) => {
    const row = mix(bench.own, bench.aligned[symmetry].row, 1 - step / (WALK_STEPS - 1));
    schedule(`walk ${symmetry} ${step}`, () => draw(canvas, row, tileFactor, indices));
  });
}

function tellChange(values) {
  const before = rowOf(state.own);
  const zero = new Float64Array(before.length);
  const share = Math.sqrt(squaredDistance(bench.own, before) / squaredDistance(before, zero));
  const original = evaluate(network, before, pointsAt(shapeAt(state.factor)));
  const [low, high] = rangeOver([state.own]);
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
  for (const factor of FACTORS) {
    const option = make("option", "", gridAt(factor).join(" \u00d7 "));
    option.value = factor;
    option.selected = factor === state.factor;
    find("resolution").append(option);
  }
  find("resolution").addEventListener("input", (event) => {
    state.factor = Number(event.target.value);
    redrawBench();
  });
}
