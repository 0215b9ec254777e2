// Reading: the checksum of a file's bytes, with memory that does not grow with the file. No page: a worker runs this.
//
// Each piece is read into the same buffer ("bring your own buffer"). A stream that makes a buffer for each piece leaves
// them to the garbage collector, which is in no hurry: 3 GiB took half a gigabyte.
import { crc32c } from "./crc32c.js";

const BUFFER_SIZE = 1024 * 1024;
const IDLE_MAX = 8; // buffers; more than the queue has chunks on their way
const SILENT_MS = 30_000; // of one read: a disk that sleeps takes some seconds

/** @typedef {{ crc: number, size: number }} Read what was read, and its checksum */

// Chromium collects a stream of bytes to which only a read that waits refers, and that read never ends. So the streams
// that are read are held here.
/** @type {Set<ReadableStream<Uint8Array>>} */
const held = new Set();
/** @type {ArrayBuffer[]} */
const idle = [];

/**
 * The CRC-32C of some bytes of a file.
 * @param {Blob} bytes
 * @param {() => boolean} isStopped asked before each piece
 * @param {number} [silentMs] how long one read may take
 * @returns {Promise<number | null>} null: it was stopped; refused: the bytes cannot be read
 */
export async function crcOf(bytes, isStopped, silentMs = SILENT_MS) {
  const read = { crc: 0, size: 0 };
  let trouble;
  for (const pieces of [intoOneBuffer, asTheyCome]) {
    if (read.size === bytes.size) break;
    const stream = bytes.slice(read.size).stream();
    held.add(stream);
    try {
      await pieces(stream, read, isStopped, silentMs);
      trouble = undefined;
    } catch (error) {
      trouble = error; // the other way may go on from here
    } finally {
      held.delete(stream);
    }
    if (isStopped()) return null;
  }
  if (read.size !== bytes.size) throw trouble ?? new Error(`${read.size} of ${bytes.size} bytes could be read`);
  return read.crc;
}

/** @param {ReadableStream<Uint8Array>} stream @param {Read} read @param {() => boolean} isStopped @param {number} silentMs */
async function intoOneBuffer(stream, read, isStopped, silentMs) {
  const reader = stream.getReader({ mode: "byob" }); // refused by browsers that cannot
  let buffer = idle.pop() ?? new ArrayBuffer(BUFFER_SIZE);
  for (;;) {
    const { done, value } = await within(silentMs, reader.read(new Uint8Array(buffer)), reader);
    if (value !== undefined) buffer = value.buffer;
    const isOver = done || isStopped();
    if (!isOver) add(read, value);
    if (!isOver) continue;
    if (idle.length < IDLE_MAX && buffer.byteLength === BUFFER_SIZE) idle.push(buffer);
    if (!done) void reader.cancel().catch(() => undefined);
    return;
  }
}

/** @param {ReadableStream<Uint8Array>} stream @param {Read} read @param {() => boolean} isStopped @param {number} silentMs */
async function asTheyCome(stream, read, isStopped, silentMs) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await within(silentMs, reader.read(), reader);
    if (done) return;
    if (isStopped()) return void reader.cancel().catch(() => undefined);
    add(read, value);
  }
}

/** @param {Read} read @param {Uint8Array} piece */
function add(read, piece) {
  read.crc = crc32c(piece, read.crc);
  read.size += piece.byteLength;
}

/**
 * What a read brings, if it comes in time; otherwise the stream is given up.
 * @template T
 * @param {number} ms @param {Promise<T>} reading @param {{ cancel: () => Promise<void> }} reader
 * @returns {Promise<T>}
 */
async function within(ms, reading, reader) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the file is not read")), ms);
  });
  try {
    return await Promise.race([reading, late]);
  } catch (error) {
    void reader.cancel().catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
