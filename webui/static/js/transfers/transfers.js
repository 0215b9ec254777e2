// Transfers: uploads of this tab. Loaded when the first file is chosen, or when some were not finished.
import { Item } from "./item.js";
import { Panel } from "./panel.js";
import { Queue } from "./queue.js";
import { answerOtherTabs, forget, otherTabs, remember, remembered } from "./remembered.js";

const ADDED_AT_ONCE = 200;

/** @type {Queue} */
const queue = new Queue(() => panel.draw());
const panel = new Panel(queue, { goOn, pick, close });
answerOtherTabs();

window.addEventListener("beforeunload", (event) => {
  if (queue.items.some((item) => item.isActive)) event.preventDefault();
});

function close() {
  void forget(queue.items.filter((item) => item.state === "failed").map((item) => item.id));
  queue.items = queue.items.filter((item) => item.isActive || item.state === "asking");
  panel.startedAt = panel.endedAt = 0;
  panel.drawNow();
}

/** New work: what is over and was seen makes room. */
function clearOver() {
  if (queue.items.some((item) => item.isActive || item.state === "paused" || item.state === "asking")) return;
  queue.items = queue.items.filter((item) => item.state === "lost" || item.state === "failed");
  queue.trouble = "";
  panel.startedAt = panel.endedAt = 0;
}

/**
 * Upload these into a folder of a bucket.
 * @param {AsyncIterable<import("./chosen.js").Chosen> | Iterable<import("./chosen.js").Chosen>} chosen
 * @param {string} bucket @param {string} prefix
 */
export async function add(chosen, bucket, prefix) {
  clearOver();
  /** @type {import("./item.js").Group} */
  const group = { answer: null };
  /** @type {Item[]} */
  let items = [];
  for await (const { file, path, handle } of chosen) {
    const key = prefix + path;
    const lost = queue.items.find((item) => item.state === "lost" && item.bucket === bucket && item.key === key && item.isOf(file));
    if (lost !== undefined) queue.found(lost, file);
    else items.push(new Item({ bucket, key, path, file, handle, group }));
    if (items.length >= ADDED_AT_ONCE) {
      queue.add(items);
      items = [];
    }
  }
  queue.add(items);
}

/** Files that were chosen again in the panel, wherever the page is. @param {FileList} files */
function pick(files) {
  let unknown = 0;
  for (const file of files) {
    const lost = queue.items.find((item) => item.state === "lost" && (item.path.endsWith(file.name) || item.originalPath?.endsWith(file.name)) && item.isOf(file))
      ?? queue.items.find((item) => item.state === "lost" && item.isOf(file));
    if (lost === undefined) unknown += 1;
    else queue.found(lost, file);
  }
  if (unknown > 0) {
    document.dispatchEvent(new CustomEvent("toasts", { detail: { toasts: [{ kind: "warn", text: unknown === 1 ? "This is not the same file, or it was changed since: choose it in its bucket to upload it anew." : `${unknown} of these are other files, or were changed since.` }] } }));
  }
  panel.draw();
}

/** Take up files that the browser can open by itself, asking where it has to. */
async function goOn() {
  for (const item of queue.items.filter((one) => one.state === "lost" && one.handle !== null)) await open(item, true);
  panel.draw();
}

/** @param {Item} item @param {boolean} mayAsk */
async function open(item, mayAsk) {
  try {
    const handle = /** @type {any} */ (item.handle);
    let state = await handle.queryPermission({ mode: "read" });
    if (state === "prompt" && mayAsk) state = await handle.requestPermission({ mode: "read" });
    if (state !== "granted") return;
    const file = await handle.getFile();
    if (item.isOf(file)) queue.found(item, file);
    else item.handle = null;
  } catch {
    item.handle = null;
  }
}

/** Show what was not finished when the page was left, and go on with what can be. */
export async function restore() {
  const mine = document.body.dataset.key ?? "";
  const others = await otherTabs();
  const records = (await remembered()).filter((record) => record.keyId === mine && !others.has(record.owner));
  if (records.length === 0) return;
  const items = records.map((record) => Item.ofRecord(record, { answer: null }));
  void remember(items.map((item) => item.record())); // this tab's now
  queue.items.push(...items);
  for (const item of items) if (item.handle !== null) await open(item, false);
  queue.pump();
}
