// Sending: one chunk to its volume actor, or through the console, and requests of uploads to the console.
import { csrf, ownHeaders, root } from "../shared.js";
import { checksum } from "./checksums.js";
import { crcOfAnswer } from "./crc32c.js";

const STALLED_MS = 60_000; // no byte has moved for so long
const ASK_MS = 60_000;

/** A refusal, or a connection that broke (status 0). */
export class Failure extends Error {
  /** @param {string} code @param {string} message @param {number} status */
  constructor(code, message, status) {
    super(message);
    this.code = code;
    this.status = status;
  }

  /** Is it worth trying again without anybody doing anything? */
  get passes() {
    return this.status === 0 || this.status === 429 || (this.status >= 500 && this.status !== 507);
  }
}

/**
 * Ask the console.
 * @param {string} path below the root
 * @param {unknown} body
 * @returns {Promise<any[]>} a result for each thing asked for
 */
export async function askConsole(path, body) {
  let response, answer;
  try {
    response = await fetch(root() + path, {
      method: "POST",
      headers: { "Accept": "application/json", "Content-Type": "application/json", "X-CSRF-Token": csrf() },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ASK_MS),
    });
    answer = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : {};
  } catch {
    throw new Failure("link_down", "the console does not answer", 0);
  }
  if (response.status === 401) throw new Failure("signed_out", "you are signed out", 401);
  if (!response.ok) throw new Failure(answer.code ?? "", answer.message ?? `the console answered ${response.status}`, response.status);
  return answer.results;
}

/** Does the console answer? @returns {Promise<boolean>} */
export async function isConsoleHere() {
  try {
    await fetch(`${root()}/uploads/here`, { headers: ownHeaders(), signal: AbortSignal.timeout(10_000) });
    return true;
  } catch {
    return false;
  }
}

/** Why a volume actor cannot be reached from here. @param {string} origin @returns {Promise<"cors" | "unreachable">} */
export async function whyNot(origin) {
  try {
    await fetch(`${origin}/healthz`, { mode: "no-cors", signal: AbortSignal.timeout(5_000) });
    return "cors"; // it answers, and does not let this page see what
  } catch {
    return "unreachable";
  }
}

/**
 * Send a chunk with one PUT, and compare its checksum with that of what was stored.
 * @param {string} url
 * @param {Record<string, string>} headers
 * @param {Blob} bytes
 * @param {(sent: number) => void} progress
 * @returns {{ done: Promise<void>, stop: () => void }} done: a `Failure` if not exactly these bytes are stored; as `put`
 */
export function send(url, headers, bytes, progress) {
  const sum = checksum(bytes);
  const sending = put(url, headers, bytes, progress);
  sending.done.catch(() => sum.stop());
  return {
    done: sending.done.then((answer) => compare(sum.crc, answer)),
    stop: () => {
      sending.stop();
      sum.stop();
    },
  };
}

/** @param {Promise<string>} computed @param {any} answer of whoever has stored the chunk */
async function compare(computed, answer) {
  const sent = await computed.catch((error) => {
    throw new Failure("unreadable", error.message, 500);
  });
  if (sent === "") throw new Failure("stopped", "stopped", 0);
  if (crcOfAnswer(answer) !== sent) throw new Failure("write_failed", "the store has received other bytes than were sent", 503);
}

/**
 * Send bytes of a file with one PUT. The browser reads them from the disk as it sends them.
 * @param {string} url
 * @param {Record<string, string>} headers
 * @param {Blob} bytes
 * @param {(sent: number) => void} progress
 * @returns {{ done: Promise<any>, stop: () => void }} done: the answer, or a `Failure`; after stop, one with the code "stopped"
 */
function put(url, headers, bytes, progress) {
  const request = new XMLHttpRequest();
  let isStopped = false;
  let moved = performance.now();
  const watch = setInterval(() => {
    if (performance.now() - moved > STALLED_MS) request.abort();
  }, 5_000);
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => {
      moved = performance.now();
      progress(event.loaded);
    };
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status === 201) resolve(answer);
      else reject(new Failure(answer.code ?? "", answer.message ?? `the answer was ${request.status}`, request.status));
    };
    request.onerror = () => reject(new Failure("link_down", "the connection broke", 0));
    request.onabort = () => reject(isStopped ? new Failure("stopped", "stopped", 0) : new Failure("stalled", "nothing has moved for a minute", 0));
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.send(bytes);
  });
  const ended = () => clearInterval(watch);
  done.then(ended, ended);
  return {
    done,
    stop: () => {
      isStopped = true;
      request.abort();
    },
  };
}

/** @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
