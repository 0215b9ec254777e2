// A feed of events: lines that come with the page, and new ones on top. Names are text, whatever they say.
import { root } from "./shared.js";
import { mountClocks } from "./clocks.js";

/** @typedef {{ sequence: number, at_ms: number, name: string, groups: string, colour: string, pieces: [string, string][] }} Told */

/** @param {Told} told @returns {HTMLLIElement} */
function line(told) {
  const item = document.createElement("li");
  item.dataset.sequence = String(told.sequence);
  item.dataset.groups = told.groups;
  const at = document.createElement("span");
  at.className = "soft";
  const time = document.createElement("time");
  time.dateTime = new Date(told.at_ms).toISOString();
  at.append(time);
  const words = document.createElement("span");
  words.className = told.colour ? `wrap ink-${told.colour}` : "wrap";
  for (const [text, path] of told.pieces) {
    if (path === "") words.append(text);
    else {
      const link = document.createElement("a");
      link.href = root() + path;
      link.textContent = text;
      words.append(link);
    }
  }
  item.append(at, words);
  mountClocks(item);
  return item;
}

/**
 * Follow events into a list with data-feed="LINES".
 * @param {HTMLElement} list
 * @param {{ takes?: (told: Told) => boolean, onNew?: (item: HTMLLIElement) => void }} [options]
 */
export function followFeed(list, options = {}) {
  const most = Number(list.dataset.feed ?? "100");
  list.addEventListener("live", (event) => {
    const told = /** @type {CustomEvent} */ (event).detail.event;
    if (told === undefined || !(options.takes?.(told) ?? true)) return;
    if (told.sequence !== 0 && list.querySelector(`[data-sequence="${Number(told.sequence)}"]`) !== null) return;
    const item = line(told);
    list.querySelector("li:not([data-sequence])")?.remove(); // "nothing has happened"
    list.prepend(item);
    options.onNew?.(item);
    while (list.childElementCount > most) list.lastElementChild?.remove();
    const link = /** @type {any} */ (window).htmx;
    link?.process?.(item);
  });
}
