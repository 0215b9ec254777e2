// Queue: uploads in their order, with a bounded number of chunks on their way.
//
//   waiting -> (begin) -> sending -> (all chunks stored) -> finishing -> stored
//
// `pump` does what can be done now; whatever changes calls it again. Each question to the console is asked for
// many files at once, one question of a kind at a time.
import { Item } from "./item.js";
import { anotherName, backOffMs, chunkRange, faultOfKey, inWords, Patience } from "./plan.js";
import { forget, remember } from "./remembered.js";
import { Routes } from "./routes.js";
import { askConsole, Failure, send } from "./sending.js";

const ON_THE_WAY = 6; // as many connections as browsers have to one host
const OF_ONE_FILE = 4;
const FILES_AT_ONCE = 64; // in one question
const BEGUN_AHEAD = 24; // files that are begun and not yet sent
const BEGINS_MAX = 4; // of one file: the store may have given up what was sent
const SLOT_MARGIN_MS = 30_000;
const NAMES_MAX = 1_000;

/** @typedef {{ bucket: string, uploadId: string, size: number, chunkSize: number }} Begun */

export class Queue {
  /** @param {() => void} changed called after each change; often */
  constructor(changed) {
    /** @type {Item[]} */
    this.items = [];
    this.changed = changed;
    this.routes = new Routes();
    this.isSignedOut = false;
    this.trouble = ""; // of the console
    this.failures = 0;
    this.notBefore = 0;
    this.patience = new Patience();
    this.lookedAt = 0;
    this.isBeginning = this.isFinishing = this.isAskingSlots = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    window.addEventListener("online", () => this.tryNow());
  }

  // --- what people do ------------------------------------------------------------------------------

  /** @param {Item[]} items */
  add(items) {
    for (const item of items) {
      const fault = faultOfKey(item.key);
      if (fault) this.fail(item, fault);
    }
    this.items.push(...items);
    void remember(items.filter((item) => item.isActive).map((item) => item.record()));
    this.pump();
  }

  /** @param {Item} item */
  pause(item) {
    if (!item.isActive || item.state === "finishing") return;
    item.state = "paused";
    item.stopSending();
    this.pump();
  }

  /** @param {Item} item */
  resume(item) {
    if (item.state !== "paused" && item.state !== "failed") return;
    if (item.file === null) item.state = "lost";
    else {
      item.worked();
      item.begins = 0;
      item.state = item.uploadId ? "sending" : "waiting";
      void remember([item.record()]);
    }
    this.tryNow();
  }

  /** @param {Item[]} items */
  cancel(items) {
    const open = items.filter((item) => !item.isOver && item.state !== "finishing");
    for (const item of open) {
      item.stopSending();
      item.state = "cancelled";
    }
    void forget(open.map((item) => item.id));
    void this.abort(open);
    this.pump();
  }

  /** What is to be done with files that exist. @param {"replace" | "both" | "skip"} answer */
  decide(answer) {
    const asking = this.items.filter((item) => item.state === "asking");
    for (const item of asking) item.group.answer = answer;
    for (const item of asking) this.exists(item);
    this.pump();
  }

  /** Give an item that was lost its file. @param {Item} item @param {File} file */
  found(item, file) {
    item.file = file;
    item.state = item.uploadId ? "sending" : "waiting";
    void remember([item.record()]);
    this.pump();
  }

  tryNow() {
    this.isSignedOut = false;
    this.waitNoLonger();
    this.pump();
  }

  waitNoLonger() {
    this.notBefore = 0;
    for (const item of this.items) item.notBefore = 0;
  }

  // --- the engine ------------------------------------------------------------------------------------

  pump() {
    clearTimeout(this.timer);
    this.timer = undefined;
    const now = Date.now();
    if (now < this.lookedAt) this.waitNoLonger(); // the clock was set back, and what was to be in a second is in an hour
    this.lookedAt = now;
    if (!this.isSignedOut && now >= this.notBefore) {
      void this.finishSome();
      void this.beginSome();
      this.sendSome(now);
      void this.askForSlots(now);
    }
    const later = [this.notBefore, ...this.items.filter((item) => item.isActive).map((item) => item.notBefore)].filter((at) => at > now);
    if (later.length > 0) this.timer = setTimeout(() => this.pump(), Math.min(...later) - now + 20);
    this.changed();
  }

  async beginSome() {
    const ahead = this.items.filter((item) => item.state === "sending" && item.confirmed.size === 0 && item.onTheWay.size === 0).length;
    if (this.isBeginning || ahead >= BEGUN_AHEAD) return;
    const now = Date.now();
    const first = this.items.find((item) => item.state === "waiting" && item.notBefore <= now);
    if (first === undefined) return;
    const items = this.items.filter((item) => item.state === "waiting" && item.bucket === first.bucket && item.notBefore <= now).slice(0, FILES_AT_ONCE);
    this.isBeginning = true;
    await this.ask(items, first.bucket, "", {
      files: items.map((item) => ({ key: item.key, size: item.size, chunk_size: item.chunkSize, content_type: item.type, if_exists: item.ifExists })),
    }, (item, result) => this.begun(item, result));
    this.isBeginning = false;
    this.pump();
  }

