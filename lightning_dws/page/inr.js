"use strict";
// INRs as rows of numbers: evaluate them, and move their weights as the augmentations do.
// A row is w0, b0, w1, b1, ..., weights (out, in), as in lightning_dws.weight_space.

function makeNetwork(architecture) {
  const layers = [];
  let start = 0;
  for (let layer = 0; layer + 1 < architecture.widths.length; layer += 1) {
    const inputs = architecture.widths[layer];
    const outputs = architecture.widths[layer + 1];
    layers.push({ inputs, outputs, weight: start, bias: start + inputs * outputs });
    start += (inputs + 1) * outputs;
  }
  return {
    layers,
    size: start,
    inputs: countInputs(architecture),
    encoding: architecture.encoding,
    outputs: architecture.widths[architecture.widths.length - 1],
    hidden: architecture.widths.slice(1, -1),
    isSine: architecture.activation === "sine",
    w0: architecture.w0,
    outputOffset: architecture.output_offset,
  };
}

function countInputs({ widths, encoding }) {
  if (!encoding) return widths[0];
  return widths[0] / (2 * encoding.frequencies.length + (encoding.include_input ? 1 : 0));
}

function decodeParameters(text) {
  const binary = atob(text);
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function lineSpace(size) {
  return Float64Array.from({ length: size }, (_, k) => (size > 1 ? -1 + (2 * k) / (size - 1) : -1));
}

// The inputs for an image's pixels row by row: which input the columns are, which the rows, and
// what the others are.
function gridPoints(shape, { column, row, base, isUpwards }) {
  const [rows, columns] = shape.map(lineSpace);
  if (isUpwards) rows.reverse();
  const points = new Float64Array(base.length * rows.length * columns.length);
  let place = 0;
  for (const y of rows) {
    for (const x of columns) {
      points.set(base, place);
      points[place + column] = x;
      points[place + row] = y;
      place += base.length;
    }
  }
  return points;
}

// Writes what the first layer takes in at a point: the coordinates, or their encoding.
function encode({ encoding }, point, features) {
  let place = 0;
  if (!encoding || encoding.include_input) {
    for (const x of point) features[place++] = x;
  }
  for (const frequency of encoding ? encoding.frequencies : []) {
    for (const x of point) features[place++] = Math.sin(Math.PI * frequency * x);
    for (const x of point) features[place++] = Math.cos(Math.PI * frequency * x);
  }
}

// Values (N, out) of one INR at points (N, in), the output offset included.
function evaluate(network, row, points) {
  const { layers, isSine, w0 } = network;
  const count = points.length / network.inputs;
  const values = new Float64Array(count * network.outputs);
  const widest = Math.max(...layers.map((layer) => Math.max(layer.inputs, layer.outputs)));
  let current = new Float64Array(widest);
  let next = new Float64Array(widest);
  for (let point = 0; point < count; point += 1) {
    encode(network, points.subarray(point * network.inputs, (point + 1) * network.inputs), current);
    for (let number = 0; number < layers.length; number += 1) {
      const { inputs, outputs, weight, bias } = layers[number];
      const isLast = number === layers.length - 1;
      for (let out = 0; out < outputs; out += 1) {
        const start = weight + out * inputs;
        let sum = row[bias + out];
        for (let k = 0; k < inputs; k += 1) sum += row[start + k] * current[k];
        if (isLast) next[out] = sum + network.outputOffset;
        else if (isSine) next[out] = Math.sin(w0 * sum);
        else next[out] = sum > 0 ? sum : 0;
      }
      [current, next] = [next, current];
    }
    for (let k = 0; k < network.outputs; k += 1) values[point * network.outputs + k] = current[k];
  }
  return values;
}

// f becomes x -> f(matrix x + shift), in the first layer, exactly; behind an encoding, f(x + shift).
function transformInput(network, row, matrix, shift) {
  if (network.encoding) return translateFeatures(network, row, shift);
  const moved = row.slice();
  const { inputs, outputs, weight, bias } = network.layers[0];
  for (let out = 0; out < outputs; out += 1) {
    const start = weight + out * inputs;
    for (let k = 0; k < inputs; k += 1) moved[bias + out] += row[start + k] * shift[k];
    for (let column = 0; column < inputs; column += 1) {
      let sum = 0;
      for (let k = 0; k < inputs; k += 1) sum += row[start + k] * matrix[k][column];
      moved[start + column] = sum;
    }
  }
  return moved;
}

// Each sine and its cosine turn by the shift's angle.
function translateFeatures({ encoding, inputs, layers: [first] }, row, shift) {
  const moved = row.slice();
  for (let out = 0; out < first.outputs; out += 1) {
    let sine = first.weight + out * first.inputs;
    if (encoding.include_input) {
      for (let k = 0; k < inputs; k += 1) moved[first.bias + out] += row[sine + k] * shift[k];
      sine += inputs;
    }
    for (const frequency of encoding.frequencies) {
      for (let k = 0; k < inputs; k += 1) {
        const [cos, sin] = [Math.cos, Math.sin].map((of) => of(Math.PI * frequency * shift[k]));
        const [ofSine, ofCosine] = [row[sine + k], row[sine + inputs + k]];
        moved[sine + k] = ofSine * cos - ofCosine * sin;
        moved[sine + inputs + k] = ofSine * sin + ofCosine * cos;
      }
      sine += 2 * inputs;
    }
  }
  return moved;
}

// A turn of the first two of all inputs: of volumes and shapes about the third, z.
function rotationMatrix(degrees, inputs) {
  const angle = (degrees * Math.PI) / 180;
  const matrix = identityMatrix(inputs);
  matrix[0].splice(0, 2, Math.cos(angle), -Math.sin(angle));
  matrix[1].splice(0, 2, Math.sin(angle), Math.cos(angle));
  return matrix;
}

function identityMatrix(size) {
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => +(i === j)));
}

