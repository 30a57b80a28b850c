// A multilayer perceptron with ReLU, backpropagation and Adam.

/** Dense layers: ReLU between them, the last one linear.  Arrays are row by row. */
export class MLP {
  /**
   * @param {number[]} sizes Widths from input to output, e.g. [2, 64, 64, 1].
   * @param {function(): number} random Uniform numbers in [0, 1).
   */
  constructor(sizes, random) {
    this.layers = sizes.slice(1).map((outputs, l) => {
      const inputs = sizes[l];
      const limit = Math.sqrt(6 / (inputs + outputs)); // Glorot and Bengio (2010)
      const w = parameter(inputs * outputs, () => limit * (2 * random() - 1));
      return { inputs, outputs, w, b: parameter(outputs, () => 0) };
    });
    this.steps = 0;
  }

  /** Maps `n` rows to `n` rows of outputs, and remembers what `backward` needs. */
  forward(x, n) {
    this.n = n;
    this.values = [x]; // the input of each layer, then the output
    this.layers.forEach((layer, l) => {
      const y = affine(layer, this.values[l], n, layer.b.value);
      if (l < this.layers.length - 1) for (let i = 0; i < y.length; i++) if (y[i] < 0) y[i] = 0;
      this.values.push(y);
    });
    return this.values.at(-1);
  }

  /**
   * Adds the gradients of a loss to the parameters' sums.
   * @param {Float64Array} grad The loss's gradient in each output.
   * @param {boolean} keep False: leave the parameters' sums alone.
   * @returns {Float64Array} The gradient in each input.
   */
  backward(grad, keep = true) {
    this.deltas = []; // the gradient before each layer's activation
    for (let l = this.layers.length - 1; l >= 0; l--) {
      this.deltas[l] = grad;
      if (keep) addGradient(this.layers[l], this.values[l], grad, this.n);
      grad = affineTransposed(this.layers[l], grad, this.n);
      if (l > 0) for (let i = 0; i < grad.length; i++) if (this.values[l][i] === 0) grad[i] = 0;
    }
    return grad;
  }

  /**
   * Adds the gradient of the R1 penalty, weight / 2 * mean |dD(x)/dx|^2, and returns it.
   * ReLU has no curvature, so a second pass with the same open units is enough.
   */
  penalise(x, n, weight) {
    this.forward(x, n);
    let tangent = this.backward(new Float64Array(n).fill(1), false);
    const penalty = (weight / 2 / n) * tangent.reduce((sum, g) => sum + g * g, 0);
    this.layers.forEach((layer, l) => {
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
  }

  /** One step of plain gradient descent, then the sums are zero again. */
  descend(rate) {
    for (const { value, grad } of this.parameters()) {
      value.forEach((w, i) => {
        value[i] = w - rate * grad[i];
      });
      grad.fill(0);
    }
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

/** x W + b for `n` rows; zeros in x cost nothing. */
function affine({ inputs, outputs, w }, x, n, b = null) {
  const weights = w.value;
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
function affineTransposed({ inputs, outputs, w }, grad, n) {
  const weights = w.value;
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
