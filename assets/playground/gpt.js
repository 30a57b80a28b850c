// The small GPT of chapter 16: what it guesses, what is drawn, and where its heads look.
import { draw, numberOf, settle } from "./decoding.js";
import { LanguageModel, load, softmax } from "./runtime.js";
import { TABLE, gradient } from "./plot.js";
import { TOUR } from "./gpt-tour.js";
import { button, calm, colour, el, picture, place, select, slider, status } from "./ui.js";

const MOST = 400; // letters of a text, so that a link stays short
const SHOWN = 8; // guesses in the table
const PAUSE = 110; // milliseconds a letter, when the model writes
const BIG = 640; // pixels of the large map
const ROWS = 24; // letters of the large map, so that they can be read

/** What a link need not say. */
export const DEFAULTS = {
  text: "First Citizen:\n",
  prompt: null, // letters of the text that the reader gave; null for all
  temperature: 0.8,
  topK: null, // null for the whole alphabet
  topP: 1,
  seed: 1,
  block: 0,
  head: 0,
  at: null, // the letter that is looked at; null for the last one
  shade: "chance",
};
const NAMES = { text: "text", prompt: "n", temperature: "t", topK: "k", topP: "p", seed: "seed" };
Object.assign(NAMES, { block: "block", head: "head", at: "at", shade: "shade" });

/** The settings that an address holds; what it does not name is not in them. */
export function fromAddress(search) {
  const found = new URLSearchParams(search);
  const state = {};
  for (const [name, key] of Object.entries(NAMES)) {
    const value = found.get(key);
    if (value === null) continue;
    if (name === "text" || name === "shade") state[name] = value;
    else if (value.trim() !== "" && Number.isFinite(Number(value))) state[name] = Number(value);
  }
  return state;
}

/** The query of a link that restores a state. */
export function toQuery(state) {
  const query = new URLSearchParams();
  for (const [name, key] of Object.entries(NAMES)) {
    if (state[name] !== DEFAULTS[name]) query.set(key, state[name]);
  }
  return String(query);
}

