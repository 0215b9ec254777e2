// Files and folders that were chosen or dropped.
import assert from "node:assert/strict";
import test from "node:test";
import { ofDrop, ofField } from "../../webui/static/js/transfers/chosen.js";

const READ_AT_ONCE = 100; // entries that a browser gives of a folder

/** @param {string} name */
const file = (name) => new File(["text"], name);

/** An entry, as all browsers have them. @param {string} name @param {any[] | null} inside of a folder @returns {any} */
function entry(name, inside = null) {
  if (inside === null) return { isFile: true, name, file: (/** @type {(file: File) => void} */ give) => give(file(name)) };
  return {
    isFile: false,
    name,
    createReader() {
      const left = [...inside];
      return { readEntries: (/** @type {(some: any[]) => void} */ give) => give(left.splice(0, READ_AT_ONCE)) };
    },
  };
}

/** A handle, as some browsers have them. @param {string} name @param {any[] | null} inside @returns {any} */
function handle(name, inside = null) {
  if (inside === null) return { kind: "file", name, getFile: async () => file(name) };
  return { kind: "directory", name, values: async function* () { yield* inside; } };
}

/** @param {object} what of the item is there */
const item = (what) => ({ kind: "file", getAsFile: () => null, webkitGetAsEntry: () => null, ...what });

/** @param {any[]} items @returns {Promise<[string, boolean][]>} paths, and whether there is a handle */
async function dropped(...items) {
  const found = [];
  for await (const { path, handle } of ofDrop(/** @type {any} */ ({ items }))) found.push(/** @type {[string, boolean]} */ ([path, handle !== null]));
  return found;
}

test("chosen files keep their place in a chosen folder", () => {
  const files = [file("a.txt"), Object.assign(file("b.txt"), { webkitRelativePath: "pictures/b.txt" })];
  assert.deepEqual(ofField(/** @type {any} */ (files)).map(({ path }) => path), ["a.txt", "pictures/b.txt"]);
});

test("a folder is walked to its end, however much is in it", async () => {
  const many = Array.from({ length: 250 }, (_, number) => entry(`${number}`));
  const found = await dropped(item({ webkitGetAsEntry: () => entry("top", [entry("a"), entry("inner", many), entry("empty", [])]) }));
  assert.equal(found.length, 251);
  assert.deepEqual(found[0], ["top/a", false]);
  assert.deepEqual(found[250], ["top/inner/249", false]);
});

test("handles are taken where there are some, so that files can be opened again", async () => {
  const folder = handle("top", [handle("a"), handle("inner", [handle("b")])]);
  const found = await dropped(
    item({ getAsFileSystemHandle: async () => handle("c"), webkitGetAsEntry: () => entry("c") }),
    item({ getAsFileSystemHandle: async () => folder }),
  );
  assert.deepEqual(found, [["c", true], ["top/a", true], ["top/inner/b", true]]);
});

test("without a handle the entry counts, and without both the file", async () => {
  const found = await dropped(
    item({ getAsFileSystemHandle: async () => { throw new Error("not here"); }, webkitGetAsEntry: () => entry("a") }),
    item({ getAsFileSystemHandle: async () => null, getAsFile: () => file("b") }),
    item({ getAsFile: () => file("c") }),
    item({}),
    { kind: "string" },
  );
  assert.deepEqual(found, [["a", false], ["b", false], ["c", false]]);
});

test("everything is asked of the drop at once, because it is empty afterwards", async () => {
  /** @type {string[]} */
  const asked = [];
  const items = ["a", "b"].map((name) => item({ webkitGetAsEntry: () => (asked.push(name), entry(name)) }));
  ofDrop(/** @type {any} */ ({ items }));
  assert.deepEqual(asked, ["a", "b"]);
});
