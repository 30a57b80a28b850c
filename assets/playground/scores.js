// A field of arrows and particles that follow it: Langevin and annealing, chapter 20.
import { fromAddress, makeLink, toAddress } from "./address.js";
import { NoisyRing, SPOTS, WEIGHTS, levels, tally } from "./langevin.js";
import { gaussian, uniform } from "./noise.js";
import { gradient, shade } from "./plot.js";
import { TOUR } from "./scores-tour.js";
import { makeTour } from "./tour.js";
import { button, calm, el, picture, place, select, slider, status } from "./ui.js";

const LIMIT = 3.2; // the picture shows [-3.2, 3.2] in both directions
const SIDE = 640; // pixels of the picture
const ARROWS = 17; // in a row
const FINE = 96; // squares of the density in a row
const DEPTH = 10; // nats below the top that the colours reach
const MOST = 600; // particles
const A_FRAME = 3; // steps of Langevin in each frame
const NEAR = 0.5; // of a spot, so that a particle counts as there
const SPREAD = 0.15; // of particles that are dropped at a place
const ANNEALING = { from: 3, to: 0.05, count: 40, steps: 20, share: 0.1, last: 100 };

/** What a link need not say. */
export const DEFAULTS = {
  sigma: 0,
  eta: 0.002,
  weights: "equal",
  x: -2.4,
  y: 2.4,
  seed: 1,
  drop: "none", // the particles at the start: none, there, everywhere
};
const NAMES = { sigma: "sigma", eta: "eta", weights: "weights", x: "x", y: "y" };
Object.assign(NAMES, { seed: "seed", drop: "drop" });
const DROPS = ["none", "there", "everywhere"];

const between = (v, low, high) => Math.min(high, Math.max(low, v));
const percent = (p) => `${(100 * p).toFixed(0)} %`;
const short = (v) => (v >= 0.1 ? v.toFixed(2) : String(Number(v.toPrecision(2))));

export async function start(panel) {
  return new Desk(panel);
}

class Desk {
  constructor(panel) {
    const { line, say } = status(300);
    Object.assign(this, { line, say });
    this.makeView();
    this.controls = this.makeControls();
    panel.append(...this.layout());
    this.set(fromAddress(location.search, NAMES, DEFAULTS));
  }

  // The state

  /** Puts the demo into a state; what it does not name is as in DEFAULTS. */
  set(state) {
    const s = { ...DEFAULTS, ...state };
    s.sigma = between(s.sigma, 0, 3);
    s.eta = between(s.eta, 1e-4, 1);
    if (!Object.hasOwn(WEIGHTS, s.weights)) s.weights = DEFAULTS.weights;
    s.x = between(s.x, -3, 3);
    s.y = between(s.y, -3, 3);
    s.seed = between(Math.round(s.seed), 1, 99);
    if (!DROPS.includes(s.drop)) s.drop = DEFAULTS.drop;
    this.state = s;
    for (const [name, control] of Object.entries(this.controls)) control.set(s[name]);
    this.clear();
    if (s.drop !== "none") this.drop(200, s.drop);
  }

  change(name, value) {
    this.state[name] = value;
    if (name === "sigma" || name === "weights") this.plan = [];
    this.draw();
    this.tell();
  }

  /** Takes all particles away; the random numbers begin anew. */
  clear() {
    this.stop();
    this.plan = [];
    this.random = uniform(this.state.seed);
    this.normal = gaussian(this.random);
    this.points = new Float64Array(0);
    this.steps = 0;
    this.draw();
    this.tell("No particles.");
  }

  /** Drops particles at the cross, or all over the picture. */
  drop(count, where) {
    const { x, y } = this.state;
    const n = Math.min(count, MOST - this.points.length / 2);
    const at = () =>
      where === "there"
        ? [x + SPREAD * this.normal(), y + SPREAD * this.normal()]
        : [6 * this.random() - 3, 6 * this.random() - 3];
    const fresh = Array.from({ length: n }, at).flat();
    this.points = Float64Array.from([...this.points, ...fresh]);
    this.state.drop = where;
    this.draw();
    this.tell(n < count ? `There is room for ${MOST} particles.` : `Dropped ${n}.`);
  }

