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

/**
 * Ask the console for something, as JSON.
 * @param {string} path below the root
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, options = {}) {
  const response = await fetch(root() + path, {
    method: options.method ?? (options.body === undefined ? "GET" : "POST"),
    headers: {
      "Accept": "application/json",
      "X-CSRF-Token": document.body.dataset.csrf ?? "",
      ...(options.body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    body: options.body === undefined ? undefined : JSON.stringify(options.body),
    signal: options.signal,
  });
  const answer = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : {};
  if (response.status === 401) location.assign(`${root()}/sign-in?next=${encodeURIComponent(location.pathname + location.search)}&cause=ended`);
  if (!response.ok) throw new Refused(answer.message ?? `the console answered ${response.status}`, answer.code ?? "", response.status);
  return answer;
}

/**
 * Send a form to the console, and take its answer as JSON.
 * @param {string} path below the root
 * @param {Record<string, string>} fields
 * @returns {Promise<any>}
 */
export async function askForm(path, fields) {
  const response = await fetch(root() + path, {
    method: "POST",
    headers: { "Accept": "application/json", "X-CSRF-Token": document.body.dataset.csrf ?? "" },
    body: new URLSearchParams(fields),
  });
  const answer = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : {};
  if (!response.ok) throw new Refused(answer.message ?? `the console answered ${response.status}`, answer.code ?? "", response.status);
  return answer;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size for people: 1.8 GiB. @param {number} bytes @returns {string} */
export function formatSize(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** A time span for people: 2 min. @param {number} seconds @returns {string} */
export function formatSpan(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 86400) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
