// Runs a small Keras network that tools/export_models.py (a language model:
// tools/export_gpt.py; a denoiser: tools/export_diffusion.py) has written to one file.
//
// The file: 8 bytes of magic; the header's length, uint32 (little-endian, as all here);
// the header, JSON padded with blanks to a multiple of 4; the biases, float32; the
// weights, float16.  Offsets in the header count numbers, not bytes.

const MAGIC = "GENAIBK1";

/** Downloads a model.  @returns {Promise<Model>} */
export async function load(url, Kind = Model) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`The model could not be loaded (${answer.status}).`);
  return new Kind(await answer.arrayBuffer());
}

export class Model {
  /** @param {ArrayBuffer} buffer The whole file. */
  constructor(buffer) {
    const magic = String.fromCharCode(...new Uint8Array(buffer, 0, 8));
    if (magic !== MAGIC) throw new Error(`Not a model file. Received: ${magic}`);
    const length = new DataView(buffer).getUint32(8, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 12, length)));
    const biases = new Float32Array(buffer, 12 + length, header.biases);
    const weights = decodeHalf(new Uint16Array(buffer, 12 + length + 4 * header.biases));
    this.inputs = header.inputs;
    this.shape = header.shape; // of one output, e.g. [16, 16, 1]
    this.header = header;
    const bind = (layer) => {
      if (!(layer.kind in KINDS)) throw new Error(`Unknown layer. Received: ${layer.kind}`);
      const weight = layer.weight && weights.subarray(...layer.weight);
      const bias = layer.bias && biases.subarray(...layer.bias);
      const scale = layer.scale && biases.subarray(...layer.scale);
      return { ...layer, weight, bias, scale, layers: layer.layers?.map(bind) };
    };
    this.layers = header.layers.map(bind);
  }

  /**
   * Maps one input to one output.
   * @param {Float32Array} z The input, `inputs` numbers.
   * @returns {Float32Array} The output, row by row, channels last.
   */
  run(z) {
    if (z.length !== this.inputs) {
      throw new Error(`The model takes ${this.inputs} numbers. Received: ${z.length}`);
    }
    return this.layers.reduce((x, layer) => KINDS[layer.kind](x, layer), z);
  }

  /** The output as grey levels: -1 is white (255), 1 is black (0). */
  grey(z) {
    return Uint8ClampedArray.from(this.run(z), (v) => Math.round(127.5 * (1 - v)));
  }
}

/**
 * A GPT.  It remembers the text that it has read: what a longer text has in common with
 * it at the start is not computed again (a cache of keys and values).
 */
export class LanguageModel extends Model {
  /** @param {ArrayBuffer} buffer The whole file. */
  constructor(buffer) {
    super(buffer);
    this.context = this.header.context; // most tokens that are looked at
    this.alphabet = this.header.alphabet; // the characters in the order of their ids
    this.forget();
  }

  forget() {
    this.tokens = [];
    this.logits = []; // of the token after each token
    this.memory = new Map(); // by layer of attention: keys, values and weights, by token
  }

  /**
   * Reads tokens, from the first on.
   * @param {number[]} tokens Ids, from 1 to `context` of them.
   * @returns {{logits: Float32Array[], maps: Float32Array[][][]}} The logits after each
   *   token, and the weights of attention by layer, head and token that looks.
   */
  read(tokens) {
    const { context, alphabet } = this;
    if (tokens.length < 1 || tokens.length > context) {
      throw new Error(`The model reads 1 to ${context} tokens. Received: ${tokens.length}`);
    }
    const wrong = tokens.find((id) => !(id >= 0 && id < alphabet.length));
    if (wrong !== undefined) throw new Error(`Unknown token. Received: ${wrong}`);
    let past = 0;
    while (past < this.tokens.length && this.tokens[past] === tokens[past]) past += 1;
    if (past < tokens.length) {
      const run = { past, memory: this.memory };
      const fresh = apply(this.layers, Int32Array.from(tokens.slice(past)), run);
      this.logits.length = past;
      for (let at = 0; at < fresh.length; at += alphabet.length) {
        this.logits.push(fresh.subarray(at, at + alphabet.length));
      }
      this.tokens = [...tokens];
    }
    const maps = [...this.memory.values()].map(({ weights }) =>
      weights.map((rows) => rows.slice(0, tokens.length)),
    );
    return { logits: this.logits.slice(0, tokens.length), maps };
  }
}

