// Controls of the augmentations, the page's address, and the start.

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

// What the address says behind #, such as #a=3&b=40&share=0.3&alignment=none&rotation=45&negation,
// and of slices #across=x&position=0.5.
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
  if (isSliced && (given.has("across") || given.has("position"))) {
    const across = given.get("across") in PLANES ? given.get("across") : slice.across;
    setSlice(across, number("position", -1, 1) ?? slice.position);
  }
  setShare(number("share", 0, 1) ?? state.share);
}

function start() {
  const { widths, activation, w0, encoding } = data.architecture;
  find("title").textContent = data.title;
  find("facts").textContent =
    `${numINRs} INRs of ${data.signals} \u00b7 ${widths.join("-")} \u00b7 ` +
    `${encoding ? `Fourier encoding ${encoding.frequencies.join(" ")}, ` : ""}` +
    `${activation}${network.isSine ? `, w0 ${w0}` : ""} \u00b7 ${network.size} weights each`;
  document.body.classList.toggle("lines", isLine);
  setUpFilters();
  setUpBench();
  setUpAugmentations();
  setUpSlices();
  order();
  filter();
  for (const tile of tiles) observer.observe(tile);
  redrawAll();
  readAddress();
}

start();
