// CRC-32C, the checksum that the store keeps of each chunk. Pure: no page, no network.
// Eight bytes a step, with a table for each of them: Kounavis and Berry, "Novel table lookup-based algorithms for
// high-performance CRC generation", IEEE Transactions on Computers, 2008.

const POLYNOMIAL = 0x82f63b78; // Castagnoli's, its bits reversed
const SLICES = 8;

const TABLE = tables();

/** Table n, at n * 256, says what a byte does that is followed by n zero bytes. @returns {Int32Array} */
function tables() {
  const made = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    made[byte] = crc;
  }
  for (let at = 256; at < made.length; at++) made[at] = (made[at - 256] >>> 8) ^ made[made[at - 256] & 255];
  return made;
}

/**
 * @param {Uint8Array} bytes
 * @param {number} [before] the checksum of the bytes in front of these
 * @returns {number} from 0 to 2 ** 32 - 1
 */
export function crc32c(bytes, before = 0) {
  let crc = ~before;
  let at = 0;
  for (; at < bytes.length && ((bytes.byteOffset + at) & 3) !== 0; at++) crc = next(crc, bytes[at]);
  if (bytes.length - at >= SLICES) {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, Math.floor((bytes.length - at) / SLICES) * 2);
    crc = ofWords(crc, words);
    at += words.byteLength;
  }
  for (; at < bytes.length; at++) crc = next(crc, bytes[at]);
  return ~crc >>> 0;
}

/** @param {number} crc @param {number} byte @returns {number} */
function next(crc, byte) {
  return (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
}

/** Two words a step; their first byte is the lowest, as on all machines that browsers run on. @param {number} crc @param {Int32Array} words @returns {number} */
function ofWords(crc, words) {
  for (let at = 0; at < words.length; at += 2) {
    const first = crc ^ words[at], second = words[at + 1];
    crc = TABLE[1792 + (first & 255)] ^ TABLE[1536 + ((first >>> 8) & 255)] ^ TABLE[1280 + ((first >>> 16) & 255)] ^ TABLE[1024 + (first >>> 24)]
      ^ TABLE[768 + (second & 255)] ^ TABLE[512 + ((second >>> 8) & 255)] ^ TABLE[256 + ((second >>> 16) & 255)] ^ TABLE[second >>> 24];
  }
  return crc;
}

/** As the store writes it. @param {number} crc @returns {string} */
export function inDigits(crc) {
  return crc.toString(16).padStart(8, "0");
}

/**
 * The checksum of what was stored: a volume actor has it in the ETag (VOLUME-NEEDLE-CRC), the console says it.
 * @param {{ crc32c?: unknown, etag?: unknown }} answer
 * @returns {string} "" if the answer has none
 */
export function crcOfAnswer(answer) {
  const told = answer.crc32c ?? `${answer.etag ?? ""}`.split("-")[2];
  return typeof told === "string" && /^[0-9a-f]{8}$/.test(told) ? told : "";
}
