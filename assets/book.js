// What the pages do beyond their text: figures open large, formulas are copied as TeX,
// long outputs fold.  Without this script everything is there, unfolded.

const LONG_OUTPUT = 24; // lines; a longer output is folded
const COPIED = 1600; // milliseconds that a button says so
const FIGURES = ".bd-article :is(figure, .cell_output, p) img:not(.sd-card *, .playground *)";

/** Makes an element with attributes and children (elements or strings). */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A formula that is wider than its place scrolls; the keyboard must be able to reach it.
function makeWideFormulasReachable() {
  for (const box of document.querySelectorAll("div.math, div.math mjx-container")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) {
      box.tabIndex = 0;
    } else {
      box.removeAttribute("tabindex");
    }
  }
}

// Figures that open large

/** The one dialog of the page.  The focus comes back by itself when it closes. */
function makeDialog() {
  const image = make("img", { alt: "" });
  const room = make("div", { class: "figure-room", tabindex: "0", role: "group" }, image);
  const close = make("button", { type: "button", class: "figure-close" }, "Close");
  const caption = make("p", { class: "figure-words" });
  const dialog = make("dialog", { class: "figure-dialog" }, close, room, caption);
  dialog.setAttribute("aria-label", "Figure, enlarged");
  room.setAttribute("aria-label", "The figure; it scrolls if it is larger than the screen");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside the figure
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") dialog.close(); // wherever the focus is
  });
  document.body.append(dialog);
  return { dialog, image, caption, close };
}

function makeFiguresOpen() {
  let parts = null;
  const open = (figure) => {
    parts ??= makeDialog();
    const words = figure.closest("figure")?.querySelector(".caption-text")?.textContent ?? "";
    Object.assign(parts.image, { src: figure.currentSrc || figure.src, alt: figure.alt });
    parts.caption.textContent = words.trim();
    parts.dialog.showModal();
    parts.close.focus();
  };
  for (const figure of document.querySelectorAll(FIGURES)) {
    const link = figure.closest("a");
    if (link && !link.classList.contains("image-reference")) continue; // it leads elsewhere
    figure.classList.add("opens");
    if (link) {
      link.setAttribute("aria-haspopup", "dialog");
      link.addEventListener("click", (event) => {
        event.preventDefault();
        open(figure);
      });
      continue;
    }
    const button = make("button", { type: "button", class: "figure-open" }, "Enlarge");
    button.setAttribute("aria-haspopup", "dialog");
    button.setAttribute("aria-label", `Enlarge: ${figure.alt}`);
    const frame = make("span", { class: "figure-frame" });
    // A drawing has no width of its own: in a frame that shrinks it would vanish.
    if (figure.src.endsWith(".svg")) frame.classList.add("drawing");
    figure.replaceWith(frame);
    frame.append(figure, button);
    button.addEventListener("click", () => open(figure));
    figure.addEventListener("click", () => {
      button.focus(); // where the focus comes back to
      open(figure);
    });
  }
}

// Formulas that are copied as TeX

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = make("textarea", { "aria-hidden": "true", class: "visually-hidden" });
    const before = document.activeElement;
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand("copy"); // a page without https
    box.remove();
    before?.focus();
  }
}

/** Gives each displayed formula a button; the TeX is what MathJax was given. */
function makeFormulasCopy() {
  const said = make("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });
  document.body.append(said);
  for (const item of window.MathJax?.startup?.document?.math ?? []) {
    const box = item.display && item.typesetRoot?.closest("div.math");
    if (!box || box.parentElement.classList.contains("formula")) continue;
    const number = /\\tag\{([^}]*)\}/.exec(item.math)?.[1];
    const name = `Copy formula ${number ? `(${number}) ` : ""}as TeX`;
    const button = make("button", { type: "button", class: "copy-tex", "aria-label": name }, "TeX");
    button.addEventListener("click", async () => {
      await copy(item.math.trim());
      button.textContent = "Copied";
      said.textContent = "Copied as TeX";
      setTimeout(() => {
        button.textContent = "TeX";
        said.textContent = "";
      }, COPIED);
    });
    const frame = make("div", { class: "formula" });
    box.replaceWith(frame);
    frame.append(button, box);
  }
}

// Long outputs, and paper

function foldLongOutputs() {
  for (const output of document.querySelectorAll(".cell_output .output:not(details *)")) {
    const text = output.querySelector("pre")?.textContent ?? "";
    const lines = text.trimEnd().split("\n").length;
    if (lines <= LONG_OUTPUT) continue;
    const summary = make("summary", {}, `Output of ${lines} lines`);
    const details = make("details", { class: "long-output" }, summary);
    output.replaceWith(details);
    details.append(output);
  }
}

/** On paper nothing is folded; afterwards all is as it was. */
function unfoldForPrint() {
  let opened = [];
  const unfold = () => {
    if (opened.length) return;
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  };
  const fold = () => {
    for (const details of opened) details.open = false;
    opened = [];
  };
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", fold);
  matchMedia("print").addEventListener("change", ({ matches }) => (matches ? unfold() : fold()));
}

makeFiguresOpen();
foldLongOutputs();
unfoldForPrint();

addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  makeFormulasCopy();
  await document.fonts.ready;
  makeWideFormulasReachable();
  addEventListener("resize", makeWideFormulasReachable);
});
