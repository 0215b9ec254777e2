// A worker that computes the checksums of chunks: it reads a file a second time, and the page stays quick meanwhile.
import { inDigits } from "./crc32c.js";
import { crcOf } from "./reading.js";

/** @type {Set<number>} what nobody waits for any more */
const stopped = new Set();

self.addEventListener("message", (event) => {
  const { number, bytes } = event.data;
  if (bytes === undefined) {
    stopped.add(number);
    return;
  }
  crcOf(bytes, () => stopped.has(number)).then(
    (crc) => self.postMessage({ number, crc: crc === null ? "" : inDigits(crc) }),
    () => self.postMessage({ number }), // it cannot be read
  ).finally(() => stopped.delete(number));
});

self.postMessage({}); // it is loaded
