// The latent explorer: a point in the plane, and the digit that the decoder draws there.
import { load } from "./runtime.js";
import { gaussian, uniform } from "./noise.js";
import { button, cell, drag, el, paint, picture, slider, status, svg } from "./ui.js";

const LIMIT = 3; // the plane shown is [-3, 3] x [-3, 3]
const STEP = 0.05;
const SIDE = 13; // digits of the faint map behind, along each axis
const CIRCLES = [
  [1.177, "50 %"],
  [2.146, "90 %"],
]; // share of the prior inside

const snap = (v) => Math.round(v / STEP) * STEP;
const text = (v) => v.toFixed(2).replace("-", "−");

export async function start(panel, url) {
  const model = await load(url);
  const normal = gaussian(uniform(1));
  const point = [0, 0];
  const digit = picture(model.shape[1], model.shape[0], "");
  const mark = svg(
    "g",
    { class: "playground-point" },
    svg("circle", { r: 0.14 }),
    svg("path", { d: "M-.3 0H.3M0-.3V.3" }),
  );
  const pad = makePad(model, mark);
  const facts = el("p", { class: "playground-facts" });
  const { line, say } = status();
  const sliders = [0, 1].map((axis) =>
    slider({
      label: axis ? "z₂ (up and down)" : "z₁ (left and right)",
      min: -LIMIT,
      max: LIMIT,
      step: STEP,
      value: 0,
      show: text,
      change: (v) => {
        point[axis] = v;
        draw();
      },
    }),
  );

  function draw() {
    paint(digit, model.grey(Float32Array.from(point)), model.shape[1]);
    const [x, y] = point;
    mark.setAttribute("transform", `translate(${x} ${-y})`);
    const squared = x * x + y * y;
    const share = Math.round(100 * (1 - Math.exp(-squared / 2)));
    const density = Math.exp(-squared / 2) / (2 * Math.PI);
    digit.setAttribute("aria-label", `What the decoder draws at z = (${text(x)}, ${text(y)})`);
    facts.textContent = `Prior density p(z) = ${density.toFixed(4)}. ${share} % of the prior lies nearer to the centre.`;
    say(`z = (${text(x)}, ${text(y)})`);
  }

  function moveTo(x, y) {
    [x, y].forEach((v, axis) => {
      point[axis] = snap(Math.min(LIMIT, Math.max(-LIMIT, v)));
      sliders[axis].set(point[axis]);
    });
    draw();
  }

  drag(pad, (u, v) => moveTo((2 * u - 1) * LIMIT, (1 - 2 * v) * LIMIT));
  panel.append(
    el("div", { class: "playground-half" }, pad),
    el(
      "div",
      { class: "playground-half" },
      digit,
      ...sliders.map((s) => s.field),
      el(
        "p",
        { class: "playground-buttons" },
        button("Draw z from the prior", () => moveTo(normal(), normal())),
        button("Back to the centre", () => moveTo(0, 0)),
      ),
      facts,
      line,
    ),
  );
  draw();
  return { moveTo };
}

/** The plane: a faint map of decoded digits, circles of the prior, and the point. */
function makePad(model, mark) {
  const size = model.shape[0];
  const length = SIDE * (size + 2) - 2;
  const map = el("canvas", { width: length, height: length, class: "playground-map" });
  for (let k = 0; k < SIDE * SIDE; k++) {
    const at = (i) => LIMIT * ((2 * i + 1) / SIDE - 1);
    const z = Float32Array.of(at(k % SIDE), -at(Math.floor(k / SIDE)));
    paint(map, model.grey(z), size, ...cell(k, SIDE, size));
  }
  const circles = CIRCLES.flatMap(([r, name]) => [
    svg("circle", { r, class: "playground-line" }),
    svg("text", { x: 0.06, y: -r - 0.07 }, name),
  ]);
  const axes = svg("path", { d: "M-3 0H3M0-3V3", class: "playground-line" });
  const label =
    "The plane of the two latent coordinates, with a faint map of digits, two circles that hold 50 and 90 percent of the prior, and the chosen point. Drag the point, or use the two sliders.";
  return el(
    "div",
    { class: "playground-pad", role: "img", "aria-label": label },
    map,
    svg("svg", { viewBox: "-3 -3 6 6", "aria-hidden": "true" }, axes, ...circles, mark),
  );
}
