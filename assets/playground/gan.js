// The game of chapter 09 on points in the plane.
import { MLP } from "./mlp.js";
import { gaussian, uniform } from "./noise.js";
import { coverage, draw } from "./toys.js";

const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
const mean = (values, f) => values.reduce((sum, v) => sum + f(v), 0) / values.length;

/** The generator's losses: value and slope in one logit, equations (9.8) to (9.10). */
export const G_LOSSES = {
  non_saturating: {
    name: "non-saturating (9.9)",
    value: (a) => softplus(-a),
    slope: (a) => sigmoid(a) - 1,
  },
  minimax: { name: "minimax (9.8)", value: (a) => -softplus(a), slope: (a) => -sigmoid(a) },
};

/** What the controls set.  `latentDim`, `hidden` and `seed` count from a reset on. */
export const DEFAULTS = {
  loss: "non_saturating",
  dRate: 3e-3,
  gRate: 1e-3,
  dSteps: 1,
  gSteps: 1,
  r1: 0,
  spectral: 0,
  deviation: 0,
  gOptimizer: "adam",
  latentDim: 2,
  batch: 64,
  hidden: 64,
  seed: 1,
};

/** A discriminator and a generator that take turns. */
export class Game {
  constructor(toy, settings = {}) {
    this.toy = toy;
    this.settings = { ...DEFAULTS, ...settings };
    const { latentDim, hidden, seed } = this.settings;
    this.latentDim = latentDim;
    this.random = uniform(seed);
    this.normal = gaussian(this.random);
    this.generator = new MLP([latentDim, hidden, hidden, 2], this.random);
    this.discriminator = new MLP([2, hidden, hidden, 1], this.random);
    this.fixed = this.noise(1000); // always the same noise for the picture
    this.real = draw(toy, 1000, this.random, this.normal);
    this.rounds = 0;
    this.set({});
  }

  set(settings) {
    this.settings = { ...this.settings, ...settings };
    this.discriminator.set(this.settings);
  }

  noise(n) {
    return Float64Array.from({ length: n * this.latentDim }, this.normal);
  }

  /** One round: some steps of the discriminator, then some of the generator. */
  round() {
    const { dSteps, gSteps } = this.settings;
    for (let k = 0; k < dSteps; k++) this.dLoss = this.stepDiscriminator();
    for (let k = 0; k < gSteps; k++) this.gLoss = this.stepGenerator();
    this.rounds += 1;
  }

  /** Lowers minimax_d, the sign-turned value (9.2), with Adam; returns it. */
  stepDiscriminator() {
    const { batch, dRate } = this.settings;
    const real = draw(this.toy, batch, this.random, this.normal);
    const loss = this.addDiscriminatorGradient(
      real,
      this.generator.forward(this.noise(batch), batch),
    );
    this.discriminator.step(dRate);
    return loss;
  }

  addDiscriminatorGradient(real, fake) {
    const n = real.length / 2;
    const d = this.discriminator;
    if (this.settings.r1 > 0) d.penalise(real, n, this.settings.r1);
    const realLogits = d.forward(real, n);
    this.spread = d.measured; // of a batch of real points
    d.backward(realLogits.map((a) => (sigmoid(a) - 1) / n));
    const fakeLogits = d.forward(fake, n);
    d.backward(fakeLogits.map((a) => sigmoid(a) / n));
    this.dReal = mean(realLogits, sigmoid);
    this.dFake = mean(fakeLogits, sigmoid);
    return mean(realLogits, (a) => softplus(-a)) + mean(fakeLogits, softplus);
  }

  /** Lowers the chosen generator's loss with Adam; returns it. */
  stepGenerator() {
    const { batch, gRate } = this.settings;
    const loss = this.addGeneratorGradient(this.noise(batch));
    this.gNorm = this.generator.gradientNorm();
    if (this.settings.gOptimizer === "sgd") this.generator.descend(gRate);
    else this.generator.step(gRate);
    return loss;
  }

  addGeneratorGradient(z) {
    const n = z.length / this.latentDim;
    const { value, slope } = G_LOSSES[this.settings.loss];
    const logits = this.discriminator.forward(this.generator.forward(z, n), n);
    const atSamples = this.discriminator.backward(
      logits.map((a) => slope(a) / n),
      false,
    );
    this.generator.backward(atSamples);
    return mean(logits, value);
  }

  /** Samples of noise that stays the same, as x, y, x, y, ... */
  samples(n = 1000) {
    return this.generator.forward(this.fixed.subarray(0, n * this.latentDim), n);
  }

  /** D on a lattice of side x side points over [-limit, limit]^2, rows from the top. */
  verdicts(side, limit) {
    const at = (k) => limit * ((2 * k + 1) / side - 1);
    const points = new Float64Array(2 * side * side);
    for (let i = 0; i < side * side; i++) {
      points[2 * i] = at(i % side);
      points[2 * i + 1] = -at(Math.floor(i / side));
    }
    return this.discriminator.forward(points, side * side, this.spread).map(sigmoid);
  }

  coverage() {
    return coverage(this.toy, this.samples());
  }
}
