// The GAN laboratory: the game of chapter 09, played in the page.
import { DEFAULTS, G_LOSSES, Game } from "./gan.js";
import { curves, gradient, heatMap, points } from "./plot.js";
import { TOYS, drawn } from "./toys.js";
import { button, calm, drag, el, picture, select, slider, status } from "./ui.js";

const LIMIT = 3; // the plane shown is [-3, 3] x [-3, 3]
const SIDE = 32; // points of the heat map along each axis
const SHOWN = 300; // points of each kind in the picture
const MEMORY = 600; // rounds in the picture of the losses
const FRAME = 12; // milliseconds of training a frame at most, when fast

/** The experiments; what they do not name is as in DEFAULTS. */
export const EXPERIMENTS = {
  balanced: {},
  collapse: { gSteps: 10, dRate: 1e-3 },
  dominance: { loss: "minimax", gOptimizer: "sgd", gRate: 5e-3, dSteps: 5, dRate: 5e-3 },
};

/** What the balanced game may get as a medicine. */
export const CURES = {
  r1: { name: "an R1 penalty", settings: { r1: 0.1 } },
  spectral: { name: "spectral normalisation", settings: { spectral: 1, dSteps: 5 } },
  deviation: { name: "a look at the whole batch", settings: { deviation: 1 } },
  turns: { name: "five turns of the discriminator", settings: { dSteps: 5 } },
};

const rates = [1e-4, 3e-4, 1e-3, 3e-3, 5e-3, 0.01, 0.05].map((r) => [r, String(r)]);

export async function start(panel) {
  return new Laboratory(panel);
}