  // Time

  /** Plays some steps at once, then draws. */
  run(count) {
    this.stop();
    this.advance(count);
    this.draw();
    this.tell();
  }

  /** Some steps of Langevin; where a plan stands, at its noise levels. */
  advance(count) {
    for (let k = 0; k < count; k++) {
      const next = this.plan.shift();
      if (next) {
        Object.assign(this.state, next);
        this.controls.sigma.set(next.sigma);
        this.controls.eta.set(next.eta);
      }
      this.ring().step(this.points, this.state.eta, this.normal);
      this.steps += 1;
    }
  }

  /** The density of the present noise level. */
  ring() {
    const { sigma, weights } = this.state;
    const key = `${sigma} ${weights}`;
    if (this.density?.key !== key) {
      this.density = Object.assign(new NoisyRing(sigma, weights), { key });
    }
    return this.density;
  }

  play() {
    if (this.timer) {
      this.stop();
      this.tell("Paused.");
      return;
    }
    this.player.textContent = "Pause";
    const tick = () => {
      this.timer = requestAnimationFrame(tick);
      const planned = this.plan.length > 0;
      this.advance(A_FRAME);
      this.draw();
      if (planned && !this.plan.length) {
        this.stop();
        this.tell("The noise is gone.");
      }
    };
    tick();
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.timer = 0;
    if (!calm()) this.player.textContent = "Follow the arrows";
  }

  /** Begins with much noise and takes it away, with steps that suit each level. */
  anneal() {
    this.stop();
    const { from, to, count, steps, share, last } = ANNEALING;
    const at = (sigma, n) =>
      new Array(n).fill({ sigma, eta: share * new NoisyRing(sigma).variance });
    this.plan = [...levels(from, to, count).flatMap((s) => at(s, steps)), ...at(0, last)];
    if (calm()) {
      this.run(this.plan.length);
      this.tell("The noise is gone.");
    } else this.play();
  }

  // The view

  makeView() {
    this.plan = [];
    this.map = el("canvas", { width: SIDE, height: SIDE });
    this.plane = picture(SIDE, SIDE, "", "playground-plane playground-field-map");
    this.plane.addEventListener("click", (event) => {
      const [u, v] = place(event, this.plane);
      this.aim((2 * u - 1) * LIMIT, (1 - 2 * v) * LIMIT);
      this.drop(20, "there");
    });
    this.facts = el("p", { class: "playground-facts" });
    this.caption = el("caption", {}, "Where the particles are");
    this.bars = el("table", { class: "playground-table playground-guesses" });
    this.legend = el("span");
    this.player = button("Follow the arrows", () => this.play());
    this.link = makeLink(this.say);
  }

  /** Moves the cross. */
  aim(x, y) {
    Object.assign(this.state, { x: between(x, -3, 3), y: between(y, -3, 3) });
    this.controls.x.set(this.state.x);
    this.controls.y.set(this.state.y);
  }

  makeControls() {
    const set = (name) => (v) => this.change(name, v);
    const range = (name, label, min, max, step, show) =>
      slider({ label, min, max, step, value: min, show, change: set(name) });
    const eta = slider({
      label: "Step size η",
      min: -4,
      max: 0,
      step: 0.05,
      value: -3,
      show: (v) => short(10 ** v),
      change: (v) => this.change("eta", 10 ** v),
    });
    return {
      sigma: range("sigma", "Noise level σ", 0, 3, 0.05, (v) => v.toFixed(2)),
      eta: { ...eta, set: (v) => eta.set(Math.log10(v)) },
      weights: select({
        label: "Weights of the spots",
        options: Object.entries(WEIGHTS).map(([k, { name }]) => [k, name]),
        value: "equal",
        change: set("weights"),
      }),
      x: range("x", "Cross: left and right", -3, 3, 0.1, (v) => v.toFixed(1)),
      y: range("y", "Cross: up and down", -3, 3, 0.1, (v) => v.toFixed(1)),
      seed: slider({
        label: "Seed (removes all particles)",
        min: 1,
        max: 99,
        step: 1,
        value: 1,
        change: (v) => {
          this.state.seed = v;
          this.state.drop = "none";
          this.clear();
        },
      }),
    };
  }

