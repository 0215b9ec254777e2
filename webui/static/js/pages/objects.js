// The list of objects: what is selected, and following the store. Rows and dialogs come from the console.
import { between, itemOf, jsonOf, wordsOf } from "../selecting.js";
import { ask } from "../shared.js";

/** @typedef {{ ajax: (verb: string, path: string, options: object) => Promise<void> }} Htmx */

const PAUSE_MS = 300; // between two looks at the store
const CROSSING_MS = 2000; // what was asked for before a reading may come so long after it
const SHOWN_MAX = 1000; // rows that are read again at once

/** What is selected, and how the page shows it. */
class Selected {
  /** @param {HTMLElement} main */
  constructor(main) {
    this.main = main;
    /** @type {Map<string, import("../selecting.js").Item>} by the value of the checkbox */
    this.items = new Map();
    this.isAllThatMatch = false;
    /** @type {HTMLInputElement | null} */
    this.last = null;
    /** What the console says that the selection comes to; only it knows what is in folders. */
    this.sum = { json: "", words: "" };
    /** @type {number | undefined} */
    this.timer = undefined;
  }

  /** Ask what is in the folders that are selected. @param {string} json */
  askForSum(json) {
    if (json === this.sum.json) return;
    this.sum = { json, words: "" };
    clearTimeout(this.timer);
    const bucket = this.main.querySelector("#objects")?.getAttribute("data-bucket") ?? "";
    this.timer = window.setTimeout(() => {
      ask(`/buckets/${encodeURIComponent(bucket)}/selection/sum`, { body: new URLSearchParams({ selection: json }) }).then(({ words }) => {
        if (this.sum.json !== json) return;
        this.sum.words = words;
        this.show();
      }, () => undefined); // it stays untold
    }, PAUSE_MS);
  }

  get list() {
    return this.main.querySelector("#list");
  }

  /** @returns {HTMLInputElement[]} */
  boxes() {
    return [...this.main.querySelectorAll("#rows input[name=item]")].filter((box) => box instanceof HTMLInputElement);
  }

  get hasMore() {
    return this.main.querySelector("#more") !== null;
  }

  clear() {
    this.items.clear();
    this.isAllThatMatch = false;
    this.show();
  }

  /** @param {HTMLInputElement} box @param {boolean} isOn */
  set(box, isOn) {
    if (isOn) this.items.set(box.value, itemOf(box.value));
    else this.items.delete(box.value);
    if (!isOn) this.isAllThatMatch = false;
  }

  /** A box was clicked; with shift: also those since the last one. @param {HTMLInputElement} box @param {boolean} isRange */
  toggle(box, isRange) {
    const range = isRange ? between(this.boxes(), this.last, box) : [box];
    for (const one of range) this.set(one, box.checked);
    this.last = box;
    this.show();
  }

  /** @param {boolean} isOn */
  toggleShown(isOn) {
    for (const box of this.boxes()) this.set(box, isOn);
    if (!isOn) this.clear();
    this.show();
  }

  /** What was clicked while this page's script was still on its way counts, too. */
  takeUp() {
    const all = this.main.querySelector("#select-shown");
    if (all instanceof HTMLInputElement && all.checked) this.toggleShown(true);
    for (const box of this.boxes()) if (box.checked) this.set(box, true);
    this.show();
  }

  /** Forget what is not there any more, if all that is there is shown. */
  forgetGone() {
    if (this.hasMore) return;
    const values = new Set(this.boxes().map((box) => box.value));
    for (const value of this.items.keys()) if (!values.has(value)) this.items.delete(value);
  }

  /** @returns {string} for the form; see selection.py */
  toJson() {
    if (this.isAllThatMatch) return JSON.stringify({ query: JSON.parse(this.list?.getAttribute("data-query") ?? "{}") });
    return jsonOf([...this.items.values()]);
  }

  words() {
    const items = [...this.items.values()];
    if (this.isAllThatMatch || items.some((item) => item.kind === "p")) {
      this.askForSum(this.toJson());
      if (this.sum.words !== "") return `${this.sum.words} selected`;
      if (this.isAllThatMatch) return "All that match selected";
    }
    return `${wordsOf(items)} selected`;
  }

  show() {
    const boxes = this.boxes();
    for (const box of boxes) {
      if (this.isAllThatMatch && !this.items.has(box.value)) this.items.set(box.value, itemOf(box.value));
      box.checked = this.items.has(box.value);
      box.closest("tr")?.classList.toggle("selected", box.checked);
    }
    const count = this.items.size;
    this.list?.classList.toggle("has-selection", count > 0);
    const shown = this.main.querySelector("#selected-count");
    const words = count > 0 ? this.words() : "";
    if (shown !== null && shown.textContent !== words) shown.textContent = words;
    const all = this.main.querySelector("#select-shown");
    if (all instanceof HTMLInputElement) {
      const checked = boxes.filter((box) => box.checked).length;
      all.checked = boxes.length > 0 && checked === boxes.length;
      all.indeterminate = checked > 0 && checked < boxes.length;
      const matching = this.main.querySelector("#select-matching");
      if (matching instanceof HTMLElement) matching.hidden = !(all.checked && this.hasMore && !this.isAllThatMatch);
    }
    const items = [...this.items.values()];
    for (const button of this.main.querySelectorAll(".only-one")) button.toggleAttribute("hidden", count !== 1 || this.isAllThatMatch);
    for (const button of this.main.querySelectorAll(".only-objects")) {
      button.toggleAttribute("hidden", this.isAllThatMatch || count > 100 || items.some((item) => item.kind === "p"));
    }
    const field = this.main.querySelector("#selection input[name=selection]");
    if (field instanceof HTMLInputElement) field.value = count > 0 ? this.toJson() : "";
  }
}

