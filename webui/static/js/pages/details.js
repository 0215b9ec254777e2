// The page of an object: what the browser loads itself, and words where it cannot.
import { ownHeaders, root } from "../shared.js";

/** @typedef {(place: HTMLElement, source: string, size: number, signal: AbortSignal) => Promise<void>} Draw */

/** @type {Record<string, () => Promise<{ draw: Draw }>>} */
const DRAWERS = {
  parquet: () => import("../drawing/parquet.js"),
  pdf: () => import("../drawing/pdf.js"),
};

/**
 * Say why something cannot be shown: the console reads the object, and finds out.
 * @param {Element} place @param {string} words what the browser says
 */
async function explain(place, words) {
  const note = document.createElement("p");
  note.className = "note warn";
  note.setAttribute("role", "status");
  note.textContent = words;
  place.replaceChildren(note);
  const path = place.closest("[data-check]")?.getAttribute("data-check");
  if (!path) return;
  const answer = await fetch(path, { headers: ownHeaders() });
  if (!answer.ok) return;
  const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".note");
  if (found !== null) place.replaceChildren(found);
}

/** @param {HTMLElement} main */
export function mount(main) {
  const controller = new AbortController();
  const { signal } = controller;
  /** @type {AbortController | null} */
  let drawing = null;

  function look() {
    for (const shown of main.querySelectorAll("[data-shows]")) {
      if (shown instanceof HTMLImageElement && shown.complete && shown.naturalWidth === 0) fail(shown);
      if (shown instanceof HTMLMediaElement && shown.error !== null) fail(shown);
    }
    for (const place of main.querySelectorAll("[data-draws]:not([data-begun])")) {
      if (place instanceof HTMLElement) void draw(place);
    }
  }

  /** @param {Element} shown */
  function fail(shown) {
    const place = shown.closest(".shown");
    if (place !== null) void explain(place, "Your browser cannot show this. Looking why…");
  }

  /** @param {HTMLElement} place */
  async function draw(place) {
    place.dataset.begun = "yes";
    drawing?.abort();
    drawing = new AbortController();
    try {
      const { draw } = await DRAWERS[place.dataset.draws ?? ""]();
      await draw(place, place.dataset.source ?? "", Number(place.dataset.size), drawing.signal);
      place.removeAttribute("aria-busy");
    } catch (error) {
      if (drawing.signal.aborted || !place.isConnected) return;
      await explain(place, `This cannot be shown: ${error instanceof Error ? error.message : error}`);
    }
  }

  main.addEventListener("error", (event) => {
    if (event.target instanceof Element && event.target.matches("[data-shows]")) fail(event.target);
  }, { signal, capture: true }); // it does not bubble
  main.addEventListener("change", (event) => {
    if (event.target instanceof HTMLSelectElement && event.target.id === "view-as") event.target.form?.requestSubmit();
  }, { signal });
  document.addEventListener("htmx:after:swap", look, { signal });
  document.addEventListener("done", () => void leaveIfGone(main), { signal });
  look();
  return () => {
    controller.abort();
    drawing?.abort();
  };
}

/** After deleting or renaming: to the folder, which is what the page links to. @param {HTMLElement} main */
async function leaveIfGone(main) {
  const state = main.querySelector("#state");
  const path = state?.getAttribute("hx-get");
  if (!path) return;
  const answer = await fetch(path);
  const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#state");
  const folder = found?.querySelector("a")?.getAttribute("href");
  if (found?.getAttribute("data-became") === "deleted" && folder?.startsWith(`${root()}/`)) location.assign(folder);
}
