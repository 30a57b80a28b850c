// Points on their way from noise to data and back: chapters 21 and 22, step by step.
import { fromAddress, makeLink, toAddress } from "./address.js";
import { TOUR } from "./diffusion-tour.js";
import { gaussian, uniform } from "./noise.js";
import { oklch } from "./plot.js";
import { Denoiser, load } from "./runtime.js";
import { Walk, budget } from "./samplers.js";
import { TOYS, coverage, draw } from "./toys.js";
import { makeTour } from "./tour.js";
import { button, calm, colour, el, picture, select, slider, status } from "./ui.js";

const LIMIT = 3.2; // the picture shows [-3.2, 3.2] in both directions
const SIDE = 640; // pixels of the picture
const FRAME = 25; // milliseconds of work before the page may breathe
const FILM = 4000; // milliseconds from noise to data
const KEPT = 5; // runs in the table
const PAUSE = 400; // milliseconds before a run is kept
const NONE = -2; // the class that is asked for: none,
const TURNS = -1; // or one for each point, in turn

const PI = Math.PI;
const moon = (x, y) => {
  const gap = ([u, v], s) => {
    const at = (k) => [s * Math.cos((k * PI) / 63) + u, s * Math.sin((k * PI) / 63) + v];
    const far = (k) => Math.hypot(...at(k).map((c, i) => 1.5 * c - [x, y][i]));
    return Math.min(...Array.from({ length: 64 }, (_, k) => far(k)));
  };
  return gap([-0.5, -0.25], 1) <= gap([0.5, 0.25], -1) ? 0 : 1;
};

/** Each set of points: its density, the names of its classes, the class of a place. */
export const SETS = {
  ring: {
    toy: TOYS.ring,
    classes: Array.from({ length: 8 }, (_, k) => `spot ${k + 1}`),
    classOf: (x, y) => (Math.round(Math.atan2(y, x) / (PI / 4)) + 8) % 8,
  },
  checkerboard: {
    toy: TOYS.checkerboard,
    classes: ["upper right", "upper left", "lower left", "lower right"],
    classOf: (x, y) => (y < 0 ? 2 + (x >= 0) : Number(x < 0)),
  },
  moons: { toy: TOYS.moons, classes: ["upper moon", "lower moon"], classOf: moon },
  swiss_roll: {
    toy: { ...TOYS.spiral, name: "Swiss roll" },
    classes: ["inner half turn", "middle half turn", "outer half turn"],
    classOf: (x, y) => Math.min(2, Math.max(0, Math.floor((6.5 * Math.hypot(x, y)) / PI - 1.5))),
  },
};
const SAMPLERS = { ancestral: "ancestral (DDPM)", ddim: "DDIM", heun: "Heun" };
const LINES = {
  some: "trails of 40",
  all: "trails of all",
  guesses: "to the guesses",
  none: "none",
};
const SOME = 40; // points that have a trail

/** What a link need not say. */
export const DEFAULTS = {
  set: "ring",
  sampler: "ancestral",
  calls: 50,
  label: NONE,
  guidance: 1,
  points: 300,
  seed: 1,
  at: null, // the state that is shown; null for the last one
  lines: "some",
};
const NAMES = { set: "data", sampler: "sampler", calls: "calls", label: "class", guidance: "w" };
Object.assign(NAMES, { points: "n", seed: "seed", at: "step", lines: "lines" });

const percent = (p) => `${Math.round(100 * p)} %`;
const whole = (v, low, high) => Math.min(high, Math.max(low, Math.round(v)));
const oneOf = (v, table, fallback) => (Object.hasOwn(table, v) ? v : fallback);

export async function start(panel, urls) {
  const desk = new Desk(panel, urls.split(" "));
  await desk.set(fromAddress(location.search, NAMES, DEFAULTS));
  return desk;
}

