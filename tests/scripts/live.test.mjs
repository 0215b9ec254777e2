// The WebSocket of a page: what it watches, and what it does when the connection ends.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

/** As much of a WebSocket as a page uses; the test is the other end. */
class FakeSocket extends EventTarget {
  static OPEN = 1;
  /** @type {FakeSocket[]} */
  static made = [];
  readyState = 0;
  /** @type {any[]} */
  sent = [];

  /** @param {URL} url */
  constructor(url) {
    super();
    this.url = url.href;
    FakeSocket.made.push(this);
  }

  /** @param {string} message */
  send(message) {
    this.sent.push(JSON.parse(message));
  }

  open() {
    this.readyState = FakeSocket.OPEN;
    this.dispatchEvent(new Event("open"));
  }

  /** @param {object[]} messages */
  say(...messages) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(messages) }));
  }

  /** @param {number} code */
  end(code = 1006) {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code }));
  }
}

/** An element that watches. */
class Watching extends EventTarget {
  /** @type {any[]} */
  heard = [];

  /** @param {string[]} topics */
  constructor(...topics) {
    super();
    this.topics = topics;
    this.addEventListener("live", (event) => this.heard.push(/** @type {CustomEvent} */ (event).detail));
  }

  getAttribute() {
    return JSON.stringify(this.topics);
  }
}

/** @type {Watching[]} */
let shown = [];
/** @type {[() => void, number][]} what is to be done later, and after how many ms */
let later = [];
/** @type {string[]} */
let went = [];

Object.assign(globalThis, {
  WebSocket: FakeSocket,
  document: { querySelectorAll: () => shown, documentElement: { dataset: {} }, body: { dataset: { root: "/store" } } },
  location: { href: "https://console.test/store/buckets?find=a", pathname: "/store/buckets", search: "?find=a", assign: (/** @type {string} */ to) => went.push(to), reload: () => went.push("again") },
  window: { setTimeout: (/** @type {() => void} */ work, /** @type {number} */ ms) => later.push([work, ms]) },
});
const { startLive } = await import("../../webui/static/js/live.js");

/** @returns {FakeSocket} the newest one */
const socket = () => /** @type {FakeSocket} */ (FakeSocket.made.at(-1));

/** Do what was to be done later. @returns {number} how much later */
function passTime() {
  const [work, ms] = later.shift() ?? assert.fail("nothing is to be done later");
  work();
  return ms;
}

beforeEach(() => {
  FakeSocket.made = [];
  shown = [];
  later = [];
  went = [];
});

test("a page that watches nothing has no connection", () => {
  const live = startLive("/store/live");
  assert.equal(FakeSocket.made.length, 0);
  shown = [new Watching("me")];
  live.refresh();
  assert.equal(socket().url, "wss://console.test/store/live");
});

test("each topic is watched once, and said again only when it changes", () => {
  shown = [new Watching("b", "a"), new Watching("a")];
  const live = startLive("/live");
  live.refresh();
  socket().open();
  live.refresh();
  assert.deepEqual(socket().sent, [{ watch: ["a", "b"] }]);
  shown = [new Watching("c")];
  live.refresh();
  assert.deepEqual(socket().sent[1], { watch: ["c"] });
  assert.equal(FakeSocket.made.length, 1);
});

test("a message reaches those that watch its topic", () => {
  shown = [new Watching("a"), new Watching("b"), new Watching("a", "b")];
  startLive("/live");
  socket().open();
  socket().say({ topic: "a", number: 1 }, { topic: "b" });
  assert.deepEqual(shown.map((one) => one.heard.map(({ topic }) => topic)), [["a"], ["b"], ["a", "b"]]);
  assert.equal(shown[0].heard[0].number, 1);
});

test("a store that is away is told as such: nobody looks again, which would fail", () => {
  const one = new Watching("a");
  let count = 0;
  one.addEventListener("unreachable", () => (count += 1));
  shown = [one];
  startLive("/live");
  socket().open();
  socket().say({ topic: "a", unreachable: true }, { topic: "b", unreachable: true });
  assert.deepEqual([count, one.heard.length], [1, 0]);
  socket().say({ topic: "a" });
  assert.deepEqual([count, one.heard.length], [1, 1]);
});

test("after a break it connects again, ever more slowly, and then all look again", () => {
  shown = [new Watching("a", "b")];
  startLive("/live");
  socket().open();
  assert.deepEqual(shown[0].heard, [], "what came with the page is new");
  socket().end();
  const waits = [];
  for (let times = 0; times < 7; times++) {
    waits.push(passTime());
    socket().end();
  }
  assert.deepEqual(waits, [500, 1000, 2000, 5000, 10_000, 10_000, 10_000]);
  passTime();
  socket().open();
  assert.deepEqual(socket().sent, [{ watch: ["a", "b"] }]);
  assert.deepEqual(shown[0].heard, [{ topic: "a" }, { topic: "b" }]);
  socket().end();
  assert.equal(passTime(), 500, "what worked in between counts");
});

test("while it waits to connect again, nothing connects a second time", () => {
  shown = [new Watching("a")];
  const live = startLive("/live");
  socket().end();
  live.refresh();
  assert.equal(FakeSocket.made.length, 1);
});

test("the end of a session leads to the sign-in, and back here afterwards", () => {
  shown = [new Watching("a")];
  startLive("/live");
  socket().open();
  socket().end(4401);
  assert.deepEqual(went, ["/store/sign-in?cause=ended&next=%2Fstore%2Fbuckets%3Ffind%3Da"]);
  assert.deepEqual(later, []);
});

test("another key in another tab loads the page again, in a moment", () => {
  shown = [new Watching("a")];
  startLive("/live");
  socket().open();
  socket().end(4402);
  assert.deepEqual(went, []);
  assert.equal(passTime(), 1000);
  assert.deepEqual(went, ["again"]);
});
