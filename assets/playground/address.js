// The state of a demo in the address of its page, so that a link restores it.
import { button, el } from "./ui.js";

/**
 * The settings that an address holds; what it does not name is not in them.
 * @param {string} search The query of an address.
 * @param {object} names Maps a setting to its name in the address.
 * @param {object} defaults The settings at the start; those that are numbers stay numbers.
 */
export function fromAddress(search, names, defaults) {
  const found = new URLSearchParams(search);
  const state = {};
  for (const [name, key] of Object.entries(names)) {
    const value = found.get(key);
    if (value === null) continue;
    if (typeof defaults[name] === "string") state[name] = value;
    else if (value.trim() !== "" && Number.isFinite(Number(value))) state[name] = Number(value);
  }
  return state;
}

/** The address that restores a state; what is as at the start is not said. */
export function toAddress(state, names, defaults) {
  const query = new URLSearchParams();
  for (const [name, key] of Object.entries(names)) {
    if (state[name] !== defaults[name]) query.set(key, state[name]);
  }
  const words = String(query);
  return `${location.origin}${location.pathname}${words && `?${words}`}`;
}

/** A link and a button that copies it; `say` tells what has become of it. */
export function makeLink(say) {
  const anchor = el("a", { class: "playground-link" }, "Link to this state");
  const copy = async () => {
    history.replaceState(null, "", anchor.href);
    try {
      await navigator.clipboard.writeText(anchor.href);
      say("The link is on the clipboard and in the address bar.");
    } catch {
      say("The link is in the address bar.");
    }
  };
  const row = el("p", { class: "playground-buttons" }, anchor, button("Copy the link", copy));
  return { anchor, row };
}
