// Panel: the corner that shows uploads. It is built here, because it outlives pages.
import { formatSize, formatSpan, plural } from "../formats.js";
import { counted, headingOf } from "./counting.js";
import { Rate } from "./plan.js";

const ROWS_MAX = 40;
const BAR_MIN = 1024 * 1024; // smaller files are there before a bar could be seen
const DRAWN_MS = 200;
const ORDER = { asking: 0, failed: 1, finishing: 2, sending: 2, lost: 3, paused: 4, waiting: 5, stored: 6, skipped: 7, cancelled: 8 };
const WORDS = { waiting: "Waits", sending: "", finishing: "Almost done", stored: "Stored", failed: "", paused: "Paused", asking: "Exists already", skipped: "Skipped", cancelled: "Cancelled", lost: "Needs the file" };

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Partial<Record<string, string>>} [attributes] @param {...(Node | string)} inside
 * @returns {HTMLElementTagNameMap[T]}
 */
function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

/** @param {HTMLElement} element @param {string} text */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Element} element @param {boolean} isShown */
function show(element, isShown) {
  element.toggleAttribute("hidden", !isShown);
}

/** @param {string} text @param {() => void} act @param {string} [name] @returns {HTMLButtonElement} */
function button(text, act, name) {
  const made = make("button", { type: "button", class: "plain", ...(name === undefined ? {} : { "aria-label": name }) }, text);
  made.addEventListener("click", act);
  return made;
}

export class Panel {
  /**
   * @param {import("./queue.js").Queue} queue
   * @param {{ goOn: () => void, pick: (files: FileList) => void, close: () => void }} actions
   */
  constructor(queue, actions) {
    this.queue = queue;
    this.rate = new Rate();
    this.startedAt = 0;
    this.endedAt = 0;
    this.drawnAt = 0;
    this.said = "";
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {Map<import("./item.js").Item, Row>} */
    this.rows = new Map();
    /** @type {number | undefined} */
    this.again = undefined;
    this.heading = make("h2");
    this.speed = make("span", { class: "s soft num" });
    this.fold = button("Hide", () => this.foldOrNot());
    this.fold.setAttribute("aria-expanded", "true");
    this.close = button("Close", () => actions.close(), "Close the uploads");
    this.bar = make("progress", { "aria-label": "All uploads" });
    this.trouble = make("p", { class: "note warn", role: "status" });
    this.route = make("p", { class: "note warn" });
    this.list = make("ul");
    this.more = make("p", { class: "soft s" });
    this.question = make("div", { class: "question", role: "group", "aria-label": "Files that exist already" });
    this.questionWords = make("p");
    this.question.append(this.questionWords, make("p", { class: "choices" },
      button("Replace", () => queue.decide("replace")), button("Keep both", () => queue.decide("both")), button("Skip", () => queue.decide("skip"))));
    for (const choice of this.question.querySelectorAll("button")) choice.className = "";
    const field = make("input", { type: "file", multiple: "", "aria-label": "Choose the files again" });
    field.addEventListener("change", () => {
      if (field.files !== null) actions.pick(field.files);
      field.value = "";
    });
    this.goOn = button("Go on", actions.goOn);
    this.goOn.className = "main";
    this.lostWords = make("p");
    this.lost = make("div", { class: "question", role: "group", "aria-label": "Unfinished uploads" }, this.lostWords,
      make("p", { class: "choices" }, this.goOn, make("label", { class: "button chooser" }, make("span", { "aria-hidden": "true" }, "Choose the files again"), field),
        button("Forget them", () => queue.cancel(queue.items.filter((item) => item.state === "lost")))));
    this.pauseAll = button("Pause all", () => queue.items.forEach((item) => queue.pause(item)));
    this.resumeAll = button("Resume all", () => queue.items.filter((item) => item.state === "paused").forEach((item) => queue.resume(item)));
    this.retryAll = button("Retry all that failed", () => queue.items.filter((item) => item.state === "failed").forEach((item) => queue.resume(item)));
    this.cancelAll = button("Cancel all", () => queue.cancel(queue.items));
    this.tools = make("p", { class: "tools" }, this.pauseAll, this.resumeAll, this.retryAll, this.cancelAll);
    this.body = make("div", {}, this.bar, this.trouble, this.route, this.question, this.lost, this.list, this.more, this.tools);
    this.spoken = make("p", { class: "visually-hidden", role: "status" });
    this.element = make("section", { class: "sheet transfers", "aria-label": "Uploads" },
      make("div", { class: "head" }, this.heading, this.speed, make("span", { class: "ends" }, this.fold, this.close)), this.body, this.spoken);
  }

