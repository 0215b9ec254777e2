// A store and its console, as an upload in a browser meets them, and the parts of a browser that it uses.
//
// Import it before the scripts under test. `ask` and `put` may be replaced by a test, to refuse or to fail.
import { crc32c, inDigits } from "../../webui/static/js/transfers/crc32c.js";

const DISK = "http://disk.test:1";
const CHUNK = 4; // bytes; the console decides

/** A refusal of the console or of a volume actor. */
export class Refusal extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message = code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class FakeStore {
  constructor() {
    /** @type {Map<string, string>} */
    this.objects = new Map();
    /** @type {Map<string, { key: string, size: number, chunkSize: number, chunks: Map<number, string> }>} */
    this.uploads = new Map();
    /** @type {string[]} what the console was asked: "begin", "slots", "finish", "abort", and PUTs: "put ID/N", "through ID/N" */
    this.asked = [];
    /** @type {number[][]} of requests for slots */
    this.excluded = [];
    this.onTheWay = 0;
    this.onTheWayMax = 0;
    /** @type {(what: string, body: any) => void} throws a `Refusal`, or anything else: the connection broke */
    this.ask = () => {};
    /** @type {(place: string, text: string) => string | Promise<string>} what arrives of a chunk */
    this.put = (_place, text) => text;
    this.changed = () => {}; // called when a chunk has come
    this.counter = 0;
    this.expiresS = 300;
  }

  /** @param {string} path @param {any} body @returns {any[]} */
  answer(path, body) {
    const what = path.split("/uploads")[1]?.slice(1) || "begin";
    this.asked.push(what);
    this.ask(what, body);
    return (body.files ?? body.uploads).map((/** @type {any} */ one) => {
      try {
        return this.results[/** @type {"begin"} */ (what)](one);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        return { code: error.code, message: error.message, status: error.status };
      }
    });
  }

  results = {
    /** @param {any} file */
    begin: (file) => {
      if (file.if_exists === "ask" && this.objects.has(file.key)) return { exists: { size: 1, created_ms: 0 } };
      const id = `${++this.counter}`;
      this.uploads.set(id, { key: file.key, size: file.size, chunkSize: CHUNK, chunks: new Map() });
      return { id, chunk_size: CHUNK, slots: [0, 1].filter((chunk) => chunk * CHUNK < file.size || chunk === 0).map((chunk) => this.slot(id, chunk)) };
    },
    /** @param {any} known */
    slots: (known) => {
      this.upload(known.id);
      this.excluded.push(known.exclude);
      return { slots: known.chunks.map((/** @type {number} */ chunk) => this.slot(known.id, chunk)) };
    },
    /** @param {any} known */
    finish: (known) => {
      const { key, size, chunks } = this.upload(known.id);
      const text = [...chunks.keys()].sort((a, b) => a - b).map((chunk) => chunks.get(chunk)).join("");
      if (text.length !== size) throw new Refusal(409, "upload_incomplete");
      this.objects.set(key, text);
      this.uploads.delete(known.id);
      return { etag: "", size, created_ms: 0 };
    },
    /** @param {any} known */
    abort: (known) => {
      this.uploads.delete(known.id);
      return {};
    },
  };

  /** @param {string} id */
  upload(id) {
    const found = this.uploads.get(id);
    if (found === undefined) throw new Refusal(404, "no_such_upload");
    return found;
  }

  /** @param {string} id @param {number} chunk */
  slot(id, chunk) {
    return { chunk, volume: chunk, url: `${DISK}/v1/needles/${id}/${chunk}`, token: "t", expires_in_s: this.expiresS };
  }

  /** A chunk comes. @param {string} url @param {Blob} bytes @returns {Promise<any>} */
  async take(url, bytes) {
    const [id, index] = url.split("?")[0].split("/").slice(-2);
    const isThrough = !url.startsWith(DISK);
    this.asked.push(`${isThrough ? "through" : "put"} ${id}/${index}`);
    this.onTheWayMax = Math.max(this.onTheWayMax, ++this.onTheWay);
    try {
      const sent = await bytes.text();
      const arriving = this.put(isThrough ? "console" : DISK, sent);
      this.changed();
      const text = await arriving;
      this.upload(id).chunks.set(Number(index), text);
      const crc = inDigits(crc32c(new TextEncoder().encode(text)));
      return isThrough ? { crc32c: crc } : { etag: `1-1-${crc}` };
    } finally {
      this.onTheWay -= 1;
    }
  }
}

let store = new FakeStore();

/** A new store for a test. @returns {FakeStore} */
export function freshStore() {
  Object.assign(globalThis, { window: new EventTarget() }); // a queue listens to it for good
  return (store = new FakeStore());
}

/** @param {unknown} error @returns {[number, string]} */
function refused(error) {
  if (!(error instanceof Refusal)) throw error;
  return [error.status, JSON.stringify({ code: error.code, message: error.message })];
}

/** @param {string} url @param {Blob} bytes @returns {Promise<[number, string]>} */
async function answered(url, bytes) {
  try {
    return [201, JSON.stringify(await store.take(url, bytes))];
  } catch (error) {
    return refused(error);
  }
}

/** As much of XMLHttpRequest as a PUT needs. */
class FakeRequest {
  /** @type {{ onprogress: (event: { loaded: number }) => void }} */
  upload = { onprogress: () => {} };
  onload = () => {};
  onerror = () => {};
  onabort = () => {};
  setRequestHeader = () => {};
  url = "";
  status = 0;
  responseText = "";
  isOver = false;

  /** @param {string} _method @param {string} url */
  open(_method, url) {
    this.url = url;
  }

  abort() {
    if (this.isOver) return;
    this.isOver = true;
    this.onabort();
  }

  /** @param {Blob} bytes */
  async send(bytes) {
    try {
      [this.status, this.responseText] = await answered(this.url, bytes);
      if (this.isOver) return;
      this.upload.onprogress({ loaded: bytes.size });
      this.isOver = true;
      this.onload();
    } catch {
      if (!this.isOver) this.onerror();
      this.isOver = true;
    }
  }
}

/** @param {string} url @param {{ body?: string }} [options] @returns {Promise<Response>} */
async function fakeFetch(url, options = {}) {
  if (options.body === undefined) return new Response(null, { status: 204 }); // is anybody there?
  const headers = { "Content-Type": "application/json" };
  try {
    return new Response(JSON.stringify({ results: store.answer(url, JSON.parse(options.body)) }), { headers });
  } catch (error) {
    const [status, body] = refused(error);
    return new Response(body, { status, headers });
  }
}

/** A worker that runs in this thread: one kind, and one of it. */
class FakeWorker extends EventTarget {
  /** @param {URL} url */
  constructor(url) {
    super();
    Object.assign(inner, { postMessage: (/** @type {any} */ data) => this.dispatchEvent(new MessageEvent("message", { data })) });
    /** @type {Promise<unknown>} */
    this.ready = import(url.href);
  }

  /** @param {any} data */
  postMessage(data) {
    void this.ready.then(() => inner.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {}
}

const inner = new EventTarget(); // what the worker's script sees as itself
Object.assign(globalThis, {
  self: inner,
  document: { body: { dataset: { root: "", csrf: "c", key: "k" } } },
  location: new URL("http://console.test/buckets/photos"),
  sessionStorage: { getItem: () => null, setItem: () => {} },
  fetch: fakeFetch,
  XMLHttpRequest: FakeRequest,
  Worker: FakeWorker,
});
