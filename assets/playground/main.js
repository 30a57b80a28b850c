// Starts each demo of the page when it comes near the viewport.
import { el } from "./ui.js";

const KINDS = {
  latent: () => import("./latent.js"),
  generator: () => import("./generator.js"),
  "gan-lab": () => import("./gan-lab.js"),
  gpt: () => import("./gpt.js"),
  diffusion: () => import("./diffusion.js"),
  scores: () => import("./scores.js"),
};

async function start(figure) {
  try {
    const { start } = await KINDS[figure.dataset.kind]();
    const panel = el("div", { class: "playground-panel" });
    figure.playground = await start(panel, figure.dataset.model);
    figure.querySelector(".playground-still").replaceWith(panel);
    figure.dataset.state = "running";
  } catch (error) {
    figure.dataset.state = "failed";
    const text = `The demo did not start, so its still picture stays here. ${error.message}`;
    figure.append(el("p", { role: "alert" }, text));
  }
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      start(target);
    }
  },
  { rootMargin: "300px" },
);
document
  .querySelectorAll('.playground[data-kind]:not([data-kind="film"])')
  .forEach((figure) => watcher.observe(figure));
