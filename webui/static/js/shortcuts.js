// Keyboard shortcuts: "?" help, "/" search, "g" and a letter for a page. Off while somebody types, and on /help for good.
import { meaningOf } from "./keys.js";
import { root } from "./shared.js";

const KEPT = "warehouse-shortcuts";

/** @returns {boolean} */
export function areShortcutsOn() {
  try {
    return localStorage.getItem(KEPT) !== "off";
  } catch {
    return true; // the browser keeps nothing
  }
}

/** @param {boolean} isOn */
export function switchShortcuts(isOn) {
  try {
    if (isOn) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, "off");
  } catch {
    // nothing to keep it in
  }
}

/** @param {EventTarget | null} target @returns {boolean} */
function isTyping(target) {
  if (document.querySelector("dialog[open]") !== null) return true;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "submit"].includes(target.type);
  return target.isContentEditable || target.closest("textarea, select") !== null;
}

/** Go by a link of the page where there is one, so that panels and the WebSocket stay. @param {string} path @param {boolean} isAlways */
function go(path, isAlways) {
  const links = [...document.querySelectorAll("nav[aria-label=Main] a")];
  const link = links.find((one) => one.getAttribute("href") === root() + path);
  if (link instanceof HTMLElement) link.click();
  else if (isAlways) location.assign(root() + path);
}

/** @returns {boolean} whether there was one */
function search() {
  for (const field of document.querySelectorAll("main input[type=search]")) {
    if (field instanceof HTMLInputElement && field.offsetParent !== null) {
      field.focus();
      field.select();
      return true;
    }
  }
  return false;
}

export function mountShortcuts() {
  let wasG = Number.NEGATIVE_INFINITY; // when, in ms
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isTyping(event.target) || !document.body.dataset.key || !areShortcutsOn()) return;
    const meaning = meaningOf(event.key, event.timeStamp - wasG);
    wasG = meaning?.does === "begin" ? event.timeStamp : Number.NEGATIVE_INFINITY;
    if (meaning === null || (meaning.does === "search" && !search())) return;
    if (meaning.does === "go" || meaning.does === "help") go(meaning.path, meaning.does === "help");
    event.preventDefault();
  });
}
