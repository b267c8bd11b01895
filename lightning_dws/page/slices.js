// Where INRs are evaluated to be drawn: a line, an image's pixels, or a slice of a volume or shape.

const AXES = ["x", "y", "z"]; // of three inputs, in their order

// Which input the columns of a picture are, and which its rows, by the axis that slices are across.
// Volumes lie as images do, their first row above; shapes stand, with z upwards.
const isStanding = data.kind === "shape";
const PLANES = {
  x: isStanding ? { column: 1, row: 2 } : { column: 2, row: 1 },
  y: { column: 0, row: 2 },
  z: { column: 0, row: 1 },
};
const slice = { across: isStanding ? "y" : "z", position: 0 };

function gridAt(factor) {
  return data.fine_grid.map((size) => Math.max(1, Math.round(size * factor)));
}

// The size of a picture, (height, width), or of a line, (points,).
function shapeAt(factor) {
  const grid = gridAt(factor);
  if (!isSliced) return grid;
  const sizes = grid.reverse(); // of x, y and z
  const { column, row } = PLANES[slice.across];
  return [sizes[row], sizes[column]];
}

const pointsOf = new Map();

function pointsAt(shape) {
  const key = shape.join();
  if (!pointsOf.has(key)) pointsOf.set(key, isLine ? lineSpace(shape[0]) : gridPoints(shape, plane()));
  return pointsOf.get(key);
}

function plane() {
  if (!isSliced) {
    const [column, row] = data.axis_order === "xy" ? [0, 1] : [1, 0];
    return { column, row, base: [0, 0] };
  }
  const base = [0, 0, 0];
  base[AXES.indexOf(slice.across)] = slice.position;
  return { ...PLANES[slice.across], base, isUpwards: isStanding };
}

const rangeOf = new Map(); // of the values that an INR has where it is drawn, unaugmented

// From black to white; of lines and distances from the least to the greatest of some INRs.
function rangeOver(indices) {
  if (!isLine && data.kind !== "shape") return data.value_range;
  const ranges = indices.map(ownRange);
  return [Math.min(...ranges.map((r) => r[0])), Math.max(...ranges.map((r) => r[1]))];
}

function ownRange(index) {
  if (!rangeOf.has(index)) {
    const values = evaluate(network, rowOf(index), pointsAt(shapeAt(tileFactor)));
    rangeOf.set(index, [Math.min(...values), Math.max(...values)]);
  }
  return rangeOf.get(index);
}

function setSlice(across, position) {
  Object.assign(slice, { across, position });
  find("across").value = across;
  find("position").value = position;
  find("position-value").textContent = `${across} = ${position.toFixed(2)}`;
  pointsOf.clear();
  rangeOf.clear();
  redrawAll();
}

function setUpSlices() {
  find("slices").hidden = !isSliced;
  if (isSliced) setSlice(slice.across, slice.position);
  const choose = () => setSlice(find("across").value, Number(find("position").value));
  for (const id of ["across", "position"]) find(id).addEventListener("input", choose);
}
