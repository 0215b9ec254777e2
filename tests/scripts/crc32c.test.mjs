// Checksums of chunks: known vectors, those of RFC 3720 (B.4) among them.
import assert from "node:assert/strict";
import test from "node:test";
import { crc32c, crcOfAnswer, inDigits } from "../../webui/static/js/transfers/crc32c.js";

const rising = Uint8Array.from({ length: 32 }, (_, number) => number);
/** @type {[string, Uint8Array, number][]} */
const VECTORS = [
  ["nothing", new Uint8Array(0), 0],
  ["the check value", new TextEncoder().encode("123456789"), 0xe3069283],
  ["zeros", new Uint8Array(32), 0x8a9136aa],
  ["ones", new Uint8Array(32).fill(255), 0x62a8ab43],
  ["rising", rising, 0x46dd794e],
  ["falling", rising.toReversed(), 0x113fdb5c],
];

for (const [name, bytes, crc] of VECTORS) {
  test(`the checksum of ${name} is that of the standard`, () => assert.equal(crc32c(bytes), crc));
}

test("it does not matter how the bytes are cut", () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, number) => (number * 37) & 255);
  const whole = crc32c(bytes);
  for (let cut = 0; cut <= bytes.length; cut++) assert.equal(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), whole);
});

test("it does not matter where in memory they lie", () => {
  const bytes = Uint8Array.from({ length: 64 }, (_, number) => (number * 37) & 255);
  for (let offset = 0; offset < 9; offset++) {
    for (let length = 0; length <= 24; length++) {
      const moved = new Uint8Array(offset + length + 3).subarray(offset, offset + length);
      moved.set(bytes.subarray(0, length));
      assert.equal(crc32c(moved), bytes.subarray(0, length).reduce((crc, byte) => crc32c(Uint8Array.of(byte), crc), 0));
    }
  }
});

test("every flipped bit is noticed", () => {
  const bytes = new TextEncoder().encode("a chunk of nineteen");
  const whole = crc32c(bytes);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const other = bytes.slice();
    other[bit >> 3] ^= 1 << (bit & 7);
    assert.notEqual(crc32c(other), whole);
  }
});

test("the digits are those of the store", () => {
  assert.equal(inDigits(0), "00000000");
  assert.equal(inDigits(0xabc), "00000abc");
  assert.equal(inDigits(0xe3069283), "e3069283");
});

test("an answer has its checksum in the ETag, or by name, or none", () => {
  assert.equal(crcOfAnswer({ etag: "3-1f-00000abc" }), "00000abc");
  assert.equal(crcOfAnswer({ etag: "3-1f-00000abc-2" }), "00000abc");
  assert.equal(crcOfAnswer({ crc32c: "e3069283" }), "e3069283");
  for (const answer of [{}, { etag: "" }, { etag: "3-1f" }, { etag: "3-1f-ABC" }, { etag: null }, { crc32c: 7 }, { crc32c: "e306928" }]) assert.equal(crcOfAnswer(answer), "");
});
