// A formula that is wider than its place scrolls; the keyboard must be able to reach it.
function makeWideFormulasReachable() {
  for (const box of document.querySelectorAll("div.math")) {
    if (box.scrollWidth > box.clientWidth) {
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