  /** @param {Item} item @param {any} result */
  begun(item, result) {
    if (item.state !== "waiting" && result.id !== undefined) {
      // It was cancelled or paused meanwhile.
      void this.abort([{ bucket: item.bucket, size: item.size, uploadId: result.id, chunkSize: result.chunk_size }]);
      return;
    }
    if (item.state !== "waiting") return;
    if (result.exists !== undefined) this.exists(item);
    else {
      item.begins += 1;
      item.uploadId = result.id;
      item.chunkSize = result.chunk_size;
      item.state = "sending";
      this.takeSlots(item, result.slots);
      void remember([item.record()]);
    }
  }

  /** There is an object with this key. @param {Item} item */
  exists(item) {
    const answer = item.group.answer;
    if (answer === null) item.state = "asking";
    else if (answer === "skip") {
      item.state = "skipped";
      void forget([item.id]);
      void this.abort([item]);
    } else if (answer === "replace") {
      item.ifExists = "replace";
      item.startOver();
    } else if (++item.numbersTried > NAMES_MAX) this.fail(item, "There are too many files of this name.");
    else {
      item.originalKey ??= item.key;
      item.key = anotherName(item.originalKey, item.numbersTried);
      item.path = anotherName(item.originalPath ??= item.path, item.numbersTried);
      item.startOver();
    }
  }

  /** @param {Item} item @param {any[]} slots */
  takeSlots(item, slots) {
    const now = Date.now();
    for (const slot of slots) item.slots.set(slot.chunk, { ...slot, until: now + slot.expires_in_s * 1000 - SLOT_MARGIN_MS });
  }

  /** @param {number} now */
  sendSome(now) {
    let room = ON_THE_WAY - this.items.reduce((sum, item) => sum + item.onTheWay.size, 0);
    for (const item of this.items) {
      if (room <= 0) return;
      if (item.state !== "sending" || item.notBefore > now) continue;
      for (const index of item.missing(OF_ONE_FILE - item.onTheWay.size)) {
        const slot = item.slots.get(index);
        if (room <= 0) return;
        const isThrough = slot !== undefined && this.routes.isThrough(slot.url);
        if (slot === undefined || (!isThrough && slot.until <= now)) continue;
        room -= 1;
        void this.send(item, index, slot, isThrough);
      }
    }
  }

  /** @param {Item} item @param {number} index @param {import("./item.js").Slot} slot @param {boolean} isThrough the console */
  async send(item, index, slot, isThrough) {
    const [start, end] = chunkRange(item.size, item.chunkSize, index);
    const bytes = /** @type {File} */ (item.file).slice(start, end);
    const target = isThrough ? this.routes.throughConsole(item, index) : { url: slot.url, headers: { Authorization: `Bearer ${slot.token}` } };
    item.slots.delete(index);
    const sending = send(target.url, target.headers, bytes, (sent) => {
      const way = item.onTheWay.get(index);
      if (way !== undefined) way.sent = Math.min(sent, end - start);
      this.changed();
    });
    const way = { stop: sending.stop, sent: 0 };
    item.onTheWay.set(index, way);
    try {
      await sending.done;
      if (item.onTheWay.get(index) === way) item.onTheWay.delete(index);
      if (item.state !== "sending" && item.state !== "paused") return;
      item.confirmed.add(index);
      item.worked();
      item.excluded.clear();
      if (!isThrough) this.routes.worked(slot.url);
      if (item.chunkCount > 1) void remember([item.record()]);
    } catch (error) {
      if (item.onTheWay.get(index) === way) item.onTheWay.delete(index);
      if (error instanceof Failure && error.code !== "stopped" && item.state === "sending") await this.chunkFailed(item, slot, error, isThrough, bytes);
    }
    this.pump();
  }

  /** @param {Item} item @param {import("./item.js").Slot} slot @param {Failure} error @param {boolean} isThrough @param {Blob} bytes */
  async chunkFailed(item, slot, error, isThrough, bytes) {
    if (!(await isReadable(bytes))) {
      item.stopSending();
      this.fail(item, "The file was changed, moved or removed meanwhile: choose it again.");
      return;
    }
    if (error.status === 401 && isThrough) this.isSignedOut = true;
    if (["quota_exceeded", "no_such_bucket", "key_disabled"].includes(error.code)) {
      item.stopSending();
      this.fail(item, inWords(error));
      return;
    }
    if (error.status === 0 && !isThrough) await this.routes.failed(slot.url);
    if (!this.routes.isThrough(slot.url) && item.excluded.size < 8) item.excluded.add(slot.volume);
    this.waitWith(item, error);
  }

  /** @param {number} now */
  async askForSlots(now) {
    if (this.isAskingSlots) return;
    const hungry = this.items.filter((item) => item.state === "sending" && item.notBefore <= now && item.missing(OF_ONE_FILE - item.onTheWay.size).some((index) => (item.slots.get(index)?.until ?? 0) <= now));
    const first = hungry[0];
    if (first === undefined) return;
    const items = hungry.filter((item) => item.bucket === first.bucket).slice(0, 16);
    this.isAskingSlots = true;
    await this.ask(items, first.bucket, "/slots", {
      uploads: items.map((item) => ({ ...known(item), chunks: item.missing(8).filter((index) => (item.slots.get(index)?.until ?? 0) <= now), exclude: [...item.excluded] })),
    }, (item, result) => {
      if (item.state === "sending") this.takeSlots(item, result.slots);
    });
    this.isAskingSlots = false;
    this.pump();
  }

