// What the page shows, and what augmentations are set.

const data = JSON.parse(document.getElementById("data").textContent);
const network = makeNetwork(data.architecture);
const allParameters = decodeParameters(data.parameters);
const numINRs = data.label.length;
const isLine = data.kind === "line";
const isSliced = data.kind === "volume" || data.kind === "shape"; // of three inputs, x, y and z
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

// Resolutions, as factors of a grid that is fine enough to look at.
const longestSide = Math.max(...data.fine_grid);
const tileFactor = Math.min(1, (isLine ? 1024 : 64) / longestSide);
const FACTORS = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8].filter(
  (factor) => factor === 1 || (longestSide * factor >= 28 && longestSide * factor <= 1024),
);
const quickFactors = FACTORS.filter((factor) => {
  const largest = [...data.fine_grid].sort((a, b) => b - a).slice(0, 2); // of a slice
  const points = largest.reduce((product, size) => product * size * factor, 1);
  return points * network.size <= 2e7; // some tens of milliseconds
});

const state = {
  own: 0,
  partner: Math.max(0, data.label.findIndex((label) => label !== data.label[0])),
  next: "own", // which of the two a click in the grid chooses
  share: 0.5, // lambda: A's
  symmetry: SYMMETRIES[SYMMETRIES.length - 1],
  preview: null,
  seed: 1,
  factor: quickFactors.length ? Math.min(4, Math.max(...quickFactors)) : FACTORS[0],
  classes: new Set(),
};
if (state.partner === 0 && numINRs > 1) state.partner = 1;

const AUGMENTATIONS = {
  rotation: {
    name: "Rotation",
    fits: !isLine && !network.encoding,
    note: `f(x) becomes f(Rx), exactly${isSliced ? "; about z" : ""}`,
    sliders: { angle: { value: 30, min: -180, max: 180, step: 1, unit: "\u00b0" } },
  },
  translation: {
    name: "Translation",
    fits: true,
    note: "f(x) becomes f(x + t), exactly",
    sliders: {
      x: { value: 0.25, min: -1, max: 1, step: 0.01, unit: "" },
      ...(isLine ? {} : { y: { value: 0, min: -1, max: 1, step: 0.01, unit: "" } }),
      ...(isSliced ? { z: { value: 0, min: -1, max: 1, step: 0.01, unit: "" } } : {}),
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
    const sliders = Object.values(AUGMENTATIONS.translation.sliders);
    const degrees = isActive("rotation") ? AUGMENTATIONS.rotation.sliders.angle.value : 0;
    const matrix = isLine ? identityMatrix(1) : rotationMatrix(degrees, network.inputs);
    const shift = sliders.map(({ value }) => (isActive("translation") ? value : 0));
    if (data.axis_order === "ij") shift.reverse();
    row = transformInput(network, row, matrix, shift);
  }
  return row;
}