  layout() {
    const half = (...children) => el("div", { class: "playground-half" }, ...children);
    const { sigma, eta, weights, x, y, seed } = this.controls;
    const { box, go } = makeTour(TOUR, ({ state, steps = 0, anneal }) => {
      this.set(state);
      if (anneal) this.anneal();
      else if (steps && calm()) this.run(steps);
      else if (steps) this.play();
    });
    this.go = go;
    const bar = el("span", { class: "playground-bar", style: `background: ${gradient()}` });
    const hint = { class: "playground-hint" };
    return [
      box,
      half(
        sigma.field,
        this.plane,
        el("p", hint, "Log-density, from low ", bar, " to high. ", this.legend),
        this.drive(),
        this.facts,
      ),
      half(
        eta.field,
        weights.field,
        x.field,
        y.field,
        el(
          "p",
          { class: "playground-buttons" },
          button("Drop 20 at the cross", () => this.drop(20, "there")),
          button("Drop 200 at the cross", () => this.drop(200, "there")),
          button("Drop 200 everywhere", () => this.drop(200, "everywhere")),
          button("Remove all", () => {
            this.state.drop = "none";
            this.clear();
          }),
        ),
        this.bars,
        el("p", hint, "Outline: the share that the spot should have. Filled: the share it has."),
        seed.field,
      ),
      el("div", { class: "playground-whole" }, this.link.row, this.line),
    ];
  }

  /** Buttons that make time go on; without motion, if the reader asks for that. */
  drive() {
    const run = calm()
      ? [10, 100, 500].map((n) => button(`${n} steps`, () => this.run(n)))
      : [button("One step", () => this.run(1)), this.player];
    const row = [...run, button("Anneal", () => this.anneal())];
    return el("p", { class: "playground-buttons" }, ...row);
  }

  // Drawing

  draw() {
    const ring = this.ring();
    if (this.drawn !== ring.key) this.drawField(ring);
    this.drawn = ring.key;
    const context = this.plane.getContext("2d");
    context.drawImage(this.map, 0, 0);
    this.drawParticles(context);
    this.drawBars(ring);
    this.link.anchor.href = toAddress(this.state, NAMES, DEFAULTS);
  }