/** A network for points that is told the time and a class in every layer. */
export class Denoiser extends Model {
  /**
   * Looks at noisy points, all at one time.
   * @param {Float32Array} x The points, one after the other.
   * @param {number} t The time, from 0 (clean) to 1 (noise).
   * @param {number[]} labels The class of each point.
   * @returns {Float32Array} v, in the shape of x.
   */
  predict(x, t, labels) {
    if (x.length !== labels.length * this.inputs) {
      throw new Error(`Each point needs a label. Received: ${labels.length} for ${x.length}`);
    }
    return apply(this.layers, x, { t, labels });
  }
}

/** IEEE half precision to single precision. */
export function decodeHalf(bits) {
  return Float32Array.from(bits, (h) => {
    const sign = h & 0x8000 ? -1 : 1;
    const exponent = (h >> 10) & 31;
    const fraction = (h & 1023) / 1024;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  });
}

const KINDS = {
  dense,
  conv2d_transpose: convTranspose,
  leaky_relu: leakyRelu,
  tanh,
  sigmoid,
  gelu,
  embedding,
  layer_norm: layerNorm,
  residual,
  attention,
  unembedding,
  known,
  time_features: timeFeatures,
  label,
  silu,
  timed,
};

function apply(layers, x, run) {
  return layers.reduce((y, layer) => KINDS[layer.kind](y, layer, run), x);
}

/** Of one vector, or of each row of a text. */
function dense(x, layer) {
  return byRow(x, layer.weight.length / layer.outputs, (row) => denseRow(row, layer));
}

/** Maps each row of `width` numbers to a row. */
function byRow(x, width, map) {
  if (x.length === width) return map(x);
  const rows = [];
  for (let at = 0; at < x.length; at += width) rows.push(map(x.subarray(at, at + width)));
  const y = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, r) => y.set(row, r * row.length));
  return y;
}

/** Four inputs at a time, which takes half as long as one at a time. */
function denseRow(x, { outputs, weight, bias }) {
  const y = new Float32Array(bias);
  const fours = x.length - (x.length % 4);
  for (let i = 0; i < fours; i += 4) {
    const [a, b, c, d] = [x[i], x[i + 1], x[i + 2], x[i + 3]];
    const [j, k, l, m] = [i * outputs, (i + 1) * outputs, (i + 2) * outputs, (i + 3) * outputs];
    for (let o = 0; o < outputs; o++) {
      y[o] += a * weight[j + o] + b * weight[k + o] + c * weight[l + o] + d * weight[m + o];
    }
  }
  for (let i = fours; i < x.length; i++) {
    for (let o = 0, k = i * outputs; o < outputs; o++) y[o] += x[i] * weight[k + o];
  }
  return y;
}

/**
 * Transposed convolution with "same" padding: each input adds its kernel, scaled, to the
 * output at stride times its place, equation (11.1).  Of the k - s places too many, the
 * smaller half is cut off at the start.
 */
function convTranspose(x, { input, kernel, stride, outputs, weight, bias }) {
  const [height, width, channels] = input;
  const [rows, columns] = [height * stride[0], width * stride[1]];
  const cut = kernel.map((k, axis) => Math.floor(Math.max(k - stride[axis], 0) / 2));
  const y = new Float32Array(rows * columns * outputs);
  for (let at = 0; at < y.length; at += outputs) y.set(bias, at);
  for (let i = 0; i < height * width; i++) {
    const top = Math.floor(i / width) * stride[0] - cut[0];
    const left = (i % width) * stride[1] - cut[1];
    const pixel = x.subarray(i * channels, (i + 1) * channels);
    for (let u = 0; u < kernel[0]; u++) {
      for (let v = 0; v < kernel[1]; v++) {
        const [row, column] = [top + u, left + v];
        if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
        const place = (u * kernel[1] + v) * channels * outputs;
        add(y, (row * columns + column) * outputs, pixel, weight, place, outputs);
      }
    }
  }
  return y;
}

/** y[at...] += pixel times the matrix (channels, outputs) that starts at `place`. */
function add(y, at, pixel, weight, place, outputs) {
  for (let c = 0, k = place; c < pixel.length; c++, k += outputs) {
    const a = pixel[c];
    if (a !== 0) for (let o = 0; o < outputs; o++) y[at + o] += a * weight[k + o];
  }
}

/** max(x, 0) + slope * min(x, 0); slope 0 is ReLU. */
function leakyRelu(x, { slope }) {
  return x.map((v) => (v < 0 ? slope * v : v));
}

function tanh(x) {
  return x.map(Math.tanh);
}

function sigmoid(x) {
  return x.map((v) => 1 / (1 + Math.exp(-v)));
}

/** x times the chance that a standard Gaussian is below x. */
function gelu(x) {
  return x.map((v) => 0.5 * v * (1 + erf(v / Math.SQRT2)));
}

