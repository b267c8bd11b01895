// The grid of INRs, and its filters.

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
    const { probability } = prediction;
    const share = probability === null ? "" : ` ${Math.round(100 * probability)} %`;
    let mark = "\u2192"; // an arrow: said to be
    if (isJudged) {
      mark = isRight(index) ? "\u2713" : "\u2717";
      tile.classList.add(isRight(index) ? "right" : "wrong");
    }
    const text = `${mark} ${prediction.name}${share}`;
    tile.append(make("span", "prediction", text));
  }
  tile.title = `${className(index)}, object ${data.object_id[index]}, view ${data.view[index]}`;
  tile.addEventListener("click", () => choose(index));
  return tile;
}

function drawTile(index) {
  schedule(`tile ${index}`, () => {
    stale.delete(index);
    draw(tiles[index].firstChild, augmentedRow(index), tileFactor, [index]);
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
  find("outcome-filter").hidden = !isJudged;
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
