// From noise to data with a denoiser: the samplers of chapters 21 and 22, step by step.
import { gaussian, uniform } from "./noise.js";

/** The cosine schedule, (steps + 1) numbers from 1 downwards. */
export function cosineSchedule(steps, offset = 0.008) {
  const f = (k) => Math.cos((0.5 * Math.PI * (k / steps + offset)) / (1 + offset)) ** 2;
  const levels = [1];
  for (let k = 1; k <= steps; k++) levels.push(levels[k - 1] * Math.max(f(k) / f(k - 1), 0.001));
  return levels;
}

/** Fewer steps of a schedule, evenly spaced among the old ones. */
export function spaced(levels, steps) {
  const at = (k) => halfToEven((k * (levels.length - 1)) / steps);
  return Array.from({ length: steps + 1 }, (_, k) => levels[at(k)]);
}

/** Rounds as NumPy does. */
function halfToEven(v) {
  const low = Math.floor(v);
  return v - low === 0.5 ? low + (low % 2) : Math.round(v);
}

/** Noise levels that crowd where there is little noise (Karras et al., 2022). */
export function karrasLevels(steps, smallest = 0.01, largest = 80, rho = 7) {
  const [low, high] = [smallest ** (1 / rho), largest ** (1 / rho)];
  const sigma = (k) => (steps > 1 ? (low + ((high - low) * k) / (steps - 1)) ** rho : largest);
  return [1, ...Array.from({ length: steps }, (_, k) => 1 / (1 + sigma(k) ** 2))];
}

/** The time in [0, 1] that a network is told for a noise level. */
export const noiseTime = (level) => (2 / Math.PI) * Math.acos(Math.sqrt(level));

/** Steps that a sampler takes with so many calls, and the calls that it then makes. */
export function budget(sampler, calls) {
  if (sampler !== "heun") return { steps: calls, calls };
  const steps = Math.floor((calls + 1) / 2);
  return { steps, calls: 2 * steps - 1 };
}

/** All states of points on their way from noise to data; `step` makes the next one. */
export class Walk {
  /**
   * @param {Denoiser} model The network.
   * @param {object} settings
   * @param {string} settings.sampler "ancestral", "ddim" or "heun".
   * @param {number} settings.calls Calls of the network for each point.
   * @param {?number[]} settings.labels A class for each point, or null for none.
   * @param {number} settings.guidance 1 follows the classes, more exaggerates them.
   * @param {number} settings.seed Seed of all noise.
   * @param {number} settings.n How many points.
   */
  constructor(model, { sampler, calls, labels, guidance, seed, n }) {
    this.model = model;
    this.labels = labels;
    this.guidance = guidance;
    this.hidden = new Array(n).fill(model.header.classes); // the class that says nothing
    this.move = { ancestral, ddim, heun }[sampler];
    this.steps = budget(sampler, calls).steps;
    const levels =
      sampler === "heun"
        ? karrasLevels(this.steps)
        : spaced(cosineSchedule(model.header.steps), this.steps);
    this.levels = levels.reverse();
    // Rounded as float32, so that the book's tests can start from the same numbers.
    const normal = gaussian(uniform(seed));
    this.normal = () => Math.fround(normal());
    this.states = [Float64Array.from({ length: 2 * n }, this.normal)];
    this.guesses = []; // of the clean data, by state
  }

  get done() {
    return this.states.length > this.steps;
  }

  step() {
    const k = this.states.length - 1;
    const [x, now, after] = [this.states[k], this.levels[k], this.levels[k + 1]];
    const eps = this.noise(x, now);
    const guess = clean(x, eps, now);
    this.guesses.push(guess);
    this.states.push(this.move({ x, eps, guess, now, after, walk: this }));
    if (this.done) this.guesses.push(this.states.at(-1));
  }

  /** The noise that the network sees in points, with guidance. */
  noise(x, level) {
    if (!this.labels) return this.see(x, level, this.hidden);
    const told = this.see(x, level, this.labels);
    if (this.guidance === 1) return told;
    const plain = this.see(x, level, this.hidden);
    return plain.map((e, i) => e + this.guidance * (told[i] - e));
  }

  see(x, level, labels) {
    const [signal, noise] = parts(level);
    const v = this.model.predict(Float32Array.from(x), noiseTime(level), labels);
    return x.map((a, i) => signal * v[i] + noise * a);
  }
}

/** The shares of signal and noise at a level. */
const parts = (level) => [Math.sqrt(level), Math.sqrt(1 - level)];

/** The clean data that go with points and their noise. */
function clean(x, eps, level) {
  const [signal, noise] = parts(level);
  return x.map((a, i) => (a - noise * eps[i]) / signal);
}

/** Draws the next points, given where they began and a guess of where they end. */
function ancestral({ x, guess, now, after, walk }) {
  const beta = 1 - now / after;
  const toClean = (Math.sqrt(after) * beta) / (1 - now);
  const toNoisy = (Math.sqrt(1 - beta) * (1 - after)) / (1 - now);
  const spread = Math.sqrt(((1 - after) / (1 - now)) * beta);
  return x.map((a, i) => toClean * guess[i] + toNoisy * a + spread * walk.normal());
}

/** Goes along the straight line from the guess through the noise; nothing is drawn. */
function ddim({ eps, guess, after }) {
  const [signal, noise] = parts(after);
  return guess.map((g, i) => signal * g + noise * eps[i]);
}

/** The same, with the slope averaged over both ends of the step. */
function heun({ x, eps, now, after, walk }) {
  const [here, there] = [now, after].map((a) => Math.sqrt((1 - a) / a));
  const way = (slope) => x.map((a, i) => a / Math.sqrt(now) + (there - here) * slope[i]);
  const back = (y) => y.map((a) => Math.sqrt(after) * a);
  const first = way(eps);
  if (after === 1) return first;
  const second = walk.noise(back(first), after);
  return back(way(eps.map((e, i) => 0.5 * (e + second[i]))));
}
