// A film: one noise, drawn by the generator at more and more steps of its training; or,
// where the figure has a label, on its way from noise to data.
// A classic script, unlike the demos beside it, so that it also runs from a disk.

(() => {
  const FRAME = 380; // milliseconds; twelve frames end within five seconds
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  /** Makes an element with attributes and children (elements or strings). */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function start(figure, number) {
    const steps = figure.dataset.steps.split(" ").map(Number);
    const last = steps.length - 1;
    const { label } = figure.dataset;
    const pause = Math.min(FRAME, 5000 / steps.length);
    const still = figure.querySelector(".playground-still");
    const frame = still.querySelector("img");
    const words = frame.alt;
    const id = `film-${number}`;
    const control = make("input", { type: "range", id, min: 0, max: last, step: 1 });
    const output = make("output", { "aria-live": "off" });
    let timer = 0;

    function show(k) {
      const count = steps[k].toLocaleString("en");
      frame.style.objectPosition = `0 ${(100 * k) / last}%`;
      const moment = label ? `${label} ${count} of ${steps[last]}` : `after ${count} steps`;
      frame.alt = k === last ? words : `What the network draws ${moment}.`;
      control.value = k;
      control.setAttribute("aria-valuetext", count);
      output.textContent = count;
    }

    function stop() {
      clearInterval(timer);
    }

    function play() {
      stop();
      let k = 0;
      show(k);
      timer = setInterval(() => {
        k += 1;
        show(k);
        if (k === last) stop();
      }, pause);
    }

    control.addEventListener("input", () => {
      stop();
      show(control.valueAsNumber);
    });
    const name = make("label", { for: id }, label ?? "Steps of training");
    const field = make("p", { class: "playground-field playground-range" }, name, control, output);
    const panel = make("div", { class: "playground-panel playground-cinema" }, frame, field);
    if (!calm()) {
      const again = make("button", { type: "button" }, label ? "Play" : "Play again");
      const halt = make("button", { type: "button" }, "Stop");
      again.addEventListener("click", play);
      halt.addEventListener("click", stop);
      panel.append(make("p", { class: "playground-buttons" }, again, halt));
    }
    still.replaceWith(panel);
    show(last);
    figure.dataset.state = "running";
    if (!calm() && !label) play(); // the home page's alone plays by itself
  }

  document.querySelectorAll('.playground[data-kind="film"]').forEach(start);
})();
