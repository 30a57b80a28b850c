// The toy densities of the book, and the spots by which coverage is counted.

const PI = Math.PI;
const ring = Array.from({ length: 8 }, (_, k) => [
  2 * Math.cos((k * PI) / 4),
  2 * Math.sin((k * PI) / 4),
]);
const grid = Array.from({ length: 25 }, (_, k) => [(k % 5) - 2, Math.floor(k / 5) - 2]);
const dark = Array.from({ length: 8 }, (_, k) => [
  (k >> 1) - 1.5,
  2 * (k % 2) + ((k >> 1) % 2) - 1.5,
]);

/** A point of one of the two half circles; `u` and `v` in [0, 1). */
function moon(u, v) {
  const upper = v < 0.5;
  const x = (upper ? Math.cos(PI * u) : 1 - Math.cos(PI * u)) - 0.5;
  return [1.5 * x, 1.5 * ((upper ? Math.sin(PI * u) : 0.5 - Math.sin(PI * u)) - 0.25)];
}

function spiral(u) {
  const angle = 1.5 * PI * (1 + 2 * u);
  return [(angle * Math.cos(angle)) / 6.5, (angle * Math.sin(angle)) / 6.5];
}

const pick = (list, u) => list[Math.floor(u * list.length)];
const along = (n, f) => Array.from({ length: n }, (_, k) => f((k + 0.5) / n));

/** Each density: a point without its noise, the noise, spots and the radius of one. */
export const TOYS = {
  ring: { name: "ring of 8", at: (u) => pick(ring, u), noise: 0.1, spots: ring, radius: 0.3 },
  grid: { name: "grid of 25", at: (u) => pick(grid, u), noise: 0.05, spots: grid, radius: 0.15 },
  moons: {
    name: "two moons",
    at: moon,
    noise: 0.1,
    radius: 0.3,
    spots: [...along(8, (u) => moon(u, 0)), ...along(8, (u) => moon(u, 1))],
  },
  spiral: { name: "spiral", at: spiral, noise: 0.1, spots: along(24, spiral), radius: 0.4 },
  checkerboard: {
    name: "checkerboard",
    noise: 0,
    spots: dark,
    radius: 0.5,
    at: (u, v, w) => pick(dark, u).map((c, i) => c + [v, w][i] - 0.5),
  },
};

/** A density from points that a reader drew: near one of them. */
export function drawn(points) {
  const spots = farthest(points, 12);
  return { name: "drawn by you", at: (u) => pick(points, u), noise: 0.06, spots, radius: 0.3 };
}

/** At most `k` of the points, each as far from the ones before as possible. */
function farthest(points, k) {
  const chosen = [points[0]];
  const gap = (p) => Math.min(...chosen.map((c) => Math.hypot(p[0] - c[0], p[1] - c[1])));
  while (chosen.length < k) {
    const next = points.reduce((a, b) => (gap(a) >= gap(b) ? a : b));
    if (gap(next) < 0.3) break;
    chosen.push(next);
  }
  return chosen;
}

/** `n` points of a density, as x, y, x, y, ... */
export function draw(toy, n, random, normal) {
  const points = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    const p = toy.at(random(), random(), random());
    for (let k = 0; k < 2; k++) points[2 * i + k] = p[k] + (toy.noise && toy.noise * normal());
  }
  return points;
}

/**
 * How many spots the samples reach, and the share of samples that is near one.  A spot
 * is covered if it has 8 % of its fair share: 20 of 2,000 for 8 spots, as in chapter 09.
 */
export function coverage(toy, points) {
  const counts = new Array(toy.spots.length).fill(0);
  const n = points.length / 2;
  for (let i = 0; i < n; i++) {
    const gaps = toy.spots.map((s) => Math.hypot(points[2 * i] - s[0], points[2 * i + 1] - s[1]));
    const best = Math.min(...gaps);
    if (best <= toy.radius) counts[gaps.indexOf(best)] += 1;
  }
  const enough = (0.08 * n) / counts.length;
  return {
    covered: counts.filter((c) => c >= enough).length,
    spots: counts.length,
    near: counts.reduce((a, b) => a + b) / n,
  };
}
