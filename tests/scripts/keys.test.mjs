// What keys mean.
import assert from "node:assert/strict";
import test from "node:test";
import { meaningOf, SECOND_MS } from "../../webui/static/js/keys.js";

test("g and a letter go to a page, if the letter comes soon", () => {
  assert.deepEqual(meaningOf("g", Infinity), { does: "begin", path: "" });
  assert.deepEqual(meaningOf("b", 100), { does: "go", path: "/buckets" });
  assert.deepEqual(meaningOf("b", SECOND_MS), null);
  assert.deepEqual(meaningOf("b", Infinity), null);
});

test("other letters mean nothing, also after g", () => {
  for (const key of ["x", "B", "Enter", "constructor", "toString"]) assert.equal(meaningOf(key, 100), null);
});

test("help and search need no g, and work after it", () => {
  for (const since of [100, Infinity]) {
    assert.deepEqual(meaningOf("?", since), { does: "help", path: "/help" });
    assert.deepEqual(meaningOf("/", since), { does: "search", path: "" });
  }
});
