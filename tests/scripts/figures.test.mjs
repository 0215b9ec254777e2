// Figures of the overview and their history.
import assert from "node:assert/strict";
import test from "node:test";
import { add, latency, perSecond, PICTURES, RANGES, someRows, wordsAt } from "../../webui/static/js/figures.js";

test("a latency has the unit that suits it", () => {
  assert.equal(latency(0.000_047), "47 µs");
  assert.equal(latency(0.0034), "3.4 ms");
  assert.equal(latency(1.25), "1.3 s");
});

test("a rate is short when it is large", () => {
  assert.equal(perSecond(0), "0 /s");
  assert.equal(perSecond(9999), "9,999 /s");
  assert.equal(perSecond(12_345), "12.3K /s");
});

test("a new point goes into every column, and what it lacks is a gap", () => {
  const columns = { at: [100], gets: [1], puts: [2] };
  assert.ok(add(columns, { at: 110, gets: 5 }, RANGES.hour));
  assert.deepEqual(columns, { at: [100, 110], gets: [1, 5], puts: [2, null] });
});

test("points that come too soon, or without a time, are left out", () => {
  const columns = { at: [100], gets: [1] };
  assert.ok(!add(columns, { at: 108, gets: 5 }, RANGES.hour));
  assert.ok(!add(columns, { at: null, gets: 5 }, RANGES.hour));
  assert.deepEqual(columns, { at: [100], gets: [1] });
});

test("what is older than the range goes, from all columns", () => {
  const columns = { at: [0, 1000, 3000], gets: [1, 2, 3] };
  add(columns, { at: 4601, gets: 4 }, RANGES.hour);
  assert.deepEqual(columns, { at: [3000, 4601], gets: [3, 4] });
});

test("an empty history takes its first point", () => {
  const columns = { at: [], gets: [] };
  assert.ok(add(columns, { at: 1_700_000_000, gets: 1 }, RANGES.month));
  assert.deepEqual(columns.at, [1_700_000_000]);
});

test("a value that is not there is a dash", () => {
  const columns = { at: [1, 2], gets: [10, null] };
  assert.equal(wordsAt(PICTURES.requests, columns, "gets", 0), "10 /s");
  for (const [name, row] of /** @type {[string, number][]} */ ([["gets", 1], ["gets", 2], ["gets", -1], ["puts", 0]])) {
    assert.equal(wordsAt(PICTURES.requests, columns, name, row), "–");
  }
});

test("some rows are the newest, the oldest, and what lies between", () => {
  assert.deepEqual(someRows(0, 12), []);
  assert.deepEqual(someRows(1, 12), [0]);
  assert.deepEqual(someRows(3, 12), [2, 1, 0]);
  const rows = someRows(400, 12);
  assert.equal(rows.length, 12);
  assert.deepEqual([rows[0], rows[11]], [399, 0]);
  assert.deepEqual(rows, [...new Set(rows)].sort((a, b) => b - a));
});

test("every picture names columns that have a colour", () => {
  for (const picture of Object.values(PICTURES)) for (const one of picture.series) assert.match(one.colour, /^--[a-z-]+$/);
});