// Normal noise with a share of the standard deviation that each tensor has over all INRs.
function addNoise(network, row, ratio, tensorStd, noise) {
  const moved = row.slice();
  network.layers.forEach(({ inputs, outputs, weight, bias }, layer) => {
    for (let k = weight; k < bias; k += 1) moved[k] += ratio * tensorStd.weights[layer] * noise[k];
    for (let k = bias; k < bias + outputs; k += 1) {
      moved[k] += ratio * tensorStd.biases[layer] * noise[k];
    }
  });
  return moved;
}

// Neuron i of hidden layer l becomes signs[l][i] times the former neuron permutations[l][i].
function moveNeurons(network, row, permutations, signs) {
  let moved = row;
  permutations.forEach((permutation, layer) => {
    moved = moveLayer(network, moved, layer, permutation, signs[layer]);
  });
  return moved;
}

function moveLayer(network, row, layer, permutation, sign) {
  const moved = row.slice();
  const own = network.layers[layer];
  const following = network.layers[layer + 1];
  for (let i = 0; i < own.outputs; i += 1) {
    const from = permutation[i];
    for (let k = 0; k < own.inputs; k += 1) {
      moved[own.weight + i * own.inputs + k] = sign[i] * row[own.weight + from * own.inputs + k];
    }
    moved[own.bias + i] = sign[i] * row[own.bias + from];
    for (let out = 0; out < following.outputs; out += 1) {
      const start = following.weight + out * following.inputs;
      moved[start + i] = sign[i] * row[start + from];
    }
  }
  return moved;
}

function mix(own, partner, share) {
  return own.map((value, k) => partner[k] + share * (value - partner[k]));
}

// A seeded source of numbers in [0, 1) (mulberry32), so that a draw can be shown again.
function makeRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function drawNormal(size, random) {
  return Float64Array.from({ length: size }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return radius * Math.cos(2 * Math.PI * random());
  });
}

function drawSigns(network, random) {
  return network.hidden.map((n) => Array.from({ length: n }, () => (random() < 0.5 ? -1 : 1)));
}

function drawPermutations(network, random) {
  return network.hidden.map((n) => {
    const order = Array.from({ length: n }, (_, k) => k);
    for (let k = n - 1; k > 0; k -= 1) {
      const other = Math.floor(random() * (k + 1));
      [order[k], order[other]] = [order[other], order[k]];
    }
    return order;
  });
}

function identityPermutations(network) {
  return network.hidden.map((n) => Array.from({ length: n }, (_, k) => k));
}

function unitSigns(network) {
  return network.hidden.map((n) => Array(n).fill(1));
}
