// A guided tour of a demo: steps that explain, and move the controls.
import { button, el } from "./ui.js";

/**
 * Makes the box of a tour.
 * @param {{title: string, text: string}[]} steps
 * @param {function(object): void} enter Puts the demo into the state of a step.
 * @returns {{box: HTMLElement, go: function(number): void}}
 */
export function makeTour(steps, enter) {
  let at = -1;
  const guide = el("div", { class: "playground-guide", role: "status", "aria-live": "polite" });
  const next = button("Take the tour", () => go(at + 1));
  const back = button("Back", () => go(at - 1), { hidden: true });
  const end = button("End the tour", () => go(-1), { hidden: true });
  const row = el("p", { class: "playground-buttons" }, next, back, end);
  const name = { class: "playground-whole playground-tour", role: "group" };
  const box = el("div", { ...name, "aria-label": "Guided tour" }, guide, row);

  /** Goes to a step, from 0 on; past its ends, out of the tour. */
  function go(step) {
    at = step >= 0 && step < steps.length ? step : -1;
    const on = at >= 0;
    back.hidden = at < 1;
    end.hidden = !on;
    if (document.activeElement === document.body || (back.hidden && step < 1)) next.focus();
    next.textContent = on ? (at === steps.length - 1 ? "Finish" : "Next step") : "Take the tour";
    guide.replaceChildren();
    if (!on) {
      next.focus();
      return;
    }
    const { title, text } = steps[at];
    enter(steps[at]);
    guide.append(
      el("strong", {}, `Step ${at + 1} of ${steps.length}: ${title}`),
      el("p", {}, text),
    );
  }

  return { box, go };
}
