// Numbers as people read them.
import assert from "node:assert/strict";
import test from "node:test";
import { formatSize, formatSpan, plural } from "../../webui/static/js/formats.js";

test("sizes are rounded to what a person reads", () => {
  const cases = { 0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 102_400: "100 KiB", 1_932_735_283: "1.8 GiB", [2 ** 50]: "1.0 PiB", [2 ** 61]: "2048 PiB" };
  for (const [bytes, words] of Object.entries(cases)) assert.equal(formatSize(Number(bytes)), words);
});

test("a span has one unit and is never nothing", () => {
  /** @type {[number, string][]} */
  const cases = [[0, "1 s"], [59, "59 s"], [60, "1 min"], [3599, "60 min"], [5400, "1.5 h"], [86_400, "1 day"], [200_000, "2 days"], [Infinity, "–"], [NaN, "–"]];
  for (const [seconds, words] of cases) assert.equal(formatSpan(seconds), words);
});

test("one is not many", () => {
  assert.equal(plural(1, "file"), "1 file");
  assert.equal(plural(0, "file"), "0 files");
  assert.equal(plural(1234, "file"), "1,234 files");
});
