// The queue of uploads, against a store that refuses, breaks and damages.
import assert from "node:assert/strict";
import test from "node:test";
import { freshStore, Refusal } from "./fake_store.mjs";

const { Item } = await import("../../webui/static/js/transfers/item.js");
const { Queue } = await import("../../webui/static/js/transfers/queue.js");

/** @typedef {import("../../webui/static/js/transfers/item.js").Item} Upload */
/** @typedef {import("../../webui/static/js/transfers/item.js").State} State */

const PATIENCE_MS = 20_000;

/** A queue, and a way to wait for what it does. */
function begin() {
  const store = freshStore();
  /** @type {Set<() => void>} */
  const listening = new Set();
  const look = () => listening.forEach((listener) => listener());
  const queue = new Queue(look);
  store.changed = look;
  /** @type {{ answer: "replace" | "both" | "skip" | null }} */
  const group = { answer: null };

  /** @param {string} key @param {string} text @returns {Upload} */
  function file(key, text) {
    return new Item({ bucket: "photos", key, path: key, file: new File([text], key, { lastModified: 1 }), handle: null, group });
  }

  /** @param {() => boolean} condition @returns {Promise<void>} */
  function until(condition) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`it did not come to ${condition}: ${store.asked}`)), PATIENCE_MS);
      const listener = () => {
        if (!condition()) return;
        clearTimeout(timer);
        listening.delete(listener);
        resolve();
      };
      listening.add(listener);
      listener();
    });
  }

  /** @param {State} state @param {Upload[]} items */
  const all = (state, ...items) => until(() => items.every((item) => item.state === state));
  return { store, queue, file, until, all };
}

test("files are stored as they are, whatever their size", async () => {
  const { store, queue, file, all } = begin();
  const items = [file("empty", ""), file("a", "abcd"), file("b", "abcdefghij")];
  queue.add(items);
  await all("stored", ...items);
  assert.deepEqual(Object.fromEntries(store.objects), { empty: "", a: "abcd", b: "abcdefghij" });
  assert.equal(store.asked.filter((what) => what === "begin").length, 1, "one question for all three");
  assert.ok(items.every((item) => item.file === null), "the files are let go");
});

test("six chunks are on their way at most, four of one file", async () => {
  const { store, queue, file, until, all } = begin();
  /** @type {(() => void)[]} */
  const held = [];
  store.put = (_place, text) => new Promise((resolve) => held.push(() => resolve(text)));
  const items = [file("a", "a".repeat(40)), file("b", "b".repeat(40))];
  queue.add(items);
  await until(() => held.length === 6);
  assert.deepEqual(items.map((item) => item.onTheWay.size), [4, 2]);
  store.put = (_place, text) => text;
  held.forEach((release) => release());
  await all("stored", ...items);
  assert.equal(store.onTheWayMax, 6);
});

test("a chunk that is stored damaged is sent again, and no other chunk is", async () => {
  const { store, queue, file, all } = begin();
  let isDamaged = false;
  store.put = (_place, text) => {
    if (isDamaged || text !== "efgh") return text;
    isDamaged = true;
    return "ef?h";
  };
  const item = file("a", "abcdefghij");
  queue.add([item]);
  await all("stored", item);
  assert.equal(store.objects.get("a"), "abcdefghij");
  assert.deepEqual(store.asked.filter((what) => what.startsWith("put")).sort(), ["put 1/0", "put 1/1", "put 1/1", "put 1/2"]);
});

test("a volume that failed is passed over, as long as there is another", async () => {
  const { store, queue, file, all } = begin();
  let failures = 0;
  store.put = (_place, text) => {
    if (++failures <= 1) throw new Refusal(503, "volume_offline");
    return text;
  };
  const more = store.results.slots;
  store.results.slots = (known) => {
    const found = more(known);
    if (known.exclude.length > 0) throw new Refusal(503, "volume_offline", "there is no other volume");
    return found;
  };
  const item = file("a", "abcd");
  queue.add([item]);
  await all("stored", item);
  assert.deepEqual(store.excluded, [[0], []]);
});

