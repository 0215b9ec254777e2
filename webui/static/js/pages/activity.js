// The feed of events: filtering while somebody types, pausing, and exports of what is shown.
import { followFeed } from "../feed.js";
import { root } from "../shared.js";
import { fits as matches } from "../sifting.js";

/** @param {HTMLElement} main */
export function mount(main) {
  const list = main.querySelector("#events");
  const form = main.querySelector("form[role=search]");
  const pause = main.querySelector("[data-pause]");
  if (!(list instanceof HTMLElement) || !(form instanceof HTMLFormElement) || !(pause instanceof HTMLButtonElement)) return;
  const find = /** @type {HTMLInputElement} */ (form.elements.namedItem("find"));
  const kind = /** @type {HTMLSelectElement} */ (form.elements.namedItem("kind"));
  const progress = /** @type {HTMLInputElement} */ (form.elements.namedItem("progress"));
  const waiting = main.querySelector("[data-waiting]");
  /** @type {HTMLElement[]} that came during a pause */
  let held = [];
  let isPaused = false;
  pause.hidden = false;

  /** @param {Element} item @returns {boolean} */
  function fits(item) {
    const line = { groups: item.getAttribute("data-groups") ?? "", isProgress: item.querySelector(".ink-quiet") !== null, text: item.textContent ?? "" };
    return matches(line, { kind: kind.value, find: find.value, hasProgress: progress.checked });
  }

  /** @param {Element} item */
  function show(item) {
    if (item instanceof HTMLElement && item.dataset.sequence !== undefined) item.hidden = !fits(item) || held.includes(item);
  }

  function tell() {
    if (waiting === null) return;
    const found = [...(list?.querySelectorAll("li[data-sequence]:not([hidden])") ?? [])].length;
    const count = held.filter(fits).length;
    waiting.textContent = isPaused ? `Paused, ${count} new` : find.value || kind.value ? `${found} found` : "";
  }

  function sift() {
    for (const item of list?.children ?? []) show(item);
    const query = new URLSearchParams({ find: find.value.trim(), kind: kind.value });
    for (const link of main.querySelectorAll("a[data-export]")) {
      if (link instanceof HTMLAnchorElement) link.search = query.toString();
    }
    history.replaceState(history.state, "", query.get("find") || query.get("kind") ? `?${query}` : `${root()}/activity`);
    tell();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    sift();
  });
  form.addEventListener("input", sift);
  form.addEventListener("change", sift);
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    if (!isPaused) held = [];
    pause.textContent = isPaused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(isPaused));
    for (const item of list.children) show(item);
    tell();
  });
  followFeed(list, { onNew: (item) => {
    if (isPaused) held = [...held.filter((one) => one.isConnected), item]; // the list drops the oldest
    show(item);
    tell();
  } });
  for (const item of list.children) show(item);
}
