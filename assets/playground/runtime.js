// Runs a small Keras network that tools/export_models.py has written to one file.
//
// The file: 8 bytes of magic; the header's length, uint32 (little-endian, as all here);
// the header, JSON padded with blanks to a multiple of 4; the biases, float32; the
// weights, float16.  Offsets in the header count numbers, not bytes.

const MAGIC = "GENAIBK1";

/** Downloads a model.  @returns {Promise<Model>} */
export async function load(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`The model could not be loaded (${answer.status}).`);
  return new Model(await answer.arrayBuffer());
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
    this.layers = header.layers.map((layer) => {
      if (!(layer.kind in KINDS)) throw new Error(`Unknown layer. Received: ${layer.kind}`);
      const weight = layer.weight && weights.subarray(...layer.weight);
      const bias = layer.bias && biases.subarray(...layer.bias);
      return { ...layer, weight, bias };
    });
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

const KINDS = { dense, conv2d_transpose: convTranspose, leaky_relu: leakyRelu, tanh, sigmoid };

function dense(x, { outputs, weight, bias }) {
  const y = new Float32Array(bias);
  for (let i = 0; i < x.length; i++) {
    const a = x[i];
    if (a !== 0) for (let o = 0, k = i * outputs; o < outputs; o++) y[o] += a * weight[k + o];
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