test("an answer without a checksum proves nothing", async () => {
  const { store, queue, file, until } = begin();
  const take = store.take.bind(store);
  store.take = async (url, bytes) => {
    await take(url, bytes);
    return {};
  };
  const item = file("a", "abcd");
  queue.add([item]);
  await until(() => item.words.includes("other bytes than were sent"));
  assert.equal(item.confirmed.size, 0);
  queue.cancel([item]);
});

test("a file that exists is asked about, and the answer is for all of its drop", async () => {
  const { store, queue, file, until, all } = begin();
  store.objects.set("a", "old").set("b", "old");
  const items = [file("a", "new"), file("b", "new"), file("c", "new")];
  queue.add(items);
  await until(() => items[0].state === "asking" && items[1].state === "asking" && items[2].state === "stored");
  queue.decide("replace");
  await all("stored", ...items);
  assert.deepEqual(Object.fromEntries(store.objects), { a: "new", b: "new", c: "new" });
});

test("keeping both finds a name that is free", async () => {
  const { store, queue, file, all } = begin();
  store.objects.set("x/a.txt", "old").set("x/a (2).txt", "old");
  const item = file("x/a.txt", "new");
  queue.add([item]);
  await all("asking", item);
  queue.decide("both");
  await all("stored", item);
  assert.equal(store.objects.get("x/a (3).txt"), "new");
  assert.equal(store.objects.get("x/a.txt"), "old");
});

test("a file that came into being meanwhile is not replaced without a word", async () => {
  const { store, queue, file, all } = begin();
  store.ask = (what) => {
    if (what === "finish" && !store.objects.has("a")) {
      store.objects.set("a", "of another");
      store.results.finish = () => { throw new Refusal(412, "precondition_failed"); };
    }
  };
  const item = file("a", "mine");
  queue.add([item]);
  await all("asking", item);
  queue.decide("skip");
  assert.equal(item.state, "skipped");
  assert.equal(store.objects.get("a"), "of another");
});

test("what one file is refused for does not stop the others", async () => {
  const { store, queue, file, until } = begin();
  const inner = store.results.begin;
  store.results.begin = (/** @type {any} */ wish) => {
    if (wish.key === "large") throw new Refusal(507, "quota_exceeded", "10 of 10 bytes");
    return inner(wish);
  };
  const items = [file("large", "text"), file("small", "text")];
  queue.add(items);
  await until(() => items[0].state === "failed" && items[1].state === "stored");
  assert.match(items[0].words, /more than the quota leaves: 10 of 10 bytes/);
});

test("a name that is too long fails before anybody is asked", () => {
  const { store, queue, file } = begin();
  const item = file("x".repeat(1025), "text");
  queue.add([item]);
  assert.equal(item.state, "failed");
  assert.deepEqual(store.asked, []);
});

test("a paused file sends nothing, and goes on with what is missing", async () => {
  const { store, queue, file, until, all } = begin();
  /** @type {(() => void)[]} */
  const held = [];
  store.put = (_place, text) => (text === "abcd" ? text : new Promise((resolve) => held.push(() => resolve(text))));
  const item = file("a", "abcdefghij");
  queue.add([item]);
  await until(() => item.confirmed.has(0) && held.length === 2);
  queue.pause(item);
  assert.equal(item.onTheWay.size, 0);
  store.put = (_place, text) => text;
  queue.resume(item);
  await all("stored", item);
  assert.equal(store.asked.filter((what) => what === "put 1/0").length, 1);
  assert.equal(store.objects.get("a"), "abcdefghij");
});

test("what is cancelled is given up in the store, too", async () => {
  const { store, queue, file, until } = begin();
  store.put = () => new Promise(() => {});
  const item = file("a", "abcd");
  queue.add([item]);
  await until(() => item.onTheWay.size === 1);
  queue.cancel([item]);
  assert.equal(item.state, "cancelled");
  assert.equal(store.asked.at(-1), "abort");
  await until(() => store.uploads.size === 0);
});