  foldOrNot() {
    this.body.hidden = !this.body.hidden;
    this.fold.textContent = this.body.hidden ? "Show" : "Hide";
    this.fold.setAttribute("aria-expanded", `${!this.body.hidden}`);
  }

  /** Draw soon; called as often as anything changes. */
  draw() {
    if (this.timer !== undefined) return;
    this.timer = window.setTimeout(() => {
      this.timer = undefined;
      this.drawNow();
    }, Math.max(0, this.drawnAt + DRAWN_MS - performance.now()));
  }

  drawNow() {
    this.drawnAt = performance.now();
    const items = this.queue.items;
    if (items.every((item) => item.state === "cancelled")) {
      this.element.remove();
      this.startedAt = this.endedAt = 0;
      return;
    }
    if (!this.element.isConnected) document.getElementById("panels")?.append(this.element);
    const count = counted(items);
    const now = Date.now();
    if (count.active > 0 && (this.startedAt === 0 || this.endedAt > 0)) {
      if (this.endedAt > 0 && count.over === items.length) this.startedAt = 0;
      this.startedAt ||= now;
      this.endedAt = 0;
    }
    if (count.active === 0 && this.startedAt > 0 && this.endedAt === 0) this.endedAt = now;
    if (count.active > 0) this.rate.note(now, count.sent);
    else this.rate.points = [];
    this.drawHead(count, items.length, now);
    this.drawRows(items);
    if (count.active > 0) this.again ??= window.setInterval(() => this.draw(), 1_000);
    else {
      clearInterval(this.again);
      this.again = undefined;
    }
  }

  /** @param {import("./counting.js").Count} count @param {number} total @param {number} now */
  drawHead(count, total, now) {
    const queue = this.queue;
    const heading = headingOf(count, total, (this.endedAt - this.startedAt) / 1000);
    write(this.heading, heading);
    const speed = this.rate.perSecond();
    const left = speed > 0 ? formatSpan((count.bytes - count.sent) / speed) : "";
    write(this.speed, count.active > 0 && speed > 0 ? `${formatSize(speed)}/s · ${left} left` : "");
    this.bar.max = Math.max(1, count.bytes);
    this.bar.value = count.bytes === 0 ? (count.active > 0 ? 0 : 1) : count.sent;
    show(this.bar, count.active + count.paused > 0);
    write(this.trouble, queue.isSignedOut ? "You are signed out: sign in again in another tab, then resume." : queue.trouble);
    show(this.trouble, this.trouble.textContent !== "");
    write(this.route, queue.routes.words);
    show(this.route, queue.routes.words !== "");
    write(this.questionWords, `${plural(count.asking, "file")} ${count.asking === 1 ? "exists" : "exist"} already.`);
    show(this.question, count.asking > 0);
    write(this.lostWords, `${plural(count.lost, "upload")} ${count.lost === 1 ? "was" : "were"} not finished when this page was left. Choose or drop the same files again, and they go on where they were.`);
    show(this.lost, count.lost > 0);
    show(this.goOn, queue.items.some((item) => item.state === "lost" && item.handle !== null));
    show(this.pauseAll, count.active > 0);
    show(this.resumeAll, count.paused > 0 || queue.isSignedOut);
    show(this.retryAll, count.failed > 1);
    show(this.cancelAll, count.active + count.paused + count.asking > 0);
    show(this.tools, [...this.tools.children].some((tool) => !tool.hasAttribute("hidden")));
    show(this.close, count.active === 0 && count.asking === 0);
    this.say(count.active > 0 ? `Uploading ${plural(total - count.lost, "file")}` : heading, count);
  }

