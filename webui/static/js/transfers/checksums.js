// Checksums: asks the worker for those of chunks that are sent.

const LOADING_MS = 30_000; // until the worker's script runs; afterwards each read has a deadline (reading.js)

/** @type {Worker | null} */
let worker = null;
let counter = 0;
/** @type {Map<number, { resolve: (crc: string) => void, reject: (error: Error) => void }>} */
const waiting = new Map();

/** @returns {Worker} */
function started() {
  const made = new Worker(new URL("./crc_worker.js", import.meta.url), { type: "module" });
  const late = setTimeout(() => end(made), LOADING_MS);
  made.addEventListener("message", (event) => {
    clearTimeout(late);
    const { number, crc } = event.data;
    const asked = waiting.get(number);
    waiting.delete(number);
    if (crc === undefined) asked?.reject(new Error("the file cannot be read"));
    else asked?.resolve(crc);
  });
  made.addEventListener("error", () => {
    clearTimeout(late);
    end(made);
  });
  return made;
}

/** It could not be loaded, or ended: the next chunk starts another. @param {Worker} made */
function end(made) {
  worker = null;
  made.terminate();
  for (const { reject } of waiting.values()) reject(new Error("the checksum could not be computed"));
  waiting.clear();
}

/**
 * The CRC-32C of some bytes of a file.
 * @param {Blob} bytes
 * @returns {{ crc: Promise<string>, stop: () => void }} crc: 8 digits, "" after `stop`; refused: the file cannot be read
 */
export function checksum(bytes) {
  worker ??= started();
  const asked = worker;
  const number = ++counter;
  const crc = new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    asked.postMessage({ number, bytes });
  });
  crc.catch(() => undefined); // whoever sends may have failed before and not ask any more
  return { crc, stop: () => void (waiting.has(number) && asked.postMessage({ number })) };
}
