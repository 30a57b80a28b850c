// From logits to a token, as in genai_utils/decoding.py.
import { uniform } from "./noise.js";
import { softmax } from "./runtime.js";

/**
 * The probabilities from which a token is drawn.
 * @param {Float32Array} logits
 * @param {{temperature: number, topK: number, topP: number}} settings Temperature 0
 *   keeps the likeliest token alone; topK as large as the vocabulary and topP 1 keep all.
 */
export function settle(logits, { temperature, topK, topP }) {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature === 0) return logits.map((_, id) => (id === order[0] ? 1 : 0));
  const kept = new Set(order.slice(0, topK));
  const cold = logits.map((v, id) => (kept.has(id) ? v / temperature : -Infinity));
  if (topP === 1) return softmax(cold);
  const p = softmax(cold);
  let before = 0; // mass of the likelier ones
  for (const id of order) {
    if (before >= topP) cold[id] = -Infinity;
    before += p[id];
  }
  return softmax(cold);
}

/** The token on which a uniform number falls. */
export function draw(p, u) {
  const total = p.reduce((a, b) => a + b);
  let sum = 0;
  const id = p.findIndex((v) => (sum += v) > u * total);
  return id < 0 ? p.findLastIndex((v) => v > 0) : id;
}

/** The uniform number with which a text of one seed draws its `count`-th token. */
export function numberOf(seed, count) {
  const random = uniform(seed);
  for (let k = 0; k < count; k++) random();
  return random();
}