  /** What a screen reader says: beginnings and ends, not each step. @param {string} text @param {import("./counting.js").Count} count */
  say(text, count) {
    const words = count.asking > 0 ? `${text}. ${this.questionWords.textContent}` : text;
    if (words === this.said) return;
    this.said = words;
    this.spoken.textContent = words;
  }

  /** @param {import("./item.js").Item[]} items */
  drawRows(items) {
    const shown = [...items].filter((item) => item.state !== "cancelled").sort((a, b) => ORDER[a.state] - ORDER[b.state]).slice(0, ROWS_MAX);
    const kept = new Set(shown);
    for (const [item, row] of this.rows) {
      if (kept.has(item)) continue;
      row.element.remove();
      this.rows.delete(item);
    }
    /** @type {Element | null} */
    let before = null;
    for (const item of shown) {
      let row = this.rows.get(item);
      if (row === undefined) this.rows.set(item, (row = new Row(item, this.queue)));
      row.draw();
      /** @type {Element | null} */
      const next = before === null ? this.list.firstElementChild : before.nextElementSibling;
      if (next !== row.element && !row.element.contains(document.activeElement)) this.list.insertBefore(row.element, next);
      else if (!row.element.isConnected) this.list.append(row.element);
      before = row.element;
    }
    const rest = items.filter((item) => item.state !== "cancelled").length - shown.length;
    write(this.more, rest > 0 ? `and ${plural(rest, "more file")}` : "");
    show(this.more, rest > 0);
  }
}

class Row {
  /** @param {import("./item.js").Item} item @param {import("./queue.js").Queue} queue */
  constructor(item, queue) {
    this.item = item;
    this.name = make("bdi", { class: "name", title: item.key }, item.path);
    this.state = make("span", { class: "soft s num" });
    this.words = make("p", { class: "s words" });
    this.bar = make("progress", { "aria-label": `Upload of ${item.path}` });
    this.pause = button("Pause", () => queue.pause(item), `Pause ${item.path}`);
    this.resume = button("Resume", () => queue.resume(item), `Resume ${item.path}`);
    this.retry = button("Retry", () => queue.resume(item), `Retry ${item.path}`);
    this.cancel = button("Cancel", () => queue.cancel([item]), `Cancel ${item.path}`);
    this.element = make("li", {}, this.name, this.state, make("span", { class: "ends" }, this.pause, this.resume, this.retry, this.cancel), this.bar, this.words);
  }

  draw() {
    const { item } = this;
    const percent = item.size === 0 ? 0 : Math.floor((100 * item.sent) / item.size);
    write(this.name, item.path);
    write(this.state, WORDS[item.state] || (item.state === "sending" ? (item.size >= BAR_MIN ? `${percent} % of ${formatSize(item.size)}` : formatSize(item.size)) : ""));
    write(this.words, item.words);
    show(this.words, item.words !== "" && (item.isActive || item.state === "failed"));
    this.words.classList.toggle("bad", item.state === "failed");
    this.bar.max = Math.max(1, item.size);
    this.bar.value = item.sent;
    show(this.bar, item.size >= BAR_MIN && ["sending", "finishing", "paused"].includes(item.state));
    show(this.pause, item.state === "sending" || item.state === "waiting");
    show(this.resume, item.state === "paused");
    show(this.retry, item.state === "failed");
    show(this.cancel, !item.isOver && item.state !== "finishing");
  }
}
