// What modules share: where the console is, and requests to it.

/** @type {{ live: { refresh: () => void } | null }} */
export const shared = { live: null };

/** The path in front of all pages; "" mostly. @returns {string} */
export function root() {
  return document.body.dataset.root ?? "";
}

/** A refusal of the console or of the store. */
export class Refused extends Error {
  /** @param {string} message @param {string} code @param {number} status */
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** What a request shows to prove that it comes from a page of this console. @returns {string} */
export function csrf() {
  return document.body.dataset.csrf ?? "";
}

const TOUCHES = ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"];
const TOUCHED_MS = 60_000;
let touchedAt = -Infinity;

/** Notice when somebody touches the page. */
export function mountTouches() {
  for (const kind of TOUCHES) addEventListener(kind, () => (touchedAt = performance.now()), { capture: true, passive: true });
}

/**
 * Headers that every request of a script has. When nobody has touched the page lately, it asks of itself, as after
 * a live update: that keeps nobody signed in.
 * @returns {Record<string, string>}
 */
export function ownHeaders() {
  return {
    "X-CSRF-Token": csrf(),
    ...(performance.now() - touchedAt < TOUCHED_MS ? {} : { "X-By-Itself": "yes" }),
  };
}

/**
 * Ask the console for something, as JSON.
 * @param {string} path below the root
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options] body: a form (`URLSearchParams`), or what becomes JSON
 * @returns {Promise<any>}
 */
export async function ask(path, options = {}) {
  const { body } = options;
  const isJson = body !== undefined && !(body instanceof URLSearchParams);
  const response = await fetch(root() + path, {
    method: options.method ?? (body === undefined ? "GET" : "POST"),
    headers: { "Accept": "application/json", ...ownHeaders(), ...(isJson ? { "Content-Type": "application/json" } : {}) },
    body: body instanceof URLSearchParams ? body : isJson ? JSON.stringify(body) : undefined,
    signal: options.signal,
  });
  const answer = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : {};
  if (response.status === 401) location.assign(`${root()}/sign-in?next=${encodeURIComponent(location.pathname + location.search)}&cause=ended`);
  if (!response.ok) throw new Refused(answer.message ?? `the console answered ${response.status}`, answer.code ?? "", response.status);
  return answer;
}
