// Cards beside links: what a term means, what an equation says, which paper it is.
// Without this script the browser shows the link's title.

const LINKS = "a.card-term, a.card-equation, a.card-paper";
const WAIT = 250; // milliseconds of the pointer on a link before its card shows

const card = document.createElement("div");
Object.assign(card, { id: "link-card", className: "link-card", hidden: true });
card.setAttribute("role", "tooltip");

let timer = 0;
let shown = null;

/** What a card holds: the formula itself, if it stands on this page, or the title. */
function contents(link) {
  const target = link.hash && link.pathname === location.pathname && link.matches(".card-equation")
    ? document.getElementById(link.hash.slice(1))?.querySelector("mjx-container")
    : null;
  if (!target) return [link.dataset.card];
  const formula = target.cloneNode(true);
  formula.removeAttribute("tabindex");
  return [formula];
}

/** Puts the card below its link, or above it, inside the window. */
function place(link) {
  const box = link.getClientRects()[0];
  const { offsetWidth: width, offsetHeight: height } = card;
  const left = Math.min(box.left, document.documentElement.clientWidth - width - 8);
  const below = box.bottom + 6 + height < innerHeight;
  const top = below ? box.bottom + 6 : box.top - height - 6;
  card.style.left = `${Math.max(8, left) + scrollX}px`;
  card.style.top = `${Math.max(8, top) + scrollY}px`;
}

function show(link) {
  hide();
  shown = link;
  card.replaceChildren(...contents(link));
  card.hidden = false;
  link.setAttribute("aria-describedby", card.id);
  place(link);
}

function hide() {
  clearTimeout(timer);
  shown?.removeAttribute("aria-describedby");
  shown = null;
  card.hidden = true;
}

/** The title becomes the card's text, so that the browser does not show it a second time. */
function prepare(link) {
  link.dataset.card = link.title;
  link.removeAttribute("title");
  link.addEventListener("pointerenter", ({ pointerType }) => {
    if (pointerType === "touch") return; // a touch follows the link
    clearTimeout(timer);
    timer = setTimeout(() => show(link), WAIT);
  });
  link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
  link.addEventListener("blur", hide);
  link.addEventListener("pointerleave", () => {
    clearTimeout(timer);
    timer = setTimeout(() => card.matches(":hover") || hide(), WAIT); // one may read it
  });
}

const links = document.querySelectorAll(LINKS);
if (links.length) {
  document.body.append(card);
  for (const link of links) prepare(link);
  card.addEventListener("pointerleave", hide);
  addEventListener("keydown", ({ key }) => key === "Escape" && hide());
}
