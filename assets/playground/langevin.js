// The score of a noisy ring of eight spots, and particles that follow it: chapter 20.

export const SPOTS = Array.from({ length: 8 }, (_, k) => [
  2 * Math.cos((k * Math.PI) / 4),
  2 * Math.sin((k * Math.PI) / 4),
]);
export const WIDTH = 0.1; // standard deviation of a spot without noise

/** How the probability is shared among the spots. */
export const WEIGHTS = {
  equal: { name: "equal", of: () => 1 / 8 },
  unequal: { name: "right side × 7", of: (k) => (SPOTS[k][0] > 0.1 ? 7 : 1) / 26 },
};

/** The ring with Gaussian noise of standard deviation `sigma` added: density and score. */
export class NoisyRing {
  constructor(sigma, weights = "equal") {
    this.variance = WIDTH ** 2 + sigma ** 2;
    this.weights = SPOTS.map((_, k) => WEIGHTS[weights].of(k));
  }

  /** The share of each spot in the density at a place, and the log of its sum. */
  shares(x, y) {
    const logs = SPOTS.map(
      ([u, v], k) =>
        Math.log(this.weights[k]) - ((x - u) ** 2 + (y - v) ** 2) / (2 * this.variance),
    );
    const most = Math.max(...logs);
    const sizes = logs.map((l) => Math.exp(l - most));
    const sum = sizes.reduce((a, b) => a + b);
    return { shares: sizes.map((s) => s / sum), log: most + Math.log(sum) };
  }

  /** The logarithm of the density, in nats. */
  logDensity(x, y) {
    return this.shares(x, y).log - Math.log(2 * Math.PI * this.variance);
  }

  /** The gradient of the log-density: a pull to each spot, by its share. */
  score(x, y) {
    let [u, v] = [0, 0];
    this.shares(x, y).shares.forEach((share, k) => {
      u += share * (SPOTS[k][0] - x);
      v += share * (SPOTS[k][1] - y);
    });
    return [u / this.variance, v / this.variance];
  }

  /** One step of Langevin for points x, y, x, y, ..., in place. */
  step(points, size, normal) {
    const kick = Math.sqrt(2 * size);
    for (let i = 0; i < points.length; i += 2) {
      const [u, v] = this.score(points[i], points[i + 1]);
      points[i] += size * u + kick * normal();
      points[i + 1] += size * v + kick * normal();
    }
  }
}

/** Noise levels from `most` down to `least`, each the same share of the one before. */
export function levels(most, least, count) {
  return Array.from({ length: count }, (_, k) => most * (least / most) ** (k / (count - 1)));
}

/** How many points are nearest to each spot; none further away than `far` counts. */
export function tally(points, far) {
  const counts = new Array(SPOTS.length).fill(0);
  for (let i = 0; i < points.length; i += 2) {
    const gaps = SPOTS.map(([u, v]) => Math.hypot(points[i] - u, points[i + 1] - v));
    const best = Math.min(...gaps);
    if (best <= far) counts[gaps.indexOf(best)] += 1;
  }
  return counts;
}