/** Reads the list again when something has changed, not more often than it can. */
class Follower {
  /** @param {HTMLElement} main @param {() => void} onFresh */
  constructor(main, onFresh) {
    this.main = main;
    this.onFresh = onFresh;
    this.isReading = false;
    this.isStale = false;
    this.isOver = false;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.pauseMs = PAUSE_MS;
    this.readAt = 0;
    this.count = 0; // of rows when the reading began
  }

  get shownCount() {
    return this.main.querySelectorAll("#rows > tr[data-kind]").length;
  }

  /** Something came; what crossed a reading is read again. @param {CustomEvent} event */
  comes(event) {
    const { target, sourceElement } = event.detail.ctx;
    if (!(target instanceof Element)) return;
    const isOurs = sourceElement?.id === "list" && target.id === "rows";
    if (isOurs && this.isReading && this.shownCount !== this.count) {
      event.preventDefault();
      this.isStale = true;
    } else if (target.id === "more" && (this.isReading || performance.now() - this.readAt < CROSSING_MS)) this.changed();
  }

  changed() {
    this.isStale = true;
    if (this.isReading || this.timer !== undefined) return;
    const waitMs = Math.max(0, this.readAt + this.pauseMs - performance.now());
    this.timer = window.setTimeout(() => void this.read(), waitMs);
  }

  async read() {
    this.timer = undefined;
    const list = this.main.querySelector("#list");
    if (this.isOver || !(list instanceof HTMLElement) || list.dataset.still !== undefined) return;
    if (!list.isConnected) return; // another page has come, and the event that ends this one is yet to
    if (document.hidden) return; // again when somebody looks
    if (this.main.querySelector("#more[hx-trigger=load]") !== null) {
      this.timer = window.setTimeout(() => void this.read(), PAUSE_MS); // a search is going on
      return;
    }
    const began = performance.now();
    this.isReading = true;
    this.isStale = false;
    try {
      await this.fetch(list);
    } finally {
      this.isReading = false;
      this.readAt = performance.now();
      this.pauseMs = Math.max(PAUSE_MS, 5 * (this.readAt - began));
    }
    if (this.isOver) return;
    this.onFresh();
    if (this.isStale) this.changed();
  }

  /** @param {HTMLElement} list */
  async fetch(list) {
    const htmx = /** @type {{ htmx?: Htmx }} */ (/** @type {unknown} */ (window)).htmx;
    const count = (this.count = this.shownCount);
    if (count === 0) {
      await htmx?.ajax("GET", location.pathname + location.search, { source: list, target: "#list", select: "#list", swap: "outerMorph", push: "false" });
      return;
    }
    if (count > SHOWN_MAX) {
      this.main.querySelector("#changed")?.removeAttribute("hidden");
      return;
    }
    const path = `${list.dataset.rows}${list.dataset.rows?.includes("?") ? "&" : "?"}shown=${Math.max(count, 100)}`;
    await htmx?.ajax("GET", path, { source: list, target: "#rows", select: "", swap: "innerMorph", push: "false" });
    if (list.querySelector("#rows > tr[data-kind]") === null) this.changed();
  }

  end() {
    this.isOver = true;
    clearTimeout(this.timer);
  }
}

/** @param {HTMLElement} main */
export function mount(main) {
  const controller = new AbortController();
  const { signal } = controller;
  const selected = new Selected(main);
  const follower = new Follower(main, () => selected.forgetGone());

  main.addEventListener("click", (event) => {
    const target = event.target;
    if (target instanceof HTMLInputElement && target.name === "item") selected.toggle(target, event.shiftKey);
    if (target instanceof HTMLInputElement && target.id === "select-shown") selected.toggleShown(target.checked);
    if (target instanceof Element && target.closest("#select-matching") !== null) {
      selected.isAllThatMatch = true;
      selected.show();
    }
  }, { signal });
  main.addEventListener("live", (event) => {
    const { detail } = /** @type {CustomEvent} */ (event);
    if (detail.gone === true) location.reload();
    else follower.changed();
  }, { signal, capture: true }); // it does not bubble
  document.addEventListener("htmx:after:swap", () => selected.show(), { signal });
  document.addEventListener("htmx:before:swap", (event) => follower.comes(/** @type {CustomEvent} */ (event)), { signal });
  document.addEventListener("done", () => selected.clear(), { signal });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && follower.isStale) follower.changed();
  }, { signal });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.querySelector("dialog[open]") === null && selected.items.size > 0) selected.clear();
  }, { signal });
  selected.takeUp();
  return () => {
    controller.abort();
    follower.end();
  };
}
