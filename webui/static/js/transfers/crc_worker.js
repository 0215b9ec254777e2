// A worker that computes the checksums of chunks: it reads a file a second time, and the page stays quick meanwhile.
import { crc32c, inDigits } from "./crc32c.js";

/** @type {Set<number>} what nobody waits for any more */
const stopped = new Set();

/** @param {number} number @param {Blob} bytes @returns {Promise<string>} */
async function checksum(number, bytes) {
  const pieces = bytes.stream().getReader();
  let crc = 0;
  for (;;) {
    const { done, value } = await pieces.read();
    if (done) return inDigits(crc);
    if (stopped.has(number)) {
      void pieces.cancel();
      return "";
    }
    crc = crc32c(value, crc);
  }
}

self.addEventListener("message", (event) => {
  const { number, bytes } = event.data;
  if (bytes === undefined) {
    stopped.add(number);
    return;
  }
  checksum(number, bytes).then(
    (crc) => self.postMessage({ number, crc }),
    () => self.postMessage({ number }), // it cannot be read
  ).finally(() => stopped.delete(number));
});