test("a console that is away is waited for", async () => {
  const { store, queue, file, until, all } = begin();
  store.ask = () => { throw new Error("no route"); };
  const item = file("a", "abcd");
  queue.add([item]);
  await until(() => queue.trouble.includes("trying again"));
  store.ask = () => {};
  queue.tryNow();
  await all("stored", item);
  assert.equal(queue.trouble, "");
});

test("who is signed out uploads nothing, and goes on after signing in", async () => {
  const { store, queue, file, until, all } = begin();
  store.ask = () => { throw new Refusal(401, "not_authenticated"); };
  const item = file("a", "abcd");
  queue.add([item]);
  await until(() => queue.isSignedOut);
  const asked = store.asked.length;
  queue.pump();
  assert.equal(store.asked.length, asked);
  store.ask = () => {};
  queue.tryNow();
  await all("stored", item);
});

test("an upload that the store has given up begins again, a few times", async () => {
  const { store, queue, file, until } = begin();
  store.results.finish = () => { throw new Refusal(404, "no_such_upload", "it has expired"); };
  const item = file("a", "abcd");
  queue.add([item]);
  await until(() => item.state === "failed");
  assert.equal(store.asked.filter((what) => what === "begin").length, 4);
});

test("a slot that has expired is not used", async () => {
  const { store, queue, file, until } = begin();
  store.expiresS = 1; // less than the margin
  const item = file("a", "abcd");
  queue.add([item]);
  await until(() => store.asked.includes("slots"));
  queue.cancel([item]);
  assert.ok(!store.asked.some((what) => what.startsWith("put")));
});

test("chunks go through the console where the browser reaches no disk", async () => {
  const { store, queue, file, all } = begin();
  store.put = (place, text) => {
    if (place !== "console") throw new Error("blocked");
    return text;
  };
  const items = [file("a", "abcdefgh"), file("b", "abcd")];
  queue.add(items);
  await all("stored", ...items);
  assert.deepEqual(Object.fromEntries(store.objects), { a: "abcdefgh", b: "abcd" });
  assert.match(queue.routes.words, /Files go through the console.*http\.cors_origins/);
});

test("a file that was left goes on with the same file only", async () => {
  const { store, queue, file, all } = begin();
  store.uploads.set("9", { key: "a", size: 10, chunkSize: 4, chunks: new Map([[0, "abcd"]]) });
  const kept = { ...file("a", "abcdefghij").record(), uploadId: "9", chunkSize: 4, confirmed: [0] };
  const item = Item.ofRecord(kept, { answer: null });
  assert.equal(item.state, "lost");
  const same = new File(["abcdefghij"], "a", { lastModified: 1 });
  assert.ok(item.isOf(same));
  assert.ok(!item.isOf(new File(["abcdefghij"], "a", { lastModified: 2 })));
  assert.ok(!item.isOf(new File(["abcdefghi"], "a", { lastModified: 1 })));
  queue.items.push(item);
  queue.found(item, same);
  await all("stored", item);
  assert.equal(store.objects.get("a"), "abcdefghij");
  assert.ok(!store.asked.includes("begin") && !store.asked.includes("put 9/0"), `${store.asked}`);
});

/** @param {number} ms how far the clock jumps */
function setClock(ms) {
  const now = Date.now.bind(Date);
  Date.now = () => now() + ms;
  return { back: () => void (Date.now = now) };
}

for (const hours of [1, -1]) {
  for (const what of ["the console", "a disk"]) {
    test(`an upload waits for ${what} when the clock has jumped by ${hours} h in between`, async () => {
      const { store, queue, file, all } = begin();
      let failures = 0;
      /** @type {{ back: () => void } | null} */
      let clock = null;
      const fail = () => {
        if (failures++ >= 2) return;
        // As after a sleep: the network is away, and is not back at the first try.
        setTimeout(() => (clock ??= setClock(hours * 3_600_000)), 0);
        throw new Error("the network is away");
      };
      if (what === "the console") store.ask = fail;
      else store.put = (_place, text) => (fail(), text);
      const item = file("a", "abcd");
      queue.add([item]);
      try {
        await all("stored", item);
      } finally {
        /** @type {any} */ (clock)?.back();
      }
      assert.equal(store.objects.get("a"), "abcd");
    });
  }
}
