// The generator: a sheet of samples, and a walk on the arc between two of them.
import { load } from "./runtime.js";
import { normals } from "./noise.js";
import { button, cell, el, paint, picture, place, select, slider, status } from "./ui.js";

const COLUMNS = 6;
const ROWS = 4;
const COUNT = COLUMNS * ROWS;
const STEPS = 10; // of a walk, so eleven pictures

/** The point at `t` on the arc from `a` to `b`, equation (11.7). */
export function arc(a, b, t) {
  const dot = (u, v) => u.reduce((sum, x, i) => sum + x * v[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const omega = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (omega < 1e-6) return a; // both ends are one sample
  return a.map(
    (x, i) => (Math.sin((1 - t) * omega) * x + Math.sin(t * omega) * b[i]) / Math.sin(omega),
  );
}

export async function start(panel, url) {
  const model = await load(url);
  const size = model.shape[0];
  const state = { seed: 1, ends: [0, 1], next: 0, t: 0 };
  const sheet = picture(COLUMNS * (size + 2) - 2, ROWS * (size + 2) - 2, "");
  const strip = picture(
    (STEPS + 1) * (size + 2) - 2,
    size,
    "",
    "playground-pixels playground-strip",
  );
  const digit = picture(size, size, "", "playground-pixels playground-small");
  const frames = ["A", "B"].map((name) =>
    el("span", { class: "playground-frame", "aria-hidden": "true" }, name),
  );
  const here = el("span", { class: "playground-here", "aria-hidden": "true" });
  const { line, say } = status();
  const numbers = Array.from({ length: COUNT }, (_, k) => [k, `sample ${k + 1}`]);
  const lists = ["From sample A", "to sample B"].map((label, end) =>
    select({
      label,
      options: numbers,
      value: state.ends[end],
      change: (v) => {
        state.ends[end] = Number(v);
        drawWalk();
      },
    }),
  );
  const walk = slider({
    label: "Place t on the way from A to B",
    min: 0,
    max: 1,
    step: 1 / STEPS,
    value: 0,
    show: (t) => t.toFixed(1),
    change: (t) => {
      state.t = t;
      drawStep();
    },
  });
  let noise = [];

  function drawSheet() {
    const all = normals(state.seed, COUNT * model.inputs);
    noise = numbers.map(([k]) => all.slice(k * model.inputs, (k + 1) * model.inputs));
    noise.forEach((z, k) => paint(sheet, model.grey(z), size, ...cell(k, COLUMNS, size)));
    sheet.setAttribute(
      "aria-label",
      `${COUNT} samples of the generator, ${ROWS} rows of ${COLUMNS}, from noise number ${state.seed}`,
    );
    drawWalk();
  }

  function at(t) {
    return model.grey(arc(...state.ends.map((k) => noise[k]), t));
  }

  function drawWalk() {
    for (let k = 0; k <= STEPS; k++) paint(strip, at(k / STEPS), size, k * (size + 2));
    const [a, b] = state.ends.map((k) => k + 1);
    strip.setAttribute("aria-label", `Eleven pictures on the way from sample ${a} to sample ${b}`);
    frames.forEach((frame, end) => putFrame(frame, state.ends[end]));
    lists.forEach((list, end) => list.set(state.ends[end]));
    drawStep();
  }

  function drawStep() {
    paint(digit, at(state.t), size);
    here.style.left = `${(100 * (state.t * STEPS + 0.5)) / (STEPS + 1)}%`;
    digit.setAttribute("aria-label", `The picture at t = ${state.t.toFixed(1)} on the way`);
    const [a, b] = state.ends.map((k) => k + 1);
    say(`Noise ${state.seed}; from sample ${a} to sample ${b}, t = ${state.t.toFixed(1)}.`);
  }

  function choose(event) {
    const [u, v] = place(event, sheet);
    const k =
      Math.min(ROWS - 1, Math.floor(v * ROWS)) * COLUMNS +
      Math.min(COLUMNS - 1, Math.floor(u * COLUMNS));
    state.ends[state.next] = k;
    state.next = 1 - state.next;
    drawWalk();
  }

  sheet.addEventListener("click", choose);
  const shuffle = (by) => {
    state.seed = Math.max(1, state.seed + by);
    drawSheet();
  };
  panel.append(
    el(
      "div",
      { class: "playground-half" },
      el("div", { class: "playground-sheet" }, sheet, ...frames),
      el(
        "p",
        { class: "playground-buttons" },
        button("Shuffle the noise", () => shuffle(1)),
        button("Noise before", () => shuffle(-1)),
      ),
    ),
    el(
      "div",
      { class: "playground-half" },
      ...lists.map((s) => s.field),
      el("p", { class: "playground-hint" }, "Or click one sample, then another."),
      digit,
      walk.field,
      el("div", { class: "playground-sheet" }, strip, here),
      line,
    ),
  );
  drawSheet();
  return { state };
}

function putFrame(frame, k) {
  frame.style.left = `${(100 * (k % COLUMNS)) / COLUMNS}%`;
  frame.style.top = `${(100 * Math.floor(k / COLUMNS)) / ROWS}%`;
}
