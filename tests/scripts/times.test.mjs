// How long ago something was.
import assert from "node:assert/strict";
import test from "node:test";
import { clock, inWords } from "../../webui/static/js/times.js";

const now = new Date(2026, 5, 15, 12, 0, 0);
/** @param {number} seconds @returns {Date} */
const ago = (seconds) => new Date(now.getTime() - seconds * 1000);

test("what was within the hour is told by how long ago it was", () => {
  assert.equal(inWords(now, now), "just now");
  assert.equal(inWords(ago(59), now), "just now");
  assert.equal(inWords(ago(60), now), "1 min ago");
  assert.equal(inWords(ago(3599), now), "59 min ago");
});

test("what was today is told by the clock, and before that by the day", () => {
  assert.equal(inWords(ago(3600), now), clock.format(ago(3600)));
  assert.match(inWords(ago(86_400), now), /14/);
  assert.match(inWords(ago(86_400), now), /2026/);
});

test("what is yet to come is not told as past", () => {
  assert.equal(inWords(ago(-30), now), clock.format(ago(-30)));
  assert.match(inWords(ago(-86_400), now), /16/);
});
