// Plan: sizes, names and words of transfers. Pure: no page, no network.
import { formatSize, formatSpan, plural } from "../formats.js";

export const MIB = 1024 * 1024;
const CHUNK_MIN = 16 * MIB; // what is sent again at worst when a chunk breaks off
const CHUNKS_WISHED = 1000;
export const KEY_SIZE_MAX = 1024;

/** The size of a file's chunks. @param {number} size bytes of the file @returns {number} */
export function chunkSizeOf(size) {
  return Math.max(CHUNK_MIN, Math.ceil(size / CHUNKS_WISHED / MIB) * MIB);
}

/** @param {number} size @param {number} chunkSize @returns {number} */
export function chunkCountOf(size, chunkSize) {
  return Math.max(1, Math.ceil(size / chunkSize));
}

/** Where a chunk lies in its file. @param {number} size @param {number} chunkSize @param {number} index @returns {[number, number]} */
export function chunkRange(size, chunkSize, index) {
  return [index * chunkSize, Math.min(size, (index + 1) * chunkSize)];
}

/** What is wrong with a key; "" if nothing is. @param {string} key @returns {string} */
export function faultOfKey(key) {
  const size = new TextEncoder().encode(key).length;
  if (size > KEY_SIZE_MAX) return `The name with its folders has ${size} bytes; ${KEY_SIZE_MAX} are allowed.`;
  return "";
}

/** The same name with a number: "a/cat (2).jpg". @param {string} key @param {number} number @returns {string} */
export function anotherName(key, number) {
  const slash = key.lastIndexOf("/") + 1;
  const name = key.slice(slash);
  const dot = name.lastIndexOf(".");
  return dot > 0 ? `${key.slice(0, slash)}${name.slice(0, dot)} (${number})${name.slice(dot)}` : `${key} (${number})`;
}

/** How long to wait before trying again, in ms; random, so that tabs do not try in step. @param {number} failures from 1 @returns {number} */
export function backOffMs(failures) {
  return Math.min(15_000, 500 * 2 ** Math.min(failures - 1, 10)) * (0.75 + Math.random() / 2);
}

/** For how long something is tried. While a machine is asleep nothing is, however late it is when it wakes up. */
export class Patience {
  static GIVE_UP_MS = 10 * 60_000;
  static BETWEEN_TRIES_MS = 60_000; // at most

  constructor() {
    this.spent = 0;
    /** @type {number | null} */
    this.failedAt = null;
  }

  /** It works. */
  restore() {
    this.spent = 0;
    this.failedAt = null;
  }

  /** It failed once more: is it time to give up? @param {number} now ms @returns {boolean} */
  isOver(now) {
    const since = now - (this.failedAt ?? now);
    this.spent += Math.max(0, Math.min(since, Patience.BETWEEN_TRIES_MS));
    this.failedAt = now;
    return this.spent > Patience.GIVE_UP_MS;
  }
}

/** Bytes a second, over the last seconds. */
export class Rate {
  static WINDOW_MS = 6_000;

  constructor() {
    /** @type {[number, number][]} when, and how many bytes in all had been sent */
    this.points = [];
  }

  /** @param {number} now ms @param {number} total bytes */
  note(now, total) {
    const last = this.points[this.points.length - 1];
    if (last !== undefined && (total < last[1] || now - last[0] > Rate.WINDOW_MS)) this.points = [];
    this.points.push([now, total]);
    while (this.points.length > 2 && now - this.points[0][0] > Rate.WINDOW_MS) this.points.shift();
  }

  /** @returns {number} */
  perSecond() {
    if (this.points.length < 2) return 0;
    const first = this.points[0], last = this.points[this.points.length - 1];
    return last[0] - first[0] < 300 ? 0 : ((last[1] - first[1]) * 1000) / (last[0] - first[0]);
  }
}

/**
 * How it ended, in a sentence.
 * @param {{ stored: number, bytes: number, failed: number, skipped: number, seconds: number }} what
 * @returns {string}
 */
export function summary({ stored, bytes, failed, skipped, seconds }) {
  const parts = [];
  if (stored > 0) parts.push(`${plural(stored, "file")}, ${formatSize(bytes)} stored in ${formatSpan(seconds)}`);
  if (skipped > 0) parts.push(`${plural(skipped, "file")} skipped`);
  if (failed > 0) parts.push(`${plural(failed, "file")} failed`);
  return parts.join("; ") || "Nothing was uploaded";
}

/** What a refusal means for whoever uploads. @param {{ code: string, message: string }} error @returns {string} */
export function inWords({ code, message }) {
  switch (code) {
    case "quota_exceeded":
      return `This is more than the quota leaves: ${message}`;
    case "permission_denied":
      return `This key may not store this file: ${message}`;
    case "cluster_full":
      return `The store is full: ${message}`;
    case "no_such_bucket":
      return "The bucket does not exist any more.";
    case "bad_key":
      return `The store does not take this name: ${message}`;
    default:
      return message ? message[0].toUpperCase() + message.slice(1) : "Something went wrong; try again.";
  }
}
