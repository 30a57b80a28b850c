// A multilayer perceptron with ReLU, backpropagation and Adam.
import { gaussian, uniform } from "./noise.js";

const STEADY = 20; // power iterations when spectral normalisation begins

/**
 * Dense layers: ReLU between them, the last one linear.  Arrays are row by row.  Two things
 * can be switched on at any time, `spectral` and `deviation`: each layer's weights divided by
 * their largest singular value; and one more input of the last layer, which says how much
 * the batch varies (its weights begin at zero).
 */
export class MLP {
  /**
   * @param {number[]} sizes Widths from input to output, e.g. [2, 64, 64, 1].
   * @param {function(): number} random Uniform numbers in [0, 1).
   */
  constructor(sizes, random) {
    this.layers = sizes.slice(1).map((outputs, l) => {
      const inputs = sizes[l];
      const limit = Math.sqrt(6 / (inputs + outputs)); // Glorot and Bengio (2010)
      const last = l === sizes.length - 2; // it has an input more
      const w = parameter((inputs + last) * outputs, (_, i) =>
        i < inputs * outputs ? limit * (2 * random() - 1) : 0,
      );
      const u = Float64Array.from({ length: outputs }, gaussian(uniform(l + 1)));
      return { inputs: inputs + last, outputs, w, b: parameter(outputs, () => 0), u };
    });
    this.steps = 0;
    this.set({});
  }

  /** Switches spectral normalisation and the deviation of the batch on or off. */
  set({ spectral = false, deviation = false }) {
    if (spectral && !this.spectral) {
      this.spectral = true;
      this.normalise(STEADY);
    }
    this.spectral = spectral;
    this.deviation = deviation;
    this.normalise(0);
  }

  /** The weights that are used: as they are, or divided by their largest singular value. */
  normalise(iterations) {
    for (const layer of this.layers) {
      const { w } = layer;
      layer.used = w.value;
      if (!this.spectral) continue;
      for (let k = 0; k < iterations; k++) {
        layer.v = unit(times(layer, layer.u));
        layer.u = unit(timesTransposed(layer, layer.v));
      }
      layer.sigma = times(layer, layer.u).reduce((sum, a, i) => sum + a * layer.v[i], 0);
      layer.used = w.value.map((a) => a / layer.sigma);
    }
  }

  /** Turns the gradients in the weights that are used into those in the weights. */
  undivide() {
    if (!this.spectral) return;
    for (const { w, used, sigma, u, v, outputs } of this.layers) {
      const share = w.grad.reduce((sum, g, i) => sum + g * used[i], 0);
      w.grad.forEach((g, i) => {
        const through = share * v[Math.floor(i / outputs)] * u[i % outputs];
        w.grad[i] = (g - through) / sigma;
      });
    }
  }

  /**
   * Maps `n` rows to `n` rows of outputs, and remembers what `backward` needs.
   * @param {number} spread What to take for the deviation of the batch; measured if not given.
   */
  forward(x, n, spread) {
    this.n = n;
    this.values = [x]; // the input of each layer, then the output
    this.layers.forEach((layer, l) => {
      const last = l === this.layers.length - 1;
      if (last) this.wide = this.widen(this.values[l], n, spread);
      const y = affine(layer, last ? this.wide : this.values[l], n, layer.b.value);
      if (l < this.layers.length - 1) for (let i = 0; i < y.length; i++) if (y[i] < 0) y[i] = 0;
      this.values.push(y);
    });
    return this.values.at(-1);
  }

  /**
   * Adds the gradients of a loss to the parameters' sums.
   * @param {Float64Array} grad The loss's gradient in each output.
   * @param {boolean} keep False: leave the parameters' sums alone.
   * @param {boolean} through False: take the deviation of the batch for a constant.
   * @returns {Float64Array} The gradient in each input.
   */
  backward(grad, keep = true, through = true) {
    this.deltas = []; // the gradient before each layer's activation
    const last = this.layers.length - 1;
    for (let l = last; l >= 0; l--) {
      this.deltas[l] = grad;
      const input = l === last ? this.wide : this.values[l];
      if (keep) addGradient(this.layers[l], input, grad, this.n);
      grad = affineTransposed(this.layers[l], grad, this.n);
      if (l === last) grad = this.narrow(grad, through);
      if (l > 0) for (let i = 0; i < grad.length; i++) if (this.values[l][i] === 0) grad[i] = 0;
    }
    return grad;
  }

  /** Appends to each row how much the batch varies; zero where that is switched off. */
  widen(x, n, spread) {
    const width = x.length / n;
    this.spread = { mean: new Float64Array(width), size: new Float64Array(width) };
    const { mean, size } = this.spread;
    if (this.deviation) {
      x.forEach((a, i) => (mean[i % width] += a / n));
      x.forEach((a, i) => (size[i % width] += (a - mean[i % width]) ** 2 / n));
      size.forEach((a, i) => (size[i] = Math.sqrt(a + 1e-8)));
    }
    this.measured = size.reduce((a, b) => a + b) / width;
    const s = this.deviation ? (spread ?? this.measured) : 0;
    return widened(x, n, s);
  }

  /** The gradient in the rows without that number; it flows through it, too. */
  narrow(grad, through) {
    const { n } = this;
    const width = grad.length / n - 1;
    const y = new Float64Array(n * width);
    let sum = 0;
    for (let r = 0; r < n; r++) {
      y.set(grad.subarray(r * (width + 1), r * (width + 1) + width), r * width);
      sum += grad[r * (width + 1) + width];
    }
    if (!this.deviation || !through) return y;
    const { mean, size } = this.spread;
    const x = this.values[this.layers.length - 1];
    x.forEach((a, i) => {
      const k = i % width;
      y[i] += (sum * (a - mean[k])) / (n * width * size[k]);
    });
    return y;
  }