  async finishSome() {
    if (this.isFinishing) return;
    const now = Date.now();
    const complete = this.items.filter((item) => item.state === "sending" && item.isComplete && item.onTheWay.size === 0 && item.notBefore <= now);
    const first = complete[0];
    if (first === undefined) return;
    const items = complete.filter((item) => item.bucket === first.bucket).slice(0, FILES_AT_ONCE);
    for (const item of items) item.state = "finishing";
    this.isFinishing = true;
    await this.ask(items, first.bucket, "/finish", { uploads: items.map(known) }, (item) => {
      item.state = "stored";
      item.worked();
      item.file = null;
      void forget([item.id]);
    });
    for (const item of items) if (item.state === "finishing") item.state = "sending"; // no answer: again
    this.isFinishing = false;
    this.pump();
  }

  /**
   * Ask the console about some items.
   * @param {Item[]} items @param {string} bucket @param {string} path @param {unknown} body
   * @param {(item: Item, result: any) => void} done
   */
  async ask(items, bucket, path, body, done) {
    try {
      const results = await askConsole(`/buckets/${encodeURIComponent(bucket)}/uploads${path}`, body);
      this.failures = 0;
      this.patience.restore();
      this.trouble = "";
      items.forEach((item, number) => {
        const result = results[number];
        if (result.status === undefined) done(item, result);
        else this.refused(item, new Failure(result.code, result.message, result.status));
      });
    } catch (error) {
      const failure = error instanceof Failure ? error : new Failure("", String(error), 400);
      if (failure.code === "signed_out") this.isSignedOut = true;
      else if (failure.passes) this.waitAll(failure);
      else for (const item of items) this.refused(item, failure);
    }
  }

  /** What the store says of one item. @param {Item} item @param {Failure} error */
  refused(item, error) {
    if (!item.isActive) return;
    if (item.state === "finishing") item.state = "sending";
    if (error.code === "precondition_failed") this.exists(item);
    else if ((error.code === "no_such_upload" || error.code === "upload_incomplete") && item.begins < BEGINS_MAX) item.startOver();
    else if (error.passes) {
      item.excluded.clear(); // a volume that failed a moment ago is better than none
      this.waitWith(item, error);
    } else this.fail(item, inWords(error));
  }

  // --- failures --------------------------------------------------------------------------------------

  /** @param {Item} item @param {string} words */
  fail(item, words) {
    item.stopSending();
    item.state = "failed";
    item.words = words;
    void this.abort([item]);
    item.uploadId = "";
    item.confirmed.clear();
    void forget([item.id]);
  }

  /** One file waits a moment. @param {Item} item @param {Failure} error */
  waitWith(item, error) {
    const now = Date.now();
    if (item.patience.isOver(now)) {
      item.stopSending();
      item.state = "failed"; // what is stored stays: Retry goes on
      item.words = `${inWords(error)} (for ten minutes)`;
      return;
    }
    item.failures += 1;
    item.notBefore = Math.max(item.notBefore, now + backOffMs(item.failures));
    item.words = `Trying again: ${error.message}`;
  }

  /** All wait a moment: the console is not there. @param {Failure} error */
  waitAll(error) {
    const now = Date.now();
    const isOver = this.patience.isOver(now);
    this.failures += 1;
    this.notBefore = now + backOffMs(this.failures);
    this.trouble = `The connection is lost: trying again (${error.message}).`;
    if (!isOver) return;
    this.patience.restore();
    this.trouble = "";
    for (const item of this.items.filter((one) => one.isActive)) {
      item.stopSending();
      item.state = "failed";
      item.words = "The console did not answer for ten minutes.";
    }
  }

  /** Have the store give up what was begun. @param {Begun[]} items */
  async abort(items) {
    const begun = items.filter((item) => item.uploadId).map(({ bucket, uploadId, size, chunkSize }) => ({ bucket, uploadId, size, chunkSize }));
    for (let at = 0; at < begun.length; at += FILES_AT_ONCE) {
      const some = begun.slice(at, at + FILES_AT_ONCE);
      for (const bucket of new Set(some.map((item) => item.bucket))) {
        const uploads = some.filter((item) => item.bucket === bucket).map(known);
        await askConsole(`/buckets/${encodeURIComponent(bucket)}/uploads/abort`, { uploads }).catch(() => {}); // they expire
      }
    }
  }
}

/** @param {Begun} item */
function known(item) {
  return { id: item.uploadId, size: item.size, chunk_size: item.chunkSize };
}

/** Can these bytes still be read? @param {Blob} bytes @returns {Promise<boolean>} */
async function isReadable(bytes) {
  if (bytes.size === 0) return true;
  try {
    await bytes.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
