// Which events a person wants to see.
import assert from "node:assert/strict";
import test from "node:test";
import { fits } from "../../webui/static/js/sifting.js";

const line = { groups: "disks volumes", isProgress: false, text: "Volume 7 of Disk-1 was sealed" };
const all = { kind: "", find: "", hasProgress: true };

test("without a wish every line is shown", () => assert.ok(fits(line, all)));

test("a kind is one of the line's groups, to the letter", () => {
  assert.ok(fits(line, { ...all, kind: "volumes" }));
  assert.ok(!fits(line, { ...all, kind: "vol" }));
});

test("words are found in any case, without the spaces around them", () => {
  assert.ok(fits(line, { ...all, find: " disk-1 " }));
  assert.ok(!fits(line, { ...all, find: "disk-2" }));
});

test("steps of long work are shown to whoever wants them", () => {
  assert.ok(fits({ ...line, isProgress: true }, all));
  assert.ok(!fits({ ...line, isProgress: true }, { ...all, hasProgress: false }));
});