  /**
   * Adds the gradient of the R1 penalty, weight / 2 * mean |dD(x)/dx|^2, and returns it.
   * ReLU has no curvature, so a second pass with the same open units is enough.  The
   * deviation of the batch counts as a constant here.
   */
  penalise(x, n, weight) {
    this.forward(x, n);
    let tangent = this.backward(new Float64Array(n).fill(1), false, false);
    const penalty = (weight / 2 / n) * tangent.reduce((sum, g) => sum + g * g, 0);
    this.layers.forEach((layer, l) => {
      if (l === this.layers.length - 1) tangent = widened(tangent, n, 0);
      addGradient(
        layer,
        tangent,
        this.deltas[l].map((d) => (d * weight) / n),
        n,
        false,
      );
      tangent = affine(layer, tangent, n);
      const open = this.values[l + 1];
      if (l < this.layers.length - 1)
        tangent.forEach((_, i) => {
          if (open[i] === 0) tangent[i] = 0;
        });
    });
    return penalty;
  }

  /** One step of Adam (Kingma and Ba, 2015), then the sums are zero again. */
  step(rate, beta1 = 0.5, beta2 = 0.999, epsilon = 1e-7) {
    this.undivide();
    this.steps += 1;
    const size = (rate * Math.sqrt(1 - beta2 ** this.steps)) / (1 - beta1 ** this.steps);
    for (const { value, grad, m, v } of this.parameters()) {
      for (let i = 0; i < value.length; i++) {
        m[i] += (1 - beta1) * (grad[i] - m[i]);
        v[i] += (1 - beta2) * (grad[i] * grad[i] - v[i]);
        value[i] -= (size * m[i]) / (Math.sqrt(v[i]) + epsilon);
        grad[i] = 0;
      }
    }
    this.normalise(1);
  }

  /** One step of plain gradient descent, then the sums are zero again. */
  descend(rate) {
    this.undivide();
    for (const { value, grad } of this.parameters()) {
      value.forEach((w, i) => {
        value[i] = w - rate * grad[i];
      });
      grad.fill(0);
    }
    this.normalise(1);
  }

  parameters() {
    return this.layers.flatMap((layer) => [layer.w, layer.b]);
  }

  /** The Euclidean norm of the gradients summed so far. */
  gradientNorm() {
    let sum = 0;
    for (const { grad } of this.parameters()) for (const g of grad) sum += g * g;
    return Math.sqrt(sum);
  }
}

function parameter(n, start) {
  const zeros = () => new Float64Array(n);
  return { value: zeros().map(start), grad: zeros(), m: zeros(), v: zeros() };
}

/** Appends the same number to each of `n` rows. */
function widened(x, n, number) {
  const width = x.length / n;
  const y = new Float64Array(n * (width + 1));
  for (let r = 0; r < n; r++) {
    y.set(x.subarray(r * width, (r + 1) * width), r * (width + 1));
    y[r * (width + 1) + width] = number;
  }
  return y;
}

/** W u, for vectors u with a number for each output. */
function times({ inputs, outputs, w }, u) {
  return Float64Array.from({ length: inputs }, (_, i) =>
    u.reduce((sum, a, o) => sum + a * w.value[i * outputs + o], 0),
  );
}

/** W^T v, for vectors v with a number for each input. */
function timesTransposed({ outputs, w }, v) {
  return Float64Array.from({ length: outputs }, (_, o) =>
    v.reduce((sum, a, i) => sum + a * w.value[i * outputs + o], 0),
  );
}

function unit(v) {
  const length = Math.hypot(...v) || 1;
  return v.map((a) => a / length);
}

/** x W + b for `n` rows; zeros in x cost nothing. */
function affine({ inputs, outputs, used }, x, n, b = null) {
  const weights = used;
  const y = new Float64Array(n * outputs);
  for (let r = 0, to = 0; r < n; r++, to += outputs) {
    if (b) y.set(b, to);
    for (let i = 0, k = 0; i < inputs; i++, k += outputs) {
      const a = x[r * inputs + i];
      if (a !== 0) for (let o = 0; o < outputs; o++) y[to + o] += a * weights[k + o];
    }
  }
  return y;
}

/** grad W^T for `n` rows. */
function affineTransposed({ inputs, outputs, used }, grad, n) {
  const weights = used;
  const x = new Float64Array(n * inputs);
  for (let r = 0, from = 0; r < n; r++, from += outputs) {
    for (let i = 0, k = 0; i < inputs; i++, k += outputs) {
      let sum = 0;
      for (let o = 0; o < outputs; o++) sum += grad[from + o] * weights[k + o];
      x[r * inputs + i] = sum;
    }
  }
  return x;
}

/** Adds x^T grad to the layer's sums, and the rows of grad to its bias's. */
function addGradient({ inputs, outputs, w, b }, x, grad, n, bias = true) {
  const sums = w.grad;
  for (let r = 0, from = 0; r < n; r++, from += outputs) {
    if (bias) for (let o = 0; o < outputs; o++) b.grad[o] += grad[from + o];
    for (let i = 0, k = 0; i < inputs; i++, k += outputs) {
      const a = x[r * inputs + i];
      if (a !== 0) for (let o = 0; o < outputs; o++) sums[k + o] += a * grad[from + o];
    }
  }
}
