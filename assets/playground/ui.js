// Small parts of which the demos are made: native controls, pictures, spoken status.

const SVG = "http://www.w3.org/2000/svg";
let count = 0;

/** Makes an element with attributes and children (elements or strings). */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a part of an SVG picture. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A labelled control in a paragraph; `input` is the control. */
function labelled(label, input, ...after) {
  input.id = `playground-${(count += 1)}`;
  const kind = `playground-field${after.length ? " playground-range" : ""}`;
  const field = el("p", { class: kind }, el("label", { for: input.id }, label), input, ...after);
  return { field, input };
}

/** A range with its value beside it.  `show` turns the number into text. */
export function slider({ label, min, max, step, value, show = String, change }) {
  const output = el("output", { "aria-live": "off" }, show(value));
  const input = el("input", { type: "range", min, max, step, "aria-valuetext": show(value) });
  const tell = () => {
    output.textContent = show(input.valueAsNumber);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.value = value;
  input.addEventListener("input", () => {
    tell();
    change(input.valueAsNumber);
  });
  const set = (v) => {
    input.value = v;
    tell();
  };
  return { ...labelled(label, input, output), set };
}

/** A drop-down list; `options` are pairs of value and text. */
export function select({ label, options, value, change }) {
  const items = options.map(([v, text]) => el("option", { value: v }, text));
  const input = el("select", { onchange: () => change(input.value) }, ...items);
  const set = (v) => {
    input.value = String(v);
  };
  set(value);
  return { ...labelled(label, input), set };
}

export function button(text, press, attributes = {}) {
  return el("button", { type: "button", onclick: press, ...attributes }, text);
}

/** A line that screen readers speak, at most once in `pause` milliseconds. */
export function status(pause = 700) {
  const line = el("p", { class: "playground-status", role: "status", "aria-live": "polite" });
  let timer = 0;
  const say = (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      line.textContent = text;
    }, pause);
  };
  return { line, say };
}

/** A canvas that is a picture to screen readers; CSS sets its size on the page. */
export function picture(width, height, label, className = "playground-pixels") {
  return el("canvas", { width, height, role: "img", "aria-label": label, class: className });
}

/** Draws grey levels at a place of a canvas, pixel by pixel. */
export function paint(canvas, grey, width, x = 0, y = 0) {
  const image = new ImageData(width, grey.length / width);
  grey.forEach((v, i) => image.data.set([v, v, v, 255], 4 * i));
  canvas.getContext("2d").putImageData(image, x, y);
}

/** The upper left corner of picture `k` on a sheet with gaps of two pixels. */
export function cell(k, columns, size) {
  return [(k % columns) * (size + 2), Math.floor(k / columns) * (size + 2)];
}

/** Where a pointer is on an element, from 0 to 1 in both directions. */
export function place(event, element) {
  const box = element.getBoundingClientRect();
  const clip = (v) => Math.min(1, Math.max(0, v));
  return [
    clip((event.clientX - box.left) / box.width),
    clip((event.clientY - box.top) / box.height),
  ];
}

/** Calls `move` with the place of a pressed pointer, and `end` when it is let go. */
export function drag(element, move, end = () => {}) {
  let active = false;
  const follow = (event) => {
    if (active) move(...place(event, element));
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    active = true;
    element.setPointerCapture(event.pointerId);
    follow(event);
  });
  element.addEventListener("pointermove", follow);
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, () => {
      if (active) {
        active = false;
        end();
      }
    });
  }
}

/** Whether the reader has asked for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The value of a colour variable of the theme. */
export function colour(element, name) {
  return getComputedStyle(element).getPropertyValue(name).trim() || "gray";
}
