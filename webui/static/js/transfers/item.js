// Item: one file that is uploaded, and what is known of it.
import { TAB } from "./remembered.js";
import { chunkCountOf, chunkRange, chunkSizeOf, Patience } from "./plan.js";

/**
 * @typedef {"waiting" | "sending" | "finishing" | "stored" | "failed" | "paused" | "asking" | "skipped" | "cancelled" | "lost"} State
 *   waiting: for its turn; asking: such an object exists; lost: the page was loaded again and needs the file
 * @typedef {{ answer: "replace" | "both" | "skip" | null }} Group what is to be done with all files of one drop that exist
 * @typedef {{ chunk: number, volume: number, url: string, token: string, until: number }} Slot until: ms
 */

let counter = 0;

export class Item {
  /**
   * @param {{ bucket: string, key: string, path: string, file: File | null, handle: FileSystemFileHandle | null, group: Group, size?: number, modified?: number, type?: string }} what
   */
  constructor(what) {
    this.id = `${TAB}-${++counter}`;
    this.bucket = what.bucket;
    this.key = what.key;
    this.path = what.path;
    this.file = what.file;
    this.handle = what.handle;
    this.group = what.group;
    this.size = what.size ?? what.file?.size ?? 0;
    this.modified = what.modified ?? what.file?.lastModified ?? 0;
    this.type = what.type ?? what.file?.type ?? "";
    this.chunkSize = chunkSizeOf(this.size);
    /** @type {State} */
    this.state = "waiting";
    /** @type {"ask" | "replace"} */
    this.ifExists = "ask";
    this.uploadId = "";
    /** @type {Set<number>} chunks that are stored */
    this.confirmed = new Set();
    /** @type {Map<number, Slot>} places for chunks that are not */
    this.slots = new Map();
    /** @type {Map<number, { stop: () => void, sent: number }>} chunks on their way */
    this.onTheWay = new Map();
    /** @type {Set<number>} volumes that failed lately */
    this.excluded = new Set();
    this.asksSlots = false;
    this.begins = 0;
    this.numbersTried = 1;
    /** @type {string | undefined} before numbers were added */
    this.originalKey = undefined;
    /** @type {string | undefined} */
    this.originalPath = undefined;
    this.patience = new Patience();
    this.failures = 0;
    this.notBefore = 0;
    this.words = ""; // what is wrong
  }

  get chunkCount() {
    return chunkCountOf(this.size, this.chunkSize);
  }

  /** Bytes that are stored or on their way. */
  get sent() {
    let sum = 0;
    for (const index of this.confirmed) {
      const [start, end] = chunkRange(this.size, this.chunkSize, index);
      sum += end - start;
    }
    for (const { sent } of this.onTheWay.values()) sum += sent;
    return Math.min(sum, this.size);
  }

  /** Is there anything left to do without a person? */
  get isActive() {
    return this.state === "waiting" || this.state === "sending" || this.state === "finishing";
  }

  get isOver() {
    return this.state === "stored" || this.state === "skipped" || this.state === "cancelled";
  }

  /** Chunks that are neither stored nor on their way, the first ones first. @param {number} count @returns {number[]} */
  missing(count) {
    const found = [];
    for (let index = 0; index < this.chunkCount && found.length < count; index++) {
      if (!this.confirmed.has(index) && !this.onTheWay.has(index)) found.push(index);
    }
    return found;
  }

  get isComplete() {
    return this.confirmed.size === this.chunkCount;
  }

  /** Begin again from the start. */
  startOver() {
    this.stopSending();
    this.uploadId = "";
    this.confirmed.clear();
    this.slots.clear();
    this.chunkSize = chunkSizeOf(this.size);
    this.state = "waiting";
  }

  stopSending() {
    for (const { stop } of this.onTheWay.values()) stop();
    this.onTheWay.clear();
    this.slots.clear();
  }

  worked() {
    this.patience.restore();
    this.failures = 0;
    this.notBefore = 0;
    this.words = "";
  }

  /** @returns {import("./remembered.js").Kept} */
  record() {
    return {
      id: this.id, owner: TAB, keyId: document.body.dataset.key ?? "", bucket: this.bucket, key: this.key, path: this.path,
      size: this.size, modified: this.modified, type: this.type, uploadId: this.uploadId, chunkSize: this.chunkSize,
      confirmed: [...this.confirmed], ifExists: this.ifExists, handle: this.handle, at: Date.now(),
    };
  }

  /** @param {import("./remembered.js").Kept} record @param {Group} group @returns {Item} */
  static ofRecord(record, group) {
    const item = new Item({ ...record, file: null, group });
    item.id = record.id;
    item.state = "lost";
    item.ifExists = record.ifExists;
    item.uploadId = record.uploadId;
    item.chunkSize = record.chunkSize;
    item.confirmed = new Set(record.confirmed);
    return item;
  }

  /** Is this the file that it needs? @param {File} file @returns {boolean} */
  isOf(file) {
    return file.size === this.size && file.lastModified === this.modified;
  }
}