/** A letter that can be seen. */
export const seen = (letter) => ({ " ": "␣", "\n": "↵" })[letter] ?? letter;
const spoken = (letter) => ({ " ": "space", "\n": "line break" })[letter] ?? `“${letter}”`;
const percent = (p) => (p && p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
const between = (v, low, high) => Math.min(high, Math.max(low, v));

export async function start(panel, url) {
  return new Desk(panel, await load(url, LanguageModel));
}

class Desk {
  constructor(panel, model) {
    this.model = model;
    this.blocks = model.layers.flatMap((l) => l.layers ?? []).filter((l) => l.kind === "attention");
    this.makeView();
    this.controls = this.makeControls();
    panel.append(...this.layout());
    new MutationObserver(() => this.draw()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    this.set(fromAddress(location.search));
  }

  // The state

  /** Puts the demo into a state; what it does not name is as in DEFAULTS. */
  set(state, message = "") {
    this.stop();
    const { blocks, model } = this;
    const s = { ...DEFAULTS, ...state };
    s.text = this.known(s.text) || "\n";
    s.prompt = between(Math.round(s.prompt ?? s.text.length), 1, s.text.length);
    s.temperature = between(s.temperature, 0, 2);
    s.topK = between(Math.round(s.topK ?? model.alphabet.length), 1, model.alphabet.length);
    s.topP = between(s.topP, 0.05, 1);
    s.seed = between(Math.round(s.seed), 1, 99);
    s.block = between(Math.round(s.block), 0, blocks.length - 1);
    s.head = between(Math.round(s.head), 0, blocks[0].heads - 1);
    s.at = s.at === null ? null : Math.max(0, Math.round(s.at));
    if (!["chance", "attention"].includes(s.shade)) s.shade = DEFAULTS.shade;
    this.state = s;
    for (const [name, control] of Object.entries(this.controls)) control.set(s[name]);
    this.prompt.value = s.text.slice(0, s.prompt);
    this.draw();
    this.tell(message);
  }

  /** What the alphabet holds of a text, cut to the most that is allowed. */
  known(text) {
    const { alphabet } = this.model;
    const letters = [...text.replace(/\r\n?/g, "\n").replace(/[‘’]/g, "'")];
    const strange = new Set(letters.filter((c) => !alphabet.includes(c)));
    this.hint.textContent = strange.size
      ? `Left out, for the model has never seen it: ${[...strange].join(" ")}`
      : "";
    return letters
      .filter((c) => alphabet.includes(c))
      .join("")
      .slice(0, MOST);
  }

  /** The state as a link needs it: what is as at the start is not said. */
  get link() {
    const { text, prompt, topK, at } = this.state;
    const short = { ...this.state };
    if (prompt === text.length) short.prompt = null;
    if (topK === this.model.alphabet.length) short.topK = null;
    if (at !== null && this.at === text.length - 1) short.at = null;
    const query = toQuery(short);
    return `${location.origin}${location.pathname}${query && `?${query}`}`;
  }

  change(name, value) {
    this.state[name] = value;
    this.draw();
    this.tell();
  }

  // Reading: one pass over the letters that the model can see

  /** The place of the first letter that the model sees. */
  get first() {
    return Math.max(0, this.state.text.length - this.model.context);
  }

  /** The letter that is looked at, by its place in the text. */
  get at() {
    const last = this.state.text.length - 1;
    return between(this.state.at ?? last, this.first, last);
  }

  /** The place of the first letter of the large map, and how many it shows. */
  get part() {
    const rows = Math.min(ROWS, this.state.text.length - this.first);
    return [Math.max(this.first, this.at + 1 - rows), rows];
  }

  read() {
    const { alphabet } = this.model;
    const ids = [...this.state.text.slice(this.first)].map((c) => alphabet.indexOf(c));
    return this.model.read(ids);
  }

  // Writing

  /** Draws the next letters, and shows them. */
  write(count) {
    const { state, model } = this;
    let said = "";
    for (let k = 0; k < count && state.text.length < MOST; k++) {
      const { logits } = this.read();
      const p = settle(logits.at(-1), state);
      const id = draw(p, numberOf(state.seed, state.text.length - state.prompt));
      said = `Wrote ${spoken(model.alphabet[id])}, which had ${percent(p[id])}.`;
      state.text += model.alphabet[id];
    }
    state.at = null;
    if (state.text.length >= MOST) {
      this.stop();
      said = `The text is full: ${MOST} letters. Start anew, or take some back.`;
    }
    this.draw();
    this.tell(said);
  }

  play() {
    if (this.timer) {
      this.stop();
      this.tell("Paused.");
      return;
    }
    this.timer = setInterval(() => this.write(1), PAUSE);
    this.player.textContent = "Pause";
    this.write(1);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    if (!calm()) this.player.textContent = "Write";
  }

  takeBack() {
    this.stop();
    const { state } = this;
    if (state.text.length > state.prompt) state.text = state.text.slice(0, -1);
    state.at = null;
    this.draw();
    this.tell("Took one letter back.");
  }

  restart() {
    this.stop();
    this.state.text = this.state.text.slice(0, this.state.prompt);
    this.state.at = null;
    this.draw();
    this.tell("Back to the prompt.");
  }

  /** The reader types a prompt. */
  type() {
    this.stop();
    const { state } = this;
    state.text = this.known(this.prompt.value) || "\n";
    state.prompt = state.text.length;
    state.at = null;
    this.draw();
    this.tell();
  }

  // The view

  makeView() {
    this.prompt = el("textarea", {
      id: "gpt-prompt",
      rows: 3,
      maxlength: 200,
      spellcheck: "false",
      autocapitalize: "off",
      oninput: () => this.type(),
    });
    this.hint = el("p", { class: "playground-hint", "aria-live": "polite" });
    this.paper = el("div", { class: "playground-paper", role: "group", "aria-label": "The text" });
    this.paper.addEventListener("click", ({ target }) => {
      if (target.dataset.place) this.change("at", Number(target.dataset.place));
    });
    this.legend = el("p", { class: "playground-hint" });
    this.facts = el("p", { class: "playground-facts" });
    this.caption = el("caption");
    this.guesses = el("table", { class: "playground-table playground-guesses" });
    this.map = picture(BIG, BIG, "", "playground-plane playground-attention");
    this.map.addEventListener("click", (event) => {
      const [start, rows] = this.part;
      const row = Math.floor(place(event, this.map)[1] * rows);
      this.change("at", start + Math.min(rows - 1, row));
    });
    this.glance = el("p", { class: "playground-facts" });
    this.maps = this.blocks.map((layer, block) =>
      Array.from({ length: layer.heads }, (_, head) => this.makeSmallMap(block, head)),
    );
    this.anchor = el("a", { class: "playground-link" }, "Link to this state");
    const { line, say } = status(300);
    Object.assign(this, { line, say });
    this.player = button("Write", () => this.play());
  }

  makeSmallMap(block, head) {
    const canvas = el("canvas", { width: 64, height: 64, "aria-hidden": "true" });
    const choose = () => {
      Object.assign(this.state, { block, head });
      this.draw();
      this.tell(`Block ${block + 1}, head ${head + 1}. ${this.glance.textContent}`);
    };
    const name = `Block ${block + 1}, head ${head + 1}`;
    const box = button("", choose, { class: "playground-head", "aria-label": name });
    box.append(canvas, el("span", { "aria-hidden": "true" }, `${block + 1}.${head + 1}`));
    return { box, canvas };
  }

  makeControls() {
    const set = (name) => (v) => this.change(name, v);
    const size = this.model.alphabet.length;
    return {
      temperature: slider({
        label: "Temperature",
        min: 0,
        max: 2,
        step: 0.1,
        value: 1,
        show: (v) => (v ? v.toFixed(1) : "0 (best)"),
        change: set("temperature"),
      }),
      topK: slider({
        label: "Top-k: how many letters may come",
        min: 1,
        max: size,
        step: 1,
        value: size,
        show: (v) => (v === size ? "all" : String(v)),
        change: set("topK"),
      }),
      topP: slider({
        label: "Top-p: how much probability is kept",
        min: 0.05,
        max: 1,
        step: 0.05,
        value: 1,
        show: (v) => (v === 1 ? "all" : v.toFixed(2)),
        change: set("topP"),
      }),
      seed: slider({
        label: "Seed of the draws",
        min: 1,
        max: 99,
        step: 1,
        value: 1,
        change: set("seed"),
      }),
      at: this.makePlace(),
      shade: select({
        label: "Shade the letters by",
        options: [
          ["chance", "surprise"],
          ["attention", "attention"],
        ],
        value: "chance",
        change: set("shade"),
      }),
    };
  }

  /** A range over the letters that the model sees. */
  makePlace() {
    const show = (v) => spoken(this.state?.text[v] ?? "").replace("line break", "↵");
    const range = slider({
      label: "Look at letter",
      min: 0,
      max: 0,
      step: 1,
      value: 0,
      show,
      change: (v) => this.change("at", v),
    });
    const set = () => {
      range.input.min = this.first;
      range.input.max = this.state.text.length - 1;
      range.set(this.at);
    };
    return { ...range, set };
  }

  layout() {
    const half = (...children) => el("div", { class: "playground-half" }, ...children);
    const whole = (...children) => el("div", { class: "playground-whole" }, ...children);
    const { temperature, topK, topP, seed, at, shade } = this.controls;
    const heads = this.maps.flat().map(({ box }) => box);
    const bar = el("span", { class: "playground-bar", style: `background: ${gradient()}` });
    return [
      this.makeTour(),
      half(
        el("p", { class: "playground-prompt" }, el("label", { for: "gpt-prompt" }, "Prompt"), this.prompt),
        this.hint,
        this.drive(),
        this.paper,
        this.legend,
        at.field,
        shade.field,
        this.facts,
      ),
      half(
        temperature.field,
        topK.field,
        topP.field,
        seed.field,
        el("div", {}, this.guesses),
        el(
          "p",
          { class: "playground-hint" },
          "Outline: the model’s own guess. Filled: after temperature, top-k and top-p.",
        ),
      ),
      half(
        el("p", { class: "playground-title", id: "gpt-heads" }, "Where each head looks"),
        el(
          "div",
          {
            class: "playground-heads",
            role: "group",
            "aria-labelledby": "gpt-heads",
            style: `--heads: ${this.blocks[0].heads}`,
          },
          ...heads,
        ),
        el(
          "p",
          { class: "playground-hint" },
          "A row of small maps for each block. Row: the letter that looks; column: the one that is looked at. Weight from 0 ",
          bar,
          " to 1.",
        ),
        this.glance,
      ),
      half(
        this.map,
        el(
          "p",
          { class: "playground-hint" },
          `The chosen head over the last ${ROWS} letters up to the framed one. Each letter stands at the end of its row and above its column.`,
        ),
      ),
      whole(
        el(
          "p",
          { class: "playground-buttons" },
          this.anchor,
          button("Copy the link", () => this.copy()),
        ),
        this.line,
      ),
    ];
  }

  /** Buttons that make the text grow; without motion, if the reader asks for that. */
  drive() {
    const run = calm()
      ? [button("Write 10", () => this.write(10)), button("Write 40", () => this.write(40))]
      : [this.player];
    const row = [
      button("Next letter", () => {
        this.stop();
        this.write(1);
      }),
      ...run,
      button("Take one back", () => this.takeBack()),
      button("Start anew", () => this.restart()),
    ];
    return el("p", { class: "playground-buttons" }, ...row);
  }

  // The guided tour

  makeTour() {
    this.step = -1;
    this.guide = el("div", { class: "playground-guide", role: "status", "aria-live": "polite" });
    this.back = button("Back", () => this.go(this.step - 1));
    this.next = button("Take the tour", () => this.go(this.step + 1));
    this.end = button("End the tour", () => this.go(-1));
    const row = el("p", { class: "playground-buttons" }, this.next, this.back, this.end);
    const name = { class: "playground-whole playground-tour", role: "group" };
    const box = el("div", { ...name, "aria-label": "Guided tour" }, this.guide, row);
    this.back.hidden = this.end.hidden = true;
    return box;
  }

  /** Goes to a step of the tour, from 0 on; past its ends, out of it. */
  go(step) {
    this.step = step >= 0 && step < TOUR.length ? step : -1;
    const on = this.step >= 0;
    this.back.hidden = this.step < 1;
    this.end.hidden = !on;
    const last = this.step === TOUR.length - 1;
    if (document.activeElement === this.back && this.back.hidden) this.next.focus();
    this.next.textContent = on ? (last ? "Finish" : "Next step") : "Take the tour";
    if (!on) {
      this.guide.replaceChildren();
      this.next.focus();
      return;
    }
    const { title, text, state, letters = 0, look } = TOUR[this.step];
    this.set(state);
    if (letters) this.write(letters);
    if (look === "before") this.set({ ...this.state, ...this.headThatLooksBack() });
    this.guide.replaceChildren(
      el("strong", {}, `Step ${this.step + 1} of ${TOUR.length}: ${title}`),
      el("p", {}, text),
    );
  }

  /** The block and head with most weight on the letter before, and where it is largest. */
  headThatLooksBack() {
    let best = { weight: -1 };
    this.read().maps.forEach((heads, block) =>
      heads.forEach((rows, head) => {
        const weight = rows.slice(1).reduce((sum, row, t) => sum + row[t], 0);
        if (weight > best.weight) best = { weight, block, head, rows };
      }),
    );
    const { block, head, rows } = best;
    const onOneBefore = rows.map((row, t) => (t ? row[t - 1] : 0)).slice(ROWS);
    const at = this.first + ROWS + onOneBefore.indexOf(Math.max(...onOneBefore));
    return { block, head, at };
  }

  // Drawing

  draw() {
    const { logits, maps } = this.read();
    this.chances = this.chancesOfText(logits);
    this.controls.at.set();
    this.drawGuesses(logits[this.at - this.first]);
    this.drawMaps(maps);
    this.drawText(maps);
    this.anchor.href = this.link;
  }

  /** The model's probability of each visible letter but the first, given those before. */
  chancesOfText(logits) {
    const { text } = this.state;
    const { alphabet } = this.model;
    const chances = new Map();
    for (let k = this.first + 1; k < text.length; k++) {
      const p = softmax(logits[k - 1 - this.first]);
      chances.set(k, p[alphabet.indexOf(text[k])]);
    }
    return chances;
  }

  drawText(maps) {
    const { text, prompt, shade, block, head } = this.state;
    const looks = maps[block][head][this.at - this.first];
    this.paper.replaceChildren(
      ...[...text].map((letter, k) => {
        const classes = ["playground-letter"];
        if (k < this.first) classes.push("playground-gone");
        else if (k >= prompt) classes.push("playground-written");
        if (k === this.at) classes.push("playground-framed");
        const weight =
          shade === "chance"
            ? k >= prompt && this.chances.has(k) && 1 - this.chances.get(k)
            : k >= this.first && k <= this.at && looks[k - this.first];
        const shown = letter === "\n" ? "↵\n" : letter;
        const span = el("span", { class: classes.join(" "), "data-place": k }, shown);
        if (weight) span.style.setProperty("--weight", `${Math.round(70 * weight)}%`);
        return span;
      }),
    );
    this.legend.textContent =
      (shade === "chance"
        ? "The darker a written letter, the more it surprised the model."
        : "The darker a letter, the more the framed one looks at it.") +
      " Underlined: written by the model. Pale: no longer seen. Click a letter to look at it.";
    const written = [...this.chances].filter(([k]) => k >= prompt).map(([, p]) => p);
    const bits = written.reduce((sum, p) => sum - Math.log2(p), 0) / written.length;
    this.facts.textContent = written.length
      ? `${text.length - prompt} letters written; ${bits.toFixed(2)} bits a letter (over the last ${written.length}).`
      : `${text.length} letters of prompt; nothing written yet.`;
  }

  drawGuesses(logits) {
    const { state, model, at } = this;
    const [own, settled] = [softmax(logits), settle(logits, state)];
    const came = model.alphabet.indexOf(state.text[at + 1] ?? " ");
    const real = at + 1 < state.text.length;
    const order = Array.from(own.keys()).sort((a, b) => own[b] - own[a] || a - b);
    const ids = order.slice(0, SHOWN);
    if (real && !ids.includes(came)) ids[SHOWN - 1] = came;
    this.caption.textContent = `What may follow ${spoken(state.text[at])}${
      real ? ` (${spoken(state.text[at + 1])} came)` : ""
    }`;
    const head = ["letter", "model", "drawn with", ""].map((name) =>
      el(name ? "th" : "td", name ? { scope: "col" } : { "aria-hidden": "true" }, name),
    );
    this.guesses.replaceChildren(
      this.caption,
      el("tr", {}, ...head),
      ...ids.map((id) => {
        const mark = real && id === came ? " ✓" : "";
        const cut = settled[id] === 0;
        const bar = el("span", {
          class: "playground-guess",
          style: `--own: ${100 * own[id]}%; --drawn: ${100 * settled[id]}%`,
        });
        return el(
          "tr",
          {},
          el("th", { scope: "row" }, `${seen(model.alphabet[id])}${mark}`),
          el("td", {}, percent(own[id])),
          el("td", {}, cut ? "cut" : percent(settled[id])),
          el("td", { "aria-hidden": "true" }, bar),
        );
      }),
    );
    this.shown = { own, settled };
  }

  drawMaps(maps) {
    const { block, head, text } = this.state;
    const rows = text.length - this.first;
    this.maps.forEach((heads, b) =>
      heads.forEach(({ box, canvas }, h) => {
        box.setAttribute("aria-pressed", String(b === block && h === head));
        canvas.width = canvas.height = rows;
        paintMap(canvas.getContext("2d"), maps[b][h], rows);
      }),
    );
    this.drawLargeMap(this.maps[block][head].canvas);
    const row = maps[block][head][this.at - this.first];
    const best = Array.from(row.keys())
      .sort((a, b) => row[b] - row[a])
      .slice(0, 3);
    const where = best.map((k) => {
      const back = this.at - this.first - k;
      const far = back === 0 ? "itself" : back === 1 ? "one before" : `${back} before`;
      return `${spoken(text[this.first + k])} (${far}, ${percent(row[k])})`;
    });
    const name = `block ${block + 1}, head ${head + 1}`;
    this.glance.textContent = `In ${name}, ${spoken(text[this.at])} looks most at ${where.join(", ")}.`;
    this.map.setAttribute(
      "aria-label",
      `Attention of ${name}, each row one of ${this.part[1]} letters that look. ${this.glance.textContent}`,
    );
  }

  /** A part of the chosen head's map, with its letters and a frame around a row. */
  drawLargeMap(small) {
    const context = this.map.getContext("2d");
    const [start, rows] = this.part;
    const [unit, from] = [BIG / rows, start - this.first];
    context.imageSmoothingEnabled = false;
    context.drawImage(small, from, from, rows, rows, 0, 0, BIG, BIG);
    context.font = `${Math.min(26, unit)}px monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = "white";
    // Above the diagonal nothing is seen, so there is room for the letters themselves.
    for (let k = 0; k + 1 < rows; k++) {
      context.fillText(seen(this.state.text[start + k]), (k + 1.5) * unit, (k + 0.5) * unit);
    }
    context.strokeStyle = colour(this.map, "--playground-frame");
    context.lineWidth = 4;
    context.strokeRect(2, (this.at - start) * unit + 2, BIG - 4, unit - 4);
  }

  tell(first = "") {
    const { text } = this.state;
    const own = this.shown.own;
    const id = own.indexOf(Math.max(...own));
    const last = text.length - 1 === this.at ? "Next" : "There";
    const guess = `${last} the model expects ${spoken(this.model.alphabet[id])}, ${percent(own[id])}.`;
    this.say(`${first} ${guess}`.trim());
  }

  /** Puts the link into the address bar, and on the clipboard where that is allowed. */
  async copy() {
    history.replaceState(null, "", this.link);
    try {
      await navigator.clipboard.writeText(this.link);
      this.say("The link is on the clipboard and in the address bar.");
    } catch {
      this.say("The link is in the address bar.");
    }
  }
}

function paintMap(context, weights, rows) {
  const image = new ImageData(rows, rows);
  for (let q = 0; q < rows; q++) {
    for (let k = 0; k < rows; k++) {
      const level = k <= q ? Math.round(255 * weights[q][k]) : 0;
      image.data.set([...TABLE[between(level, 0, 255)], 255], 4 * (q * rows + k));
    }
  }
  context.putImageData(image, 0, 0);
}
