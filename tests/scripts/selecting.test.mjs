// Lines of a list that are chosen.
import assert from "node:assert/strict";
import test from "node:test";
import { between, itemOf, jsonOf, wordsOf } from "../../webui/static/js/selecting.js";

test("a line is an object or a folder, whatever its name", () => {
  assert.deepEqual(itemOf("o:12:a.txt"), { kind: "o", size: 12, key: "a.txt" });
  assert.deepEqual(itemOf("p::raw%2F"), { kind: "p", size: 0, key: "raw/" });
  assert.deepEqual(itemOf("o:0:a:b:%3A%25%0A"), { kind: "o", size: 0, key: "a:b::%\n" });
});

test("a range goes both ways and needs both ends", () => {
  const lines = ["a", "b", "c", "d"];
  assert.deepEqual(between(lines, "b", "d"), ["b", "c", "d"]);
  assert.deepEqual(between(lines, "d", "b"), ["b", "c", "d"]);
  assert.deepEqual(between(lines, "b", "b"), ["b"]);
  assert.deepEqual(between(lines, null, "c"), ["c"]);
  assert.deepEqual(between(lines, "gone", "c"), ["c"]);
});

test("a selection is sent as the console reads it", () => {
  const items = ["o:12:a.txt", "p::raw%2F", "o:0:%22"].map(itemOf);
  assert.deepEqual(JSON.parse(jsonOf(items)), { keys: [["a.txt", 12], ['"', 0]], prefixes: ["raw/"] });
});

test("a selection is told in words", () => {
  assert.equal(wordsOf(["o:1024:a", "o:1024:b"].map(itemOf)), "2 objects, 2.0 KiB");
  assert.equal(wordsOf(["p::a%2F"].map(itemOf)), "1 folder");
  assert.equal(wordsOf(["p::a%2F", "o:1:b"].map(itemOf)), "1 folder, 1 object, 1 B");
});