  /** The density and the arrows, which stay until the noise level changes. */
  drawField(ring) {
    const logs = lattice(FINE).map(([x, y]) => ring.logDensity(x, y));
    const top = Math.max(...logs);
    shade(this.map, logs.map((l) => between((l - top + DEPTH) / DEPTH, 0, 1)), FINE);
    const arrows = lattice(ARROWS).map(([x, y]) => ({ x, y, to: ring.score(x, y) }));
    const most = Math.max(...arrows.map(({ to }) => Math.hypot(...to)));
    const context = this.map.getContext("2d");
    const cell = SIDE / ARROWS;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    for (const { x, y, to } of arrows) {
      const size = Math.hypot(...to);
      const length = 0.9 * cell * Math.sqrt(size / most);
      arrow(context, pixel(x, y), Math.atan2(-to[1], to[0]), length);
    }
    for (const [width, style] of [
      [4, "black"],
      [1.8, "white"],
    ]) {
      Object.assign(context, { lineWidth: width, strokeStyle: style });
      context.stroke();
    }
    context.font = "bold 22px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    SPOTS.forEach(([x, y], k) => {
      Object.assign(context, { lineWidth: 5, strokeStyle: "black", fillStyle: "white" });
      context.strokeText(String(k + 1), ...pixel(1.32 * x, 1.32 * y));
      context.fillText(String(k + 1), ...pixel(1.32 * x, 1.32 * y));
    });
    this.legend.textContent = `The longest arrow is a score of ${Number(most.toPrecision(2))}; one half as long, a quarter of that.`;
  }

  drawParticles(context) {
    const { points } = this;
    context.beginPath();
    for (let i = 0; i < points.length; i += 2) {
      const [x, y] = pixel(points[i], points[i + 1]);
      context.moveTo(x + 4, y);
      context.arc(x, y, 4, 0, 2 * Math.PI);
    }
    Object.assign(context, { fillStyle: "#ffb000", strokeStyle: "black", lineWidth: 1.5 });
    context.fill();
    context.stroke();
    const [x, y] = pixel(this.state.x, this.state.y);
    for (const [width, style] of [
      [6, "black"],
      [2.5, "#ff6d5a"],
    ]) {
      context.beginPath();
      context.moveTo(x - 10, y);
      context.lineTo(x + 10, y);
      context.moveTo(x, y - 10);
      context.lineTo(x, y + 10);
      Object.assign(context, { lineWidth: width, strokeStyle: style });
      context.stroke();
    }
  }

  drawBars(ring) {
    const n = this.points.length / 2;
    const counts = tally(this.points, NEAR);
    const away = n - counts.reduce((a, b) => a + b, 0);
    const limit = 2 * ring.variance;
    this.shown = { n, counts, away };
    const share = n ? this.state.eta / limit : 0;
    const warning = share > 1 ? " Beyond it the particles fly off." : "";
    this.facts.textContent =
      `${this.steps} steps, ${n} particles, ${away} of them near no spot. ` +
      `At this noise level η must stay below ${short(limit)}.${warning}`;
    const head = ["spot", "should", "has", ""].map((name) =>
      el(name ? "th" : "td", name ? { scope: "col" } : { "aria-hidden": "true" }, name),
    );
    this.bars.replaceChildren(
      this.caption,
      el("tr", {}, ...head),
      ...counts.map((count, k) => {
        const [has, should] = [n ? count / n : 0, ring.weights[k]];
        const style = `--own: ${250 * should}%; --drawn: ${Math.min(100, 250 * has)}%`;
        return el(
          "tr",
          {},
          el("th", { scope: "row" }, String(k + 1)),
          el("td", {}, percent(should)),
          el("td", {}, n ? percent(has) : "–"),
          el("td", { "aria-hidden": "true" }, el("span", { class: "playground-guess", style })),
        );
      }),
    );
    const where = counts.map((c, k) => `${c} at spot ${k + 1}`).join(", ");
    this.plane.setAttribute(
      "aria-label",
      `Arrows of the score at noise level ${this.state.sigma.toFixed(2)}, and ${n} particles: ${where}, ${away} near none.`,
    );
  }

  tell(first = "") {
    const { n, counts, away } = this.shown;
    const reached = counts.filter((c) => c > 0).length;
    const said = n ? `${reached} of 8 spots hold particles; ${away} of ${n} are near none.` : "";
    this.say(`${first} ${said}`.trim());
  }
}

/** The centres of side x side squares of the picture, rows from the top. */
function lattice(side) {
  const at = (k) => LIMIT * ((2 * k + 1) / side - 1);
  return Array.from({ length: side * side }, (_, k) => [at(k % side), -at(Math.floor(k / side))]);
}

function pixel(x, y) {
  return [((x + LIMIT) * SIDE) / (2 * LIMIT), ((LIMIT - y) * SIDE) / (2 * LIMIT)];
}

/** Adds an arrow through a place, which is its middle, to the path. */
function arrow(context, [x, y], angle, length) {
  const [u, v] = [(Math.cos(angle) * length) / 2, (Math.sin(angle) * length) / 2];
  context.moveTo(x - u, y - v);
  context.lineTo(x + u, y + v);
  const barb = Math.min(7, length / 2);
  for (const turn of [2.6, -2.6]) {
    context.moveTo(x + u, y + v);
    context.lineTo(x + u + barb * Math.cos(angle + turn), y + v + barb * Math.sin(angle + turn));
  }
}
