// Remembered: what the browser knows of unfinished uploads after a reload, in IndexedDB.

const NAME = "warehouse-transfers";
const KEPT_MS = 7 * 24 * 3600 * 1000;

/**
 * @typedef {object} Kept
 * @property {string} id
 * @property {string} owner the tab that works on it
 * @property {string} keyId the API key it was begun with
 * @property {string} bucket
 * @property {string} key
 * @property {string} path what is shown
 * @property {number} size
 * @property {number} modified ms
 * @property {string} type
 * @property {string} uploadId "" before it was begun
 * @property {number} chunkSize
 * @property {number[]} confirmed chunks
 * @property {"ask" | "replace"} ifExists
 * @property {FileSystemFileHandle | null} handle
 * @property {number} at ms
 */

/** @type {Promise<IDBDatabase | null> | null} */
let opening = null;

/** The database; null where the browser has none, such as in a private window. @returns {Promise<IDBDatabase | null>} */
function database() {
  opening ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("uploads", { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
      request.onblocked = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opening;
}

/** @param {(uploads: IDBObjectStore) => void} work @returns {Promise<void>} */
async function change(work) {
  const found = await database();
  if (found === null) return;
  await new Promise((resolve) => {
    try {
      const transaction = found.transaction("uploads", "readwrite");
      transaction.oncomplete = transaction.onerror = transaction.onabort = () => resolve(undefined);
      work(transaction.objectStore("uploads"));
    } catch {
      resolve(undefined); // full, or cleared meanwhile: the upload goes on without
    }
  });
}

/** @param {Kept[]} records @returns {Promise<void>} */
export function remember(records) {
  return change((uploads) => records.forEach((record) => uploads.put(record)));
}

/** @param {string[]} ids @returns {Promise<void>} */
export function forget(ids) {
  return change((uploads) => ids.forEach((id) => uploads.delete(id)));
}

/** All that is remembered; what is too old is forgotten. @returns {Promise<Kept[]>} */
export async function remembered() {
  const found = await database();
  if (found === null) return [];
  /** @type {Kept[]} */
  const records = await new Promise((resolve) => {
    const request = found.transaction("uploads").objectStore("uploads").getAll();
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve([]);
  });
  const old = records.filter((record) => Date.now() - record.at > KEPT_MS);
  if (old.length > 0) void forget(old.map((record) => record.id));
  return records.filter((record) => Date.now() - record.at <= KEPT_MS);
}

// --- which tab works on what -----------------------------------------------------------------------

export const TAB = Math.random().toString(36).slice(2) + Date.now().toString(36);
const ANSWER_MS = 250;
/** @type {BroadcastChannel | null} */
let channel = null;

/** Tell other tabs that this one is there. */
export function answerOtherTabs() {
  if (channel !== null || typeof BroadcastChannel === "undefined") return;
  channel = new BroadcastChannel(NAME);
  channel.addEventListener("message", (event) => {
    if (event.data === "who is there?") channel?.postMessage({ tab: TAB });
  });
}

/** The other tabs of this browser that are open. @returns {Promise<Set<string>>} */
export async function otherTabs() {
  answerOtherTabs();
  const found = new Set();
  if (channel === null) return found;
  const asked = channel;
  /** @param {MessageEvent} event */
  const note = (event) => {
    if (typeof event.data?.tab === "string") found.add(event.data.tab);
  };
  asked.addEventListener("message", note);
  asked.postMessage("who is there?");
  await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  asked.removeEventListener("message", note);
  return found;
}