/** The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const a = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
  const sum = a.reduce((s, c) => (s + c) * t, 0);
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

/** The row of the table that belongs to each token. */
function embedding(tokens, { outputs, weight }) {
  const y = new Float32Array(tokens.length * outputs);
  tokens.forEach((id, t) => y.set(weight.subarray(id * outputs, (id + 1) * outputs), t * outputs));
  return y;
}

/** The product of each state with all rows of the table, equation (16.3). */
function unembedding(x, { inputs, weight }) {
  const words = weight.length / inputs;
  return byRow(x, inputs, (row) => {
    const y = new Float32Array(words);
    for (let w = 0, k = 0; w < words; w++) {
      for (let i = 0; i < inputs; i++, k++) y[w] += row[i] * weight[k];
    }
    return y;
  });
}

/** Each row: mean 0 and variance 1, then a factor and a shift for each feature. */
function layerNorm(x, { scale, bias, epsilon }) {
  const width = scale.length;
  return byRow(x, width, (row) => {
    let [mean, variance] = [0, 0];
    for (const v of row) mean += v / width;
    for (const v of row) variance += (v - mean) ** 2 / width;
    const size = 1 / Math.sqrt(variance + epsilon);
    return row.map((v, i) => (v - mean) * size * scale[i] + bias[i]);
  });
}

function silu(x) {
  return x.map((v) => v / (1 + Math.exp(-v)));
}

/** Works out, for each class that is asked for, what the layers are told; x stays. */
function known(x, { layers }, run) {
  const time = Float32Array.of(run.t);
  run.known = new Map();
  for (const id of new Set(run.labels)) run.known.set(id, apply(layers, time, { id }));
  return x;
}

/** The time, and sines and cosines of its multiples. */
function timeFeatures([t], { count }) {
  const angles = Array.from({ length: count }, (_, k) => Math.PI * 2 ** k * t);
  return Float32Array.of(t, ...angles.map(Math.sin), ...angles.map(Math.cos));
}

/** Adds the row of the table that belongs to the class. */
function label(x, { outputs, weight }, { id }) {
  return x.map((v, i) => v + weight[id * outputs + i]);
}

/** A dense layer of the points, plus one of what is known. */
function timed(x, { layers: [own, told] }, { labels, known }) {
  const y = dense(x, own);
  const shifts = new Map();
  for (const [id, facts] of known) shifts.set(id, denseRow(facts, told));
  labels.forEach((id, row) => {
    const shift = shifts.get(id);
    for (let o = 0, k = row * own.outputs; o < own.outputs; o++, k++) y[k] += shift[o];
  });
  return y;
}

/** x plus what its layers make of it. */
function residual(x, { layers }, run) {
  return apply(layers, x, run).map((v, i) => v + x[i]);
}

/**
 * Causal attention of several heads, with rotary positions.  A row of x holds queries,
 * keys and values of one token, each head after head.
 */
function attention(x, layer, { past, memory }) {
  const { heads, width } = layer;
  const size = width / heads;
  const kept = memory.get(layer) ?? { keys: [], values: [], weights: [] };
  memory.set(layer, kept);
  kept.keys.length = kept.values.length = past;
  for (let h = 0; h < heads; h++) (kept.weights[h] ??= []).length = past;
  let position = past;
  return byRow(x, 3 * width, (row) => {
    const query = rotate(row.slice(0, width), size, position);
    kept.keys.push(rotate(row.slice(width, 2 * width), size, position));
    kept.values.push(row.slice(2 * width));
    const y = new Float32Array(width);
    for (let at = 0, h = 0; h < heads; h++, at += size) {
      const weights = softmax(
        kept.keys.map((key) => dot(query, key, at, at + size) / Math.sqrt(size)),
      );
      kept.weights[h].push(weights);
      kept.values.forEach((value, t) => {
        for (let i = at; i < at + size; i++) y[i] += weights[t] * value[i];
      });
    }
    position += 1;
    return y;
  });
}

/** Turns the pairs of features of each head by angles that grow with the position. */
function rotate(x, size, position) {
  for (let i = 0; i < x.length; i += 2) {
    const angle = position * 10000 ** (-(i % size) / size);
    const [cos, sin, a, b] = [Math.cos(angle), Math.sin(angle), x[i], x[i + 1]];
    x[i] = a * cos - b * sin;
    x[i + 1] = a * sin + b * cos;
  }
  return x;
}

function dot(a, b, start, end) {
  let sum = 0;
  for (let i = start; i < end; i++) sum += a[i] * b[i];
  return sum;
}

/** Numbers above 0 that sum to 1. */
export function softmax(scores) {
  const most = Math.max(...scores);
  const sizes = Float64Array.from(scores, (v) => Math.exp(v - most));
  const sum = sizes.reduce((a, b) => a + b);
  return Float32Array.from(sizes, (v) => v / sum);
}
