// What an INR encodes, and its weights, drawn on canvases.

const CHANNEL_COLOURS = ["#3b6fd8", "#d9603b", "#2f9e6e", "#9a5bc7"];

const SQUARES = 8; // along the shorter side of a checkerboard
const [LIGHT_SQUARE, DARK_SQUARE] = [0.85, 0.65];

// Outputs (N, channels) as values from 0, black, to 1, white.
function toUnitRange(values, [low, high]) {
  return values.map((value) => Math.max(0, Math.min(1, (value - low) / (high - low))));
}

// An image (height, width, channels) whose last channel is how opaque it is, on a checkerboard.
function putOnCheckerboard({ values, height, width, channels }) {
  const size = Math.max(1, Math.floor(Math.min(height, width) / SQUARES));
  const colours = channels - 1;
  const put = new Float64Array(height * width * colours);
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    const row = Math.floor(pixel / width);
    const isDark = (Math.floor(row / size) + Math.floor((pixel % width) / size)) % 2;
    const square = isDark ? DARK_SQUARE : LIGHT_SQUARE;
    const alpha = values[pixel * channels + colours];
    for (let k = 0; k < colours; k += 1) {
      put[pixel * colours + k] = square + alpha * (values[pixel * channels + k] - square);
    }
  }
  return { values: put, height, width, channels: colours };
}

// Grey and RGB images as they are; each other channel is a grey image, in rows, white between them.
function placeChannels({ values, height, width, channels }) {
  if (channels === 1 || channels === 3) return { values, height, width, channels };
  const columns = Math.ceil(Math.sqrt(channels));
  const rows = Math.ceil(channels / columns);
  const gap = Math.max(1, Math.floor(Math.max(height, width) / 16));
  const wide = columns * (width + gap) - gap;
  const high = rows * (height + gap) - gap;
  const placed = new Float64Array(high * wide).fill(1);
  for (let k = 0; k < channels; k += 1) {
    const top = Math.floor(k / columns) * (height + gap);
    const left = (k % columns) * (width + gap);
    for (let pixel = 0; pixel < height * width; pixel += 1) {
      const place = (top + Math.floor(pixel / width)) * wide + left + (pixel % width);
      placed[place] = values[pixel * channels + k];
    }
  }
  return { values: placed, height: high, width: wide, channels: 1 };
}

// What an image's outputs look like: an image of one or three channels, from 0 to 1.
function toVisible(values, [height, width], channels, range, hasAlpha) {
  const image = { values: toUnitRange(values, range), height, width, channels };
  return placeChannels(hasAlpha ? putOnCheckerboard(image) : image);
}

function drawImage(canvas, { values, height, width, channels }) {
  drawPixels(canvas, height, width, (pixel) => {
    const colour = [0, 1, 2].map((k) => values[pixel * channels + (channels === 3 ? k : 0)]);
    return [...colour.map((value) => Math.round(255 * value)), 255];
  });
}

// Signed distances: what is inside is blue, what is outside paler to orange, the farther the more.
function drawDistances(canvas, values, [height, width], range) {
  const [low, high] = range.map(Math.abs);
  drawPixels(canvas, height, width, (pixel) => {
    const value = values[pixel];
    return divergingColour(value < 0 ? Math.min(-0.4, value / (low || 1)) : (0.5 * value) / (high || 1));
  });
}

function drawPixels(canvas, height, width, colourOf) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) image.data.set(colourOf(pixel), 4 * pixel);
  context.putImageData(image, 0, 0);
}

function drawLine(canvas, values, channels, [low, high]) {
  const width = 2 * (canvas.clientWidth || 160); // fine screens have two pixels for one
  const height = width;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const count = values.length / channels;
  const room = 0.08 * height;
  context.lineWidth = 3;
  context.lineJoin = "round";
  for (let channel = 0; channel < channels; channel += 1) {
    context.strokeStyle = CHANNEL_COLOURS[channel % CHANNEL_COLOURS.length];
    context.beginPath();
    for (let point = 0; point < count; point += 1) {
      const share = (values[point * channels + channel] - low) / (high - low || 1);
      const x = (point * width) / Math.max(1, count - 1);
      context.lineTo(x, height - room - share * (height - 2 * room));
    }
    context.stroke();
  }
}

// All weights and biases, one column block a tensor: hidden neurons are rows, so that what moves
// neurons moves rows. Orange is positive, blue negative, each tensor by its own spread.
function drawWeights(canvas, network, row) {
  const last = network.layers.length - 1;
  const blocks = network.layers.flatMap(({ inputs, outputs, weight, bias }, layer) => {
    if (layer === last) {
      return [{ rows: inputs, columns: outputs, at: (i, j) => weight + j * inputs + i }];
    }
    return [
      { rows: outputs, columns: inputs, at: (i, j) => weight + i * inputs + j },
      { rows: outputs, columns: 1, at: (i) => bias + i },
    ];
  });
  const gap = 1;
  canvas.width = blocks.reduce((sum, block) => sum + block.columns + gap, -gap);
  canvas.height = Math.max(...blocks.map((block) => block.rows));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  let left = 0;
  for (const { rows, columns, at } of blocks) {
    let squares = 0;
    for (let i = 0; i < rows; i += 1) {
      for (let j = 0; j < columns; j += 1) squares += row[at(i, j)] ** 2;
    }
    const spread = 2 * Math.sqrt(squares / (rows * columns)) || 1;
    for (let i = 0; i < rows; i += 1) {
      for (let j = 0; j < columns; j += 1) {
        const place = 4 * (i * canvas.width + left + j);
        image.data.set(divergingColour(row[at(i, j)] / spread), place);
      }
    }
    left += columns + gap;
  }
  context.putImageData(image, 0, 0);
}

function divergingColour(value) {
  const share = Math.min(1, Math.abs(value));
  const end = value > 0 ? [217, 96, 27] : [43, 92, 190];
  return [...end.map((channel) => Math.round(246 + share * (channel - 246))), 255];
}
