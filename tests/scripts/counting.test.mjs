// How far all uploads are, and the heading that says it.
import assert from "node:assert/strict";
import test from "node:test";
import { counted, headingOf } from "../../webui/static/js/transfers/counting.js";

/** @typedef {import("../../webui/static/js/transfers/item.js").State} State */
/** @param {State} state @param {number} size @param {number} sent */
const upload = (state, size = 100, sent = 0) => ({
  state, size, sent,
  isActive: ["waiting", "sending", "finishing"].includes(state),
  isOver: ["stored", "skipped", "cancelled"].includes(state),
});
/** @param {State[]} states */
const heading = (...states) => headingOf(counted(states.map((state) => upload(state))), states.length, 4);

test("bytes count once they are sent, those of stored files as a whole", () => {
  const count = counted([upload("sending", 100, 30), upload("stored", 50), upload("paused", 10, 5), upload("failed", 1000, 500), upload("skipped", 7)]);
  assert.deepEqual([count.bytes, count.sent, count.storedBytes], [160, 85, 50]);
  assert.deepEqual([count.active, count.paused, count.failed, count.skipped, count.over], [1, 1, 1, 1, 2]);
});

test("the heading says what is going on", () => {
  assert.equal(heading("sending"), "Uploading");
  assert.equal(heading("stored", "failed", "sending", "waiting"), "Uploading 3 of 4");
  assert.equal(heading("asking", "stored"), "Waiting for an answer");
  assert.equal(heading("paused", "stored"), "Paused");
  assert.equal(heading("lost"), "Unfinished uploads");
  assert.equal(heading("stored", "lost"), "1 file, 100 B stored in 4 s");
  assert.equal(heading("failed", "stored", "skipped"), "1 file, 100 B stored in 4 s; 1 file skipped; 1 file failed");
});
