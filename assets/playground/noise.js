// Seeded random numbers, so that a run can be repeated.

/** Returns a function that yields uniform numbers in [0, 1) (mulberry32). */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Returns a function that yields standard Gaussian numbers (Box-Muller). */
export function gaussian(random) {
  return () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return radius * Math.cos(2 * Math.PI * random());
  };
}

/** Returns `n` Gaussian numbers of one seed, as float32. */
export function normals(seed, n) {
  return Float32Array.from({ length: n }, gaussian(uniform(seed)));
}
