// The overview: figures that are replaced in place, and the plot of what they were.
import { followFeed } from "../feed.js";
import { add, PICTURES, RANGES, someRows, wordsAt } from "../figures.js";
import { Plot } from "../plot.js";
import { ask, ownHeaders } from "../shared.js";

const ROWS = 12; // of the table

class History {
  /** @param {HTMLElement} main @param {HTMLElement} place */
  constructor(main, place) {
    this.main = main;
    this.place = place;
    this.plot = new Plot(place);
    /** @type {import("../figures.js").Columns} */
    this.columns = { at: [] };
    this.turn = 0;
    for (const choice of this.choices()) choice.addEventListener("change", () => void this.load());
    place.addEventListener("plot-cursor", (event) => this.legend(/** @type {CustomEvent} */ (event).detail));
    main.querySelector(".as-table")?.addEventListener("toggle", () => this.table());
  }

  /** @returns {HTMLSelectElement[]} */
  choices() {
    return [...this.main.querySelectorAll("select[data-plot]")].filter((one) => one instanceof HTMLSelectElement);
  }

  /** @param {string} name @returns {string} */
  chosen(name) {
    return this.choices().find((one) => one.dataset.plot === name)?.value ?? "";
  }

  get picture() {
    return PICTURES[this.chosen("what")] ?? PICTURES.requests;
  }

  get range() {
    return RANGES[this.chosen("range")] ?? RANGES.hour;
  }

  async load() {
    const turn = ++this.turn;
    const columns = await ask(`/overview/history?range=${this.chosen("range")}`).catch(() => null);
    if (turn !== this.turn || columns === null) return;
    this.columns = columns;
    await this.show();
  }

  /** The newest figures, told by the store. @param {Record<string, number | null>} point */
  add(point) {
    if (add(this.columns, point, this.range)) void this.show();
  }

  async show() {
    const { picture, columns } = this;
    const drawn = [columns.at, ...picture.series.map((one) => columns[one.name] ?? [])];
    const newest = picture.series.map((one) => `${one.label} ${this.words(one.name, columns.at.length - 1)}`).join(", ");
    this.place.setAttribute("aria-label", `${this.main.querySelector("[data-plot=what] option:checked")?.textContent}, ${this.range.words}; now ${newest}`);
    this.legend(null);
    this.table();
    await this.plot.show(picture, drawn, this.range.seconds).catch(() => this.place.replaceChildren("The plot could not be loaded."));
  }

  /** @param {string} name @param {number} row @returns {string} */
  words(name, row) {
    return wordsAt(this.picture, this.columns, name, row);
  }

  /** What the lines mean, with the values under the pointer, or the newest. @param {number | null} row */
  legend(row) {
    const place = this.main.querySelector("[data-plot-legend]");
    if (place === null) return;
    const shown = row ?? this.columns.at.length - 1;
    const entries = this.picture.series.map((one, number) => {
      const entry = document.createElement("span");
      const mark = document.createElement("i");
      mark.className = `mark-${number + 1}`;
      entry.append(mark, `${one.label} `, Object.assign(document.createElement("b"), { className: "num", textContent: this.words(one.name, shown) }));
      return entry;
    });
    const at = this.columns.at[shown];
    const when = document.createElement("span");
    when.textContent = row === null || at === undefined || at === null ? this.range.words : new Date(at * 1000).toLocaleString();
    place.replaceChildren(...entries, when);
  }

  /** The same for people who do not see the plot: some rows of it, the newest first. */
  table() {
    const table = this.main.querySelector("[data-plot-table]");
    if (!(table instanceof HTMLTableElement) || !(table.closest("details")?.open ?? false)) return;
    const head = document.createElement("thead");
    const titles = head.insertRow();
    for (const title of ["Time", ...this.picture.series.map((one) => one.label)]) {
      titles.append(Object.assign(document.createElement("th"), { scope: "col", textContent: title }));
    }
    const body = document.createElement("tbody");
    for (const row of someRows(this.columns.at.length, ROWS)) {
      const line = body.insertRow();
      line.insertCell().textContent = new Date((this.columns.at[row] ?? 0) * 1000).toLocaleString();
      for (const one of this.picture.series) line.insertCell().textContent = this.words(one.name, row);
    }
    table.replaceChildren(head, body);
  }

  end() {
    this.turn += 1;
    this.plot.end();
  }
}

/** @param {HTMLElement} main @param {Record<string, string>} texts */
function replaceTexts(main, texts) {
  for (const element of main.querySelectorAll("[data-figure]")) {
    const text = texts[element.getAttribute("data-figure") ?? ""];
    if (text !== undefined && element.textContent !== text) element.textContent = text;
  }
}

/** Read again what a person reads first, without the plot. @param {HTMLElement} main @param {number} state */
async function renew(main, state) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html", ...ownHeaders() } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["standing", "concerns", "unchecked", "disks"]) {
    const fresh = page.getElementById(id);
    const old = main.querySelector(`#${id}`);
    if (fresh !== null && old !== null) old.replaceChildren(...fresh.childNodes);
  }
  document.title = page.title;
  const overview = document.getElementById("overview");
  if (overview !== null) overview.dataset.state = String(state);
  /** @type {any} */ (window).htmx?.process?.(main);
}

/** @param {HTMLElement} main */
function showUnreachable(main) {
  const pill = main.querySelector("#standing .pill");
  if (pill === null) return;
  pill.className = "pill bad";
  pill.textContent = "The store does not answer";
  const overview = document.getElementById("overview");
  if (overview !== null) overview.dataset.state = "away";
}

/** @param {HTMLElement} main */
export function mount(main) {
  const recent = main.querySelector("#recent");
  if (recent instanceof HTMLElement) followFeed(recent, { takes: (told) => told.colour !== "quiet" });
  const overview = main.querySelector("#overview");
  const place = main.querySelector("[data-plot-place]");
  if (!(overview instanceof HTMLElement) || !(place instanceof HTMLElement)) return;
  const history = new History(main, place);
  void history.load();
  overview.addEventListener("live", (event) => {
    const message = /** @type {CustomEvent} */ (event).detail;
    if (message.texts === undefined) return;
    replaceTexts(main, message.texts);
    history.add(message.point);
    if (overview.dataset.state !== String(message.state)) void renew(main, message.state);
  });
  overview.addEventListener("unreachable", () => showUnreachable(main));
  return () => history.end();
}
