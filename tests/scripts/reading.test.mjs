// Reading files for their checksums: all sizes, streams that never answer, browsers that know one way of two.
import assert from "node:assert/strict";
import test from "node:test";
import { crc32c } from "../../webui/static/js/transfers/crc32c.js";
import { crcOf } from "../../webui/static/js/transfers/reading.js";

const MIB = 1024 * 1024;
const never = () => false;

/** @param {number} size @returns {Uint8Array<ArrayBuffer>} */
const content = (size) => Uint8Array.from({ length: size }, (_, number) => (number * 37 + (number >> 8)) & 255);

/**
 * A file whose streams are made here.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {(rest: Uint8Array<ArrayBuffer>) => ReadableStream<Uint8Array<ArrayBuffer>>} stream
 * @returns {Blob}
 */
function fileOf(bytes, stream) {
  const file = new Blob([bytes]);
  file.slice = (start = 0) => fileOf(bytes.slice(start), stream);
  file.stream = () => stream(bytes);
  return file;
}

/** A stream of pieces that knows nothing of buffers of others. @param {Uint8Array<ArrayBuffer>} bytes */
const ofPieces = (bytes) => new ReadableStream({
  start(controller) {
    for (let at = 0; at < bytes.length; at += 1000) controller.enqueue(bytes.slice(at, at + 1000));
    controller.close();
  },
});

for (const size of [0, 1, 3, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7]) {
  test(`${size} bytes have the checksum that they have at once`, async () => {
    const bytes = content(size);
    assert.equal(await crcOf(new Blob([bytes]), never), crc32c(bytes));
  });
}

test("many are read at once, and none is mixed up with another", async () => {
  const all = Array.from({ length: 50 }, (_, number) => content(number * 4999));
  const found = await Promise.all(all.map((bytes) => crcOf(new Blob([bytes]), never)));
  assert.deepEqual(found, all.map((bytes) => crc32c(bytes)));
});

test("each piece is read into the same buffer", async () => {
  const bytes = content(3 * MIB);
  /** @type {Set<number>} */
  const sizes = new Set();
  let made = 0;
  const file = fileOf(bytes, (rest) => {
    let at = 0;
    return new ReadableStream({
      type: "bytes",
      pull(controller) {
        const view = /** @type {Uint8Array<ArrayBuffer>} */ (controller.byobRequest?.view);
        made += view === undefined ? 1 : 0;
        const piece = rest.subarray(at, at + Math.min(view.byteLength, 70_000));
        sizes.add(view.buffer.byteLength);
        at += piece.length;
        view.set(piece);
        if (piece.length === 0) controller.close();
        controller.byobRequest?.respond(piece.length);
      },
    });
  });
  assert.equal(await crcOf(file, never), crc32c(bytes));
  assert.equal(made, 0, "nothing is read into a buffer of the stream's own");
  assert.deepEqual([...sizes], [MIB]);
});

test("a browser that reads into no buffer of others reads as it can", async () => {
  const bytes = content(12_345);
  assert.equal(await crcOf(fileOf(bytes, ofPieces), never), crc32c(bytes));
});

for (const before of [0, 1, 5000]) {
  test(`a read that never ends, after ${before} bytes, is given up for another from there`, async () => {
    const bytes = content(12_345);
    let streams = 0;
    const file = fileOf(bytes, (rest) => {
      streams += 1;
      if (streams > 1) return ofPieces(rest);
      return new ReadableStream({
        type: "bytes",
        start: (controller) => (before > 0 ? controller.enqueue(rest.slice(0, before)) : undefined),
        pull: () => new Promise(() => undefined),
      });
    });
    assert.equal(await crcOf(file, never, 20), crc32c(bytes));
    assert.equal(streams, 2);
  });
}

test("a file that is never read is refused, not waited for", async () => {
  const silent = () => new ReadableStream({ type: "bytes", pull: () => new Promise(() => undefined) });
  await assert.rejects(crcOf(fileOf(content(10), silent), never, 20), /the file is not read/);
});

test("a file that cannot be read is refused", async () => {
  const gone = () => new ReadableStream({ type: "bytes", start: (controller) => controller.error(new Error("it is gone")) });
  await assert.rejects(crcOf(fileOf(content(10), gone), never), /it is gone/);
});

test("a file that has become shorter is refused", async () => {
  await assert.rejects(crcOf(fileOf(content(10), (rest) => ofPieces(rest.subarray(0, 2))), never), /of 10 bytes could be read/);
});

test("what nobody waits for is read no further", async () => {
  let asked = 0;
  assert.equal(await crcOf(new Blob([content(20 * MIB)]), () => ++asked > 3), null);
  assert.ok(asked <= 5, `${asked}`);
});
