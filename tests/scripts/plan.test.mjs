// Sizes, names and words of transfers.
import assert from "node:assert/strict";
import test from "node:test";
import { anotherName, backOffMs, chunkCountOf, chunkRange, chunkSizeOf, faultOfKey, inWords, MIB, Patience, Rate, summary } from "../../webui/static/js/transfers/plan.js";

test("chunks cover a file, each byte once", () => {
  for (const size of [0, 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 100 * MIB, 16_000 * MIB + 1, 5 * 2 ** 40]) {
    const chunkSize = chunkSizeOf(size);
    const count = chunkCountOf(size, chunkSize);
    assert.ok(count >= 1 && count <= 1000, `${count} chunks of ${size} bytes`);
    assert.equal(chunkSize % MIB, 0);
    let covered = 0;
    for (let index = 0; index < count; index++) {
      const [start, end] = chunkRange(size, chunkSize, index);
      assert.equal(start, covered);
      assert.ok(end - start <= chunkSize && (end > start || size === 0));
      covered = end;
    }
    assert.equal(covered, size);
  }
});

test("a name with a number keeps its folder and its ending", () => {
  /** @type {[string, string][]} */
  const cases = [
    ["cat.jpg", "cat (2).jpg"], ["a/cat.jpg", "a/cat (2).jpg"], ["a.b/cat", "a.b/cat (2)"], ["cat", "cat (2)"],
    [".profile", ".profile (2)"], ["a/.profile", "a/.profile (2)"], ["x.tar.gz", "x.tar (2).gz"], ["ends.", "ends (2)."],
  ];
  for (const [key, other] of cases) assert.equal(anotherName(key, 2), other);
});

test("the length of a key is counted in bytes", () => {
  assert.equal(faultOfKey("a".repeat(1024)), "");
  assert.match(faultOfKey("a".repeat(1025)), /1025 bytes; 1024/);
  assert.equal(faultOfKey("ü".repeat(512)), "");
  assert.match(faultOfKey("ü".repeat(513)), /1026 bytes/);
});

test("waits grow and have an end", () => {
  for (let failures = 1; failures < 40; failures++) {
    const middle = Math.min(15_000, 500 * 2 ** (failures - 1));
    const waited = backOffMs(failures);
    assert.ok(waited >= 0.75 * middle && waited <= 1.25 * middle, `${waited} ms after ${failures} failures`);
  }
});

test("a rate is that of the last seconds", () => {
  const rate = new Rate();
  assert.equal(rate.perSecond(), 0);
  rate.note(0, 0);
  rate.note(200, 1000);
  assert.equal(rate.perSecond(), 0, "too short to say");
  rate.note(1000, 5000);
  assert.equal(rate.perSecond(), 5000);
  for (let second = 2; second <= 20; second++) rate.note(second * 1000, 5000 + (second - 1) * 100);
  assert.equal(rate.perSecond(), 100, "the quick beginning is forgotten");
  rate.note(21_000, 0);
  assert.equal(rate.perSecond(), 0, "an upload that began again does not count backwards");
  rate.note(22_000, 300);
  rate.note(40_000, 600);
  assert.equal(rate.perSecond(), 0, "after a pause it begins anew");
});

test("a summary names what there was", () => {
  assert.equal(summary({ stored: 0, bytes: 0, failed: 0, skipped: 0, seconds: 1 }), "Nothing was uploaded");
  assert.equal(summary({ stored: 1, bytes: 2048, failed: 2, skipped: 1, seconds: 90 }), "1 file, 2.0 KiB stored in 2 min; 1 file skipped; 2 files failed");
});

test("a refusal is told in words, also an unknown one", () => {
  assert.match(inWords({ code: "quota_exceeded", message: "10 of 10 bytes" }), /quota .* 10 of 10 bytes/);
  assert.equal(inWords({ code: "new_code", message: "the moon is full" }), "The moon is full");
  assert.equal(inWords({ code: "new_code", message: "" }), "Something went wrong; try again.");
});

test("patience ends after ten minutes of trying, and a night asleep is none of it", () => {
  const patience = new Patience();
  assert.ok(!patience.isOver(0));
  assert.ok(!patience.isOver(8 * 3_600_000), "asleep");
  assert.ok(!patience.isOver(3_600_000), "the clock was set back");
  let minutes = 0;
  while (!patience.isOver(3_600_000 + ++minutes * 30_000));
  assert.equal(minutes / 2, 9.5, "nine minutes more, and the one that was asleep");
  patience.restore();
  assert.ok(!patience.isOver(0));
});
