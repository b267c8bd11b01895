// With the fragment #check the page tells what it computes, for tests that compare it with Python.

const SLICE_SHAPE = [5, 4];

function check() {
  if (isSliced) setSlice("x", 0.25);
  const points = isSliced ? gridPoints(SLICE_SHAPE, plane()) : pointsAt(data.grid_shape);
  const some = Array.from({ length: Math.min(3, numINRs) }, (_, index) => index);
  const values = (row) => Array.from(evaluate(network, row, points));
  const noise = drawNormal(network.size, makeRandom(5));
  const hasNoRotation = isLine || network.encoding;
  const matrix = (hasNoRotation ? identityMatrix : (size) => rotationMatrix(30, size))(network.inputs);
  const shift = [0.1, -0.2, 0.3].slice(0, network.inputs);
  const rows = {
    plain: rowOf,
    moved: (index) => transformInput(network, rowOf(index), matrix, shift),
    noisy: (index) => addNoise(network, rowOf(index), 0.3, data.tensor_std, noise),
    negated: (index) =>
      moveNeurons(
        network,
        rowOf(index),
        identityPermutations(network),
        drawSigns(network, makeRandom(index)),
      ),
    permuted: (index) =>
      moveNeurons(
        network,
        rowOf(index),
        drawPermutations(network, makeRandom(index)),
        unitSigns(network),
      ),
  };
  const found = { noise: Array.from(noise), values: {}, weights: {}, pairs: [] };
  for (const [name, make] of Object.entries(rows)) {
    found.values[name] = some.map((index) => values(make(index)));
    found.weights[name] = some.map((index) => Array.from(make(index)));
  }
  for (const symmetry of SYMMETRIES) {
    for (const own of some) {
      const partner = (own + 1) % numINRs;
      const aligned = align(network, rowOf(own), rowOf(partner), symmetry);
      found.pairs.push({
        symmetry,
        own,
        partner,
        permutations: aligned.permutations,
        signs: aligned.signs,
        squaredDistance: aligned.squaredDistance,
        mixed: values(mix(rowOf(own), aligned.row, 0.3)),
      });
    }
  }
  if (data.kind === "image" || data.kind === "volume") {
    const shape = isSliced ? SLICE_SHAPE : data.grid_shape;
    const seen = toVisible(values(rowOf(0)), shape, network.outputs, data.value_range, data.has_alpha);
    found.visible = { ...seen, values: Array.from(seen.values) };
  }
  found.use = use();
  const element = make("pre", "", JSON.stringify(found));
  element.id = "found";
  document.body.append(element);
}

// Clicks through the page as a person would, and counts what is shown.
function use() {
  const shown = () => tiles.filter((tile) => !tile.hidden).length;
  const change = (id, value) => {
    find(id).value = value;
    find(id).dispatchEvent(new Event("input"));
  };
  const used = { all: shown(), byClass: {}, names: tiles.map((tile) => tile.children[1].textContent) };
  for (const chip of find("classes").children) {
    chip.click();
    used.byClass[data.classes[chip.label]] = shown();
    chip.click();
  }
  const limit = (Number(find("psnr").min) + Number(find("psnr").max)) / 2;
  change("psnr", limit);
  used.psnr = { limit: Number(find("psnr").value), shown: shown() };
  change("psnr", find("psnr").min);
  for (const outcome of data.predictions ? ["right", "wrong", "all"] : []) {
    change("outcome", outcome);
    used[outcome] = shown();
  }
  tiles[1].click();
  tiles[0].click();
  used.chosen = [state.own, state.partner];
  walks.none.canvases[0].click();
  used.mixed = { symmetry: state.symmetry, share: state.share };
  const element = find("augmentations").firstChild;
  element.dispatchEvent(new Event("pointerenter"));
  used.preview = state.preview;
  element.dispatchEvent(new Event("pointerleave"));
  used.elements = document.querySelectorAll("img, script, iframe, link").length;
  return used;
}

if (window.location.hash === "#check") check();
