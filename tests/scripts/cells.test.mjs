// Values and schemas of Parquet files as text.
import assert from "node:assert/strict";
import test from "node:test";
import { affordable, cell, CELL_MAX, COLUMNS_BYTES_MAX, COLUMNS_MAX, fields, FIELDS_MAX } from "../../webui/static/js/drawing/cells.js";

test("every kind of value becomes text", () => {
  /** @type {[unknown, string][]} */
  const cases = [
    [null, ""], [undefined, ""], ["", ""], ["text", "text"], [0, "0"], [false, "false"], [2n ** 63n, "9223372036854775808"],
    [new Date(0), "1970-01-01T00:00:00.000Z"], [new Date(NaN), "–"], [Uint8Array.of(1, 171), "01 ab"],
    [{ a: 1n, b: Uint8Array.of(255), c: [null] }, '{"a":"1","b":"ff","c":[null]}'],
  ];
  for (const [value, text] of cases) assert.equal(cell(value), text);
});

test("long values are cut and say so", () => {
  assert.equal(cell("x".repeat(CELL_MAX)).length, CELL_MAX);
  assert.equal(cell("x".repeat(CELL_MAX + 1)), `${"x".repeat(CELL_MAX)}…`);
  assert.match(cell(new Uint8Array(5000)), /^(00 ){31}00… \(5000 bytes\)$/);
});

/** @param {string} name @param {any[]} children @param {object} more */
const node = (name, children = [], more = {}) => ({ element: { name, repetition_type: "REQUIRED", ...more }, children });

test("fields inside of others have their path", () => {
  const schema = node("schema", [
    node("id", [], { type: "INT64" }),
    node("tags", [node("list", [node("item", [], { type: "BYTE_ARRAY", converted_type: "UTF8" })])], { converted_type: "LIST", repetition_type: "OPTIONAL" }),
  ]);
  assert.deepEqual(fields(schema, [], []), [
    { name: "id", type: "int64", optional: false },
    { name: "tags", type: "list", optional: true },
    { name: "tags › list", type: "group", optional: false },
    { name: "tags › list › item", type: "byte_array, utf8", optional: false },
  ]);
});

test("a schema of thousands of fields is cut", () => {
  const many = node("schema", Array.from({ length: 5000 }, (_, number) => node(`f${number}`)));
  assert.equal(fields(many, [], []).length, FIELDS_MAX);
});

/** @param {Record<string, number>} sizes */
const metadata = (sizes) => ({ row_groups: [{ columns: Object.entries(sizes).map(([name, size]) => ({ meta_data: { path_in_schema: [name, "x"], total_compressed_size: BigInt(size) } })) }] });

test("columns that are too large are left out, and others shown", () => {
  const found = affordable(metadata({ small: 1, huge: COLUMNS_BYTES_MAX, last: 2 }), ["small", "huge", "last"]);
  assert.deepEqual(found, ["small", "last"]);
});

test("no more columns are read than a page shows", () => {
  const names = Array.from({ length: 200 }, (_, number) => `c${number}`);
  assert.equal(affordable(metadata({}), names).length, COLUMNS_MAX);
  assert.deepEqual(affordable({ row_groups: [] }, ["a"]), ["a"]);
});