class Laboratory {
  constructor(panel) {
    this.settings = { ...DEFAULTS };
    this.toy = TOYS.ring;
    this.pen = [];
    this.makeView();
    this.controls = this.makeControls();
    panel.append(...this.layout());
    drag(
      this.plane,
      (u, v) => this.sketch(u, v),
      () => this.finishSketch(),
    );
    new MutationObserver(() => this.draw()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    this.reset();
  }

  makeView() {
    this.plane = picture(480, 480, "", "playground-plane");
    this.losses = picture(480, 200, "", "playground-curves");
    this.facts = el("table", { class: "playground-table", "aria-label": "State of the game" });
    const { line, say } = status(200);
    Object.assign(this, { line, say });
  }

  /** One native control for each setting, by its name in `settings`. */
  makeControls() {
    const set =
      (name, number = true) =>
      (v) =>
        this.change(name, number ? Number(v) : v);
    const losses = Object.entries(G_LOSSES).map(([k, { name }]) => [k, name]);
    const list = (name, label, options, number) =>
      select({ label, options, value: DEFAULTS[name], change: set(name, number) });
    const steps = (name, label) =>
      slider({ label, min: 0, max: 10, step: 1, value: DEFAULTS[name], change: set(name) });
    return {
      loss: list("loss", "Generator’s loss", losses, false),
      gOptimizer: list(
        "gOptimizer",
        "Generator’s optimizer",
        [
          ["adam", "Adam"],
          ["sgd", "gradient descent"],
        ],
        false,
      ),
      gRate: list("gRate", "Generator’s learning rate", rates),
      dRate: list("dRate", "Discriminator’s learning rate", rates),
      dSteps: steps("dSteps", "Discriminator’s steps a round"),
      gSteps: steps("gSteps", "Generator’s steps a round"),
      r1: list("r1", "R1 penalty on the discriminator", [
        [0, "none"],
        [0.1, "0.1"],
        [1, "1"],
      ]),
      spectral: list("spectral", "Spectral normalisation of it", [
        [0, "off"],
        [1, "on"],
      ]),
      deviation: list("deviation", "It sees how much a batch varies", [
        [0, "no"],
        [1, "yes"],
      ]),
      latentDim: list(
        "latentDim",
        "Coordinates of the noise (starts anew)",
        [1, 2, 8].map((n) => [n, String(n)]),
      ),
      seed: list(
        "seed",
        "Seed (starts anew)",
        [1, 2, 3, 4, 5].map((n) => [n, String(n)]),
      ),
    };
  }

  layout() {
    const shapes = [
      ...Object.entries(TOYS).map(([k, { name }]) => [k, name]),
      ["drawn", "drawn by you"],
    ];
    const shape = select({
      label: "Real points",
      options: shapes,
      value: "ring",
      change: (v) => this.choose(v),
    });
    this.hint = el(
      "p",
      { class: "playground-hint", hidden: true },
      "Draw in the picture with the pointer. Each stroke adds points and starts anew. ",
      button("Clear", () => this.choose("drawn")),
    );
    const bar = el("span", { class: "playground-bar", style: `background: ${gradient()}` });
    const legend = el(
      "p",
      { class: "playground-hint" },
      "○ real, × generated, white line: D = ½. D from 0 ",
      bar,
      " to 1.",
    );
    const curvesLegend = el(
      "p",
      { class: "playground-hint" },
      "Losses of the last 600 rounds. Solid: discriminator. Dashed: generator. Dotted: 2 log 2.",
    );
    return [
      el(
        "div",
        { class: "playground-half" },
        shape.field,
        this.hint,
        this.plane,
        legend,
        this.drive(),
        this.line,
      ),
      el(
        "div",
        { class: "playground-half" },
        this.experiments(),
        ...Object.values(this.controls).map((c) => c.field),
      ),
      el("div", { class: "playground-half" }, this.facts),
      el("div", { class: "playground-half" }, this.losses, curvesLegend),
    ];
  }

  /** Buttons that make time go on; without motion, if the reader asks for that. */
  drive() {
    const run = calm()
      ? [button("10 rounds", () => this.run(10)), button("100 rounds", () => this.run(100))]
      : [
          button("Slow", () => this.play(1)),
          button("Fast", () => this.play(100)),
          button("Pause", () => this.pause()),
        ];
    const row = [button("Step", () => this.run(1)), ...run, button("Reset", () => this.reset())];
    return el("p", { class: "playground-buttons" }, ...row);
  }

  experiments() {
    const begin = (name) => () => {
      this.apply(EXPERIMENTS[name]);
      this.reset();
    };
    this.medicine = select({
      label: "Cure with",
      options: Object.entries(CURES).map(([k, { name }]) => [k, name]),
      value: "r1",
      change: () => {},
    });
    return el(
      "div",
      {},
      el(
        "p",
        { class: "playground-buttons" },
        button("Balanced game", begin("balanced")),
        button("Provoke mode collapse", begin("collapse")),
        button("Provoke a dominant discriminator", begin("dominance")),
        button("Cure (no reset)", () => this.cure()),
      ),
      this.medicine.field,
    );
  }

  /** Moves all controls but the noise and the seed to an experiment's settings. */
  apply(experiment) {
    const { latentDim, seed } = this.settings;
    Object.assign(this.settings, DEFAULTS, { latentDim, seed }, experiment);
    for (const [name, control] of Object.entries(this.controls)) control.set(this.settings[name]);
    this.game.set(this.settings);
  }

  cure() {
    const { name, settings } = CURES[this.medicine.input.value];
    this.apply(settings);
    this.announce(`Balanced, with ${name}; the networks stay as they are.`);
  }

  change(name, value) {
    this.settings[name] = value;
    if (name === "latentDim" || name === "seed") this.reset();
    else this.game.set(this.settings);
  }

  choose(name) {
    this.hint.hidden = name !== "drawn";
    this.plane.classList.toggle("playground-drawing", name === "drawn");
    this.pen = [];
    if (name !== "drawn") this.toy = TOYS[name];
    this.reset();
  }

  sketch(u, v) {
    if (this.hint.hidden) return;
    this.pause();
    this.pen.push([(2 * u - 1) * LIMIT, (1 - 2 * v) * LIMIT]);
    points(this.plane, this.pen.slice(-1).flat(), LIMIT, "ring");
  }

  finishSketch() {
    if (this.hint.hidden || !this.pen.length) return;
    this.toy = drawn(this.pen);
    this.reset();
  }

  reset() {
    this.pause();
    this.game = new Game(this.toy, this.settings);
    this.history = { d: [], g: [] };
    this.measured = this.game.coverage();
    this.draw();
    this.announce("New networks.");
  }

  /** Plays some rounds at once, then draws. */
  run(rounds) {
    for (let k = 0; k < rounds; k++) this.round();
    this.measured = this.game.coverage();
    this.draw();
    this.announce();
  }

  round() {
    const { game, history } = this;
    game.round();
    for (const [values, loss] of [
      [history.d, game.dLoss],
      [history.g, game.gLoss],
    ]) {
      values.push(loss ?? NaN);
      if (values.length > MEMORY) values.shift();
    }
  }

  play(most) {
    this.pause();
    let frame = 0;
    const tick = () => {
      this.timer = requestAnimationFrame(tick);
      const end = performance.now() + FRAME;
      for (let k = 0; k < most && (k === 0 || performance.now() < end); k++) this.round();
      frame += 1;
      if (frame % 20 === 0) this.measured = this.game.coverage();
      if (frame % 3 === 0) this.draw();
      if (frame % 600 === 0) this.announce();
    };
    tick();
  }

  pause() {
    if (!this.timer) return;
    cancelAnimationFrame(this.timer);
    this.timer = 0;
    this.measured = this.game.coverage();
    this.draw();
    this.announce("Paused.");
  }

  draw() {
    const { game, plane } = this;
    heatMap(plane, game.verdicts(SIDE, LIMIT), SIDE);
    points(plane, game.real.subarray(0, 2 * SHOWN), LIMIT, "ring");
    points(plane, game.samples(SHOWN), LIMIT, "cross");
    const { d, g } = this.history;
    curves(
      this.losses,
      [
        [d, [], "--pst-color-primary"],
        [g, [12, 8], "--pst-color-secondary"],
      ],
      2 * Math.log(2),
    );
    this.tell();
  }

  /** The numbers beside the pictures, which say the same as text. */
  tell() {
    const { rounds, dLoss, gLoss, dReal, dFake, gNorm } = this.game;
    const { covered, spots, near } = this.measured;
    const number = (v) =>
      v === undefined ? "–" : Math.abs(v) < 0.01 && v ? v.toExponential(1) : v.toFixed(2);
    const rows = [
      ["rounds played", rounds],
      ["spots covered", `${covered} of ${spots}`],
      ["samples near a spot", `${Math.round(100 * near)} %`],
      ["discriminator’s loss", number(dLoss)],
      ["generator’s loss", number(gLoss)],
      ["mean D of real points", number(dReal)],
      ["mean D of generated points", number(dFake)],
      ["norm of the generator’s gradient", number(gNorm)],
    ];
    this.facts.replaceChildren(
      ...rows.map(([name, value]) =>
        el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(value))),
      ),
    );
    this.plane.setAttribute(
      "aria-label",
      `Plane with real points (${this.toy.name}), generated points and the discriminator’s verdict after ${rounds} rounds: ${covered} of ${spots} spots covered.`,
    );
    this.losses.setAttribute(
      "aria-label",
      `Losses by round; last: discriminator ${number(dLoss)}, generator ${number(gLoss)}.`,
    );
  }

  announce(first = "") {
    const { covered, spots, near } = this.measured;
    this.say(
      `${first} Round ${this.game.rounds}: ${covered} of ${spots} spots covered, ${Math.round(100 * near)} % of the samples near one.`.trim(),
    );
  }
}