class Desk {
  constructor(panel, urls) {
    this.urls = Object.fromEntries(Object.keys(SETS).map((name, k) => [name, urls[k]]));
    this.models = {};
    this.runs = [];
    const { line, say } = status(300);
    Object.assign(this, { line, say });
    this.makeView();
    this.controls = this.makeControls();
    panel.append(...this.layout());
    new MutationObserver(() => this.draw()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  }

  // The state

  /** Puts the demo into a state; what it does not name is as in DEFAULTS. */
  async set(state, message = "") {
    this.stop();
    const s = { ...DEFAULTS, ...state };
    s.set = oneOf(s.set, SETS, DEFAULTS.set);
    s.sampler = oneOf(s.sampler, SAMPLERS, DEFAULTS.sampler);
    s.lines = oneOf(s.lines, LINES, DEFAULTS.lines);
    s.calls = whole(s.calls, 1, 100);
    s.label = whole(s.label, NONE, SETS[s.set].classes.length - 1);
    s.guidance = Math.min(6, Math.max(0, s.guidance));
    s.points = 50 * whole(s.points / 50, 1, 12);
    s.seed = whole(s.seed, 1, 99);
    const { steps } = budget(s.sampler, s.calls);
    s.at = s.at === null ? null : whole(s.at, 0, steps);
    if (s.at === steps) s.at = null;
    this.share = (s.at ?? steps) / steps; // of the way from noise to data
    const old = this.state;
    this.state = s;
    for (const [name, control] of Object.entries(this.controls)) control.set(s[name]);
    await this.walkAnew(old, message);
  }

  /** A control has moved; the place between noise and data stays, if it can. */
  change(name, value) {
    const next = { ...this.state, [name]: value };
    if (name === "set") next.label = Math.min(next.label, TURNS);
    const { share } = this; // not of the rounded steps, so that it does not wander
    if (share < 1) next.at = share * budget(next.sampler, next.calls).steps;
    const done = this.set(next);
    this.share = share;
    return done;
  }

  get steps() {
    return budget(this.state.sampler, this.state.calls).steps;
  }

  /** The state that is looked at, as a number from 0 on. */
  get at() {
    return this.state.at ?? this.steps;
  }

  /** Shows a state, wherever it was asked for from. */
  show(at) {
    const k = whole(at, 0, this.steps);
    this.state.at = k === this.steps ? null : k;
    this.share = k / this.steps;
    this.draw();
    this.tell();
  }

  // The walk

  async walkAnew(old, message) {
    const { state } = this;
    const { set } = state;
    if (!this.models[set]) {
      this.say(`Loading the network for the ${SETS[set].toy.name} …`);
      this.models[set] = load(this.urls[set], Denoiser);
    }
    let model;
    try {
      model = await this.models[set];
    } catch (error) {
      delete this.models[set];
      if (state !== this.state) return;
      const why = `${error.message} The picture is as before.`;
      if (old) await this.set(old, why);
      else throw error;
      return;
    }
    if (state !== this.state) return; // the reader has moved on
    if (old?.set !== set || !this.real) {
      const random = uniform(7);
      this.real = draw(SETS[set].toy, 600, random, gaussian(random));
      this.standard = coverage(SETS[set].toy, this.real);
    }
    if (this.walk?.key !== this.key) {
      const walk = new Walk(model, { ...state, labels: this.labels(), n: state.points });
      this.walk = Object.assign(walk, { key: this.key });
    }
    this.pump(message);
  }

  /** What a walk depends on: the state without its place and its lines. */
  get key() {
    const { set, sampler, calls, label, guidance, points, seed } = this.state;
    return [set, sampler, calls, label, guidance, points, seed].join();
  }

  /** The class that each point is asked to fall into. */
  labels() {
    const { set, label, points } = this.state;
    if (label === NONE) return null;
    const count = SETS[set].classes.length;
    return Array.from({ length: points }, (_, i) => (label === TURNS ? i % count : label));
  }

  /** Works for a moment, and goes on when the page has breathed. */
  pump(message) {
    clearTimeout(this.worker);
    const end = performance.now() + FRAME;
    while (!this.walk.done && performance.now() < end) this.walk.step();
    if (!this.walk.done) {
      this.draw();
      this.worker = setTimeout(() => this.pump(message), 0);
      return;
    }
    clearTimeout(this.keeper); // while a slider is dragged, runs are not worth a row
    this.keeper = setTimeout(() => this.keep(), PAUSE);
    this.draw();
    this.tell(message);
  }

  /** Notes the run that has ended in the table. */
  keep() {
    if (!this.walk.done || this.walk.key !== this.key) return;
    const { set, sampler, calls, label, guidance } = this.state;
    const asked =
      label === NONE ? "none" : label === TURNS ? "in turn" : SETS[set].classes[label];
    const told = label === NONE ? asked : `${asked}, w = ${guidance}`;
    const words = [SETS[set].toy.name, sampler, String(budget(sampler, calls).calls), told];
    const score = percent(this.measure(this.walk.states.at(-1)).near);
    const key = words.join();
    this.runs = [{ key, words, score }, ...this.runs.filter((run) => run.key !== key)];
    this.runs.length = Math.min(this.runs.length, KEPT);
    this.drawRuns();
  }

  /** How many points are near the data, and what share is in the class asked for. */
  measure(x) {
    const { toy, classOf } = SETS[this.state.set];
    const { labels } = this.walk;
    const n = x.length / 2;
    const found = Array.from({ length: n }, (_, i) => classOf(x[2 * i], x[2 * i + 1]));
    const obeyed = labels && found.filter((c, i) => c === labels[i]).length / n;
    return { ...coverage(toy, x), found, obeyed };
  }

  // Time

  play() {
    if (this.timer) {
      this.stop();
      this.tell("Paused.");
      return;
    }
    let k = this.state.at === null ? 0 : this.at;
    const pause = Math.max(30, FILM / this.steps);
    this.player.textContent = "Pause";
    this.timer = setInterval(() => {
      k += 1;
      if (k >= this.steps) this.stop();
      this.show(k);
    }, pause);
    this.show(k);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    if (!calm()) this.player.textContent = "Play";
  }

  // The view

  makeView() {
    this.plane = picture(SIDE, SIDE, "", "playground-plane playground-flow");
    this.facts = el("p", { class: "playground-facts" });
    this.table = el("table", { class: "playground-table playground-runs" });
    this.player = button("Play", () => this.play());
    this.link = makeLink(this.say);
  }

  makeControls() {
    const set =
      (name, number = false) =>
      (v) =>
        this.change(name, number ? Number(v) : v);
    const pairs = (table) => Object.entries(table);
    const names = Object.entries(SETS).map(([k, { toy }]) => [k, toy.name]);
    const range = (name, label, min, max, step, show = String) =>
      slider({ label, min, max, step, value: min, show, change: set(name) });
    const list = (name, label, options) =>
      select({ label, options, value: options[0][0], change: set(name, name === "label") });
    return {
      set: list("set", "Data", names),
      sampler: list("sampler", "Sampler", pairs(SAMPLERS)),
      calls: range("calls", "Calls of the network", 1, 100, 1),
      label: this.makeClass(list("label", "Class to ask for", [[NONE, "none"]])),
      guidance: range("guidance", "Guidance w", 0, 6, 0.5, (v) => v.toFixed(1)),
      points: range("points", "Points", 50, 600, 50),
      seed: range("seed", "Seed of the noise", 1, 99, 1),
      at: this.makeScrubber(),
      lines: select({
        label: "Lines",
        options: pairs(LINES),
        value: "some",
        change: (v) => {
          this.state.lines = v;
          this.draw();
          this.tell();
        },
      }),
    };
  }

  /** The list of classes, which belong to the set that is shown. */
  makeClass(list) {
    const set = (value) => {
      const { classes } = SETS[this.state.set];
      const options = [[NONE, "none"], [TURNS, "each point its own"], ...classes.entries()];
      list.input.replaceChildren(...options.map(([v, text]) => el("option", { value: v }, text)));
      list.set(value);
      this.controls.guidance.input.disabled = value === NONE;
    };
    return { ...list, set };
  }

  /** The range that leads from noise to data and back. */
  makeScrubber() {
    const range = slider({
      label: "Step",
      min: 0,
      max: 1,
      step: 1,
      value: 0,
      show: (v) => `${v} of ${this.state ? this.steps : 1}`,
      change: (v) => {
        this.stop();
        this.show(v);
      },
    });
    const set = () => {
      range.input.max = this.steps;
      range.set(this.at);
    };
    range.field.classList.add("playground-scrubber");
    return { ...range, set };
  }

  layout() {
    const half = (...children) => el("div", { class: "playground-half" }, ...children);
    const { set, sampler, calls, label, guidance, points, seed, at, lines } = this.controls;
    const { box, go } = makeTour(TOUR, ({ state, play }) => {
      this.set(state);
      if (play && !calm()) this.play();
    });
    this.go = go;
    const hint =
      "Dots: samples, each in the colour of the class asked for or, with none, of the class in which it ends. Pale dots: real data.";
    return [
      box,
      half(this.plane, at.field, this.drive(), el("p", { class: "playground-hint" }, hint)),
      half(
        ...[set, sampler, calls, label, guidance, points, seed, lines].map(({ field }) => field),
        this.facts,
        this.table,
      ),
      el("div", { class: "playground-whole" }, this.link.row, this.line),
    ];
  }

  /** Buttons that make time go on; without motion, if the reader asks for that. */
  drive() {
    const to = (text, where) =>
      button(text, () => {
        this.stop();
        this.show(where());
      });
    const tenth = () => Math.max(1, Math.round(this.steps / 10));
    const run = calm()
      ? [to("A tenth on", () => this.at + tenth()), to("A tenth back", () => this.at - tenth())]
      : [this.player];
    const row = [...run, to("To the noise", () => 0), to("To the data", () => this.steps)];
    return el("p", { class: "playground-buttons" }, ...row);
  }

  // Drawing

  draw() {
    const { walk, state } = this;
    if (walk?.key !== this.key) return; // its network is still being loaded
    const k = Math.min(this.at, walk.states.length - 1);
    this.controls.at.set();
    this.link.anchor.href = toAddress(state, NAMES, DEFAULTS);
    const measured = this.measure(walk.states[k]);
    this.shown = { k, ...measured };
    this.drawPlane(k);
    this.drawFacts(k, measured);
  }

  /** Colours of the classes, as light as the theme allows. */
  colours() {
    const dark = document.documentElement.dataset.theme === "dark";
    const count = SETS[this.state.set].classes.length;
    return Array.from({ length: count }, (_, c) => {
      const rgb = oklch(dark ? 0.78 : 0.56, 0.16, 25 + (360 * c) / count);
      return `rgb(${rgb.join(" ")})`;
    });
  }

  drawPlane(k) {
    const context = this.plane.getContext("2d");
    const { walk, state } = this;
    const unit = SIDE / (2 * LIMIT);
    const place = (x, i) => [(x[2 * i] + LIMIT) * unit, (LIMIT - x[2 * i + 1]) * unit];
    const colours = this.colours();
    const classes = walk.labels ?? (walk.done ? this.measure(walk.states.at(-1)).found : null);
    const ink = colour(this.plane, "--pst-color-text-muted");
    const shade = (i) => (classes ? colours[classes[i]] : ink);
    context.clearRect(0, 0, SIDE, SIDE);
    context.fillStyle = ink;
    context.globalAlpha = 0.35;
    for (let i = 0; i < this.real.length / 2; i++) dot(context, place(this.real, i), 2);
    const x = walk.states[k];
    const guess = walk.guesses[k] ?? x;
    context.globalAlpha = state.lines === "some" ? 0.6 : 0.3;
    context.lineWidth = state.lines === "some" ? 1.8 : 1.2;
    for (let i = 0; i < x.length / 2; i++) {
      context.strokeStyle = shade(i);
      context.beginPath();
      if (state.lines === "all" || (state.lines === "some" && i < SOME)) {
        for (const past of walk.states.slice(0, k + 1)) context.lineTo(...place(past, i));
      } else if (state.lines === "guesses") {
        context.moveTo(...place(x, i));
        context.lineTo(...place(guess, i));
      }
      context.stroke();
    }
    context.globalAlpha = 1;
    for (let i = 0; i < x.length / 2; i++) {
      context.fillStyle = context.strokeStyle = shade(i);
      dot(context, place(x, i), 4);
      if (state.lines === "guesses") ring(context, place(guess, i), 5);
    }
  }

  drawFacts(k, { near, obeyed }) {
    const { walk, state, standard } = this;
    const noise = Math.sqrt(1 - walk.levels[k]);
    const { calls } = budget(state.sampler, state.calls);
    const doubled = walk.labels && state.guidance !== 1;
    const parts = [
      `Noise left: ${noise.toFixed(2)}.`,
      `Near the data: ${percent(near)} (real data: ${percent(standard.near)}).`,
      obeyed !== null && `In the class asked for: ${percent(obeyed)}.`,
      `${walk.steps} steps, ${calls} calls${doubled ? ", each with and without the class" : ""}.`,
    ];
    this.facts.textContent = parts.filter(Boolean).join(" ");
    this.plane.setAttribute(
      "aria-label",
      `${state.points} points after step ${k} of ${walk.steps}. ${this.facts.textContent}`,
    );
  }

  drawRuns() {
    const head = ["data", "sampler", "calls", "class", "near"];
    const cells = (tag, texts, scope) => texts.map((t) => el(tag, scope ? { scope } : {}, t));
    this.table.replaceChildren(
      el("caption", {}, "Your last runs, and how many points ended near the data"),
      el("tr", {}, ...cells("th", head, "col")),
      ...this.runs.map(({ words, score }) =>
        el("tr", {}, el("th", { scope: "row" }, words[0]), ...cells("td", [...words.slice(1), score])),
      ),
    );
  }

  tell(first = "") {
    const { k, near } = this.shown;
    const where = `Step ${k} of ${this.steps}: ${percent(near)} near the data.`;
    this.say(`${first} ${where}`.trim());
  }
}

function dot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function ring(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.lineWidth = 1.5;
  context.stroke();
}
