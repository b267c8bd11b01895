// Weight matching of two INRs, step by step as lightning_dws.mixup.alignment does it (Git Re-Basin;
// Ainsworth et al., 2023): coordinate descent over hidden layers, each step a linear assignment.

const RELATIVE_GAIN = 1e-12; // a step must gain more than rounding can feign, or it might cycle

// The permutation of the largest total score (n, n): each row's column. Shortest augmenting paths.
function assign(scores, n) {
  const rowPrice = new Float64Array(n);
  const columnPrice = new Float64Array(n);
  const rowOf = new Int32Array(n).fill(-1);
  const previous = new Int32Array(n);
  for (let row = 0; row < n; row += 1) {
    const distance = new Float64Array(n).fill(Infinity);
    const isDone = new Uint8Array(n);
    const path = [];
    let from = row;
    let reached = 0;
    let nearest = -1;
    do {
      nearest = -1;
      let least = Infinity;
      for (let column = 0; column < n; column += 1) {
        if (isDone[column]) continue;
        const cost = -scores[from * n + column] - rowPrice[from] - columnPrice[column];
        if (reached + cost < distance[column]) {
          distance[column] = reached + cost;
          previous[column] = from;
        }
        if (distance[column] < least) {
          least = distance[column];
          nearest = column;
        }
      }
      isDone[nearest] = 1;
      path.push(nearest);
      reached = least;
      from = rowOf[nearest];
    } while (from >= 0);
    rowPrice[row] += reached;
    for (const column of path.slice(0, -1)) {
      columnPrice[column] -= reached - distance[column];
      rowPrice[rowOf[column]] += reached - distance[column];
    }
    for (let column = nearest; column >= 0; ) {
      const owner = previous[column];
      const former = owner === row ? -1 : Array.prototype.indexOf.call(rowOf, owner);
      rowOf[column] = owner;
      column = former;
    }
  }
  const columnOf = new Int32Array(n);
  rowOf.forEach((row, column) => {
    columnOf[row] = column;
  });
  return columnOf;
}

function squaredDistance(a, b) {
  let total = 0;
  for (let k = 0; k < a.length; k += 1) total += (a[k] - b[k]) * (a[k] - b[k]);
  return total;
}

// Moves b as close as possible to a: "none", "permutation" or "signed_permutation".
function align(network, a, b, symmetry) {
  const given = begin(network, b);
  if (symmetry === "none") return finish(a, given);
  const zero = new Float64Array(a.length);
  const least =
    RELATIVE_GAIN * Math.sqrt(squaredDistance(a, zero)) * Math.sqrt(squaredDistance(b, zero));
  let found = descend(network, a, assignFromIncoming(network, a, given, false), false, least);
  if (squaredDistance(a, found.row) > squaredDistance(a, given.row)) {
    found = descend(network, a, given, false, least);
  }
  if (symmetry === "signed_permutation") {
    const other = descend(network, a, assignFromIncoming(network, a, given, true), true, least);
    found = descend(network, a, found, true, least);
    if (squaredDistance(a, other.row) < squaredDistance(a, found.row)) found = other;
  }
  return finish(a, found);
}

function begin(network, row) {
  return {
    row: Float64Array.from(row),
    permutations: identityPermutations(network),
    signs: unitSigns(network),
  };
}

function finish(a, found) {
  return { ...found, squaredDistance: squaredDistance(a, found.row) };
}

function assignFromIncoming(network, a, own, isSigned) {
  return network.hidden.reduce((moved, _, layer) => {
    const step = solve(incomingScores(network, a, moved.row, layer), network.hidden[layer], isSigned);
    return move(network, moved, layer, step);
  }, own);
}

function descend(network, a, own, isSigned, least) {
  const unsolved = network.hidden.map(() => true);
  let moved = own;
  while (unsolved.includes(true)) {
    for (let layer = 0; layer < unsolved.length; layer += 1) {
      if (!unsolved[layer]) continue;
      unsolved[layer] = false;
      const n = network.hidden[layer];
      const scores = incomingScores(network, a, moved.row, layer);
      addOutgoingScores(network, a, moved.row, layer, scores);
      let now = 0;
      for (let k = 0; k < n; k += 1) now += scores[k * n + k];
      const step = solve(scores, n, isSigned);
      if (step.total - now > least) {
        moved = move(network, moved, layer, step);
        if (layer > 0) unsolved[layer - 1] = true;
        if (layer + 1 < unsolved.length) unsolved[layer + 1] = true;
      }
    }
  }
  return moved;
}

function incomingScores(network, a, b, layer) {
  const { inputs, outputs, weight, bias } = network.layers[layer];
  const scores = new Float64Array(outputs * outputs);
  for (let i = 0; i < outputs; i += 1) {
    for (let j = 0; j < outputs; j += 1) {
      let sum = a[bias + i] * b[bias + j];
      for (let k = 0; k < inputs; k += 1) {
        sum += a[weight + i * inputs + k] * b[weight + j * inputs + k];
      }
      scores[i * outputs + j] = sum;
    }
  }
  return scores;
}

function addOutgoingScores(network, a, b, layer, scores) {
  const { inputs: n, outputs, weight } = network.layers[layer + 1];
  for (let out = 0; out < outputs; out += 1) {
    const start = weight + out * n;
    for (let i = 0; i < n; i += 1) {
      for (let j = 0; j < n; j += 1) scores[i * n + j] += a[start + i] * b[start + j];
    }
  }
}

function solve(scores, n, isSigned) {
  const columns = assign(isSigned ? scores.map(Math.abs) : scores, n);
  const chosen = Array.from(columns, (column, row) => scores[row * n + column]);
  const signs = chosen.map((score) => (isSigned && score < 0 ? -1 : 1));
  const total = chosen.reduce((sum, score, k) => sum + signs[k] * score, 0);
  return { columns, signs, total };
}

function move(network, own, layer, { columns, signs }) {
  const permutations = own.permutations.slice();
  const allSigns = own.signs.slice();
  permutations[layer] = Array.from(columns, (column) => own.permutations[layer][column]);
  allSigns[layer] = signs.map((sign, k) => sign * own.signs[layer][columns[k]]);
  return {
    row: moveLayer(network, own.row, layer, columns, signs),
    permutations,
    signs: allSigns,
  };
}
