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

addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  makeWideFormulasReachable();
  addEventListener("resize", makeWideFormulasReachable);
});
