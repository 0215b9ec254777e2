// Checksums: asks the worker for those of chunks that are sent.

/** @type {Worker | null} */
let worker = null;
let counter = 0;
/** @type {Map<number, { resolve: (crc: string) => void, reject: (error: Error) => void }>} */
const waiting = new Map();

/** @returns {Worker} */
function started() {
  const made = new Worker(new URL("./crc_worker.js", import.meta.url), { type: "module" });
  made.addEventListener("message", (event) => {
    const { number, crc } = event.data;
    const asked = waiting.get(number);
    waiting.delete(number);
    if (crc === undefined) asked?.reject(new Error("the file cannot be read"));
    else asked?.resolve(crc);
  });
  made.addEventListener("error", () => {
    // It could not be loaded, or ended: the next chunk starts another.
    worker = null;
    made.terminate();
    for (const { reject } of waiting.values()) reject(new Error("the checksum could not be computed"));
    waiting.clear();
  });
  return made;
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
