// What an INR encodes, and its weights, drawn on canvases.

const CHANNEL_COLOURS = ["#3b6fd8", "#d9603b", "#2f9e6e", "#9a5bc7"];

function toByte(value, [low, high]) {
  return Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
}

function drawImage(canvas, values, [height, width], channels, range) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      const value = values[pixel * channels + (channels === 3 ? channel : 0)];
      image.data[4 * pixel + channel] = toByte(value, range);
    }
    image.data[4 * pixel + 3] = 255;
  }
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
