// Routes: straight to a volume actor, or through the console where a browser cannot reach it.
import { csrf, root } from "../shared.js";
import { isConsoleHere, whyNot } from "./sending.js";
import { rememberThrough } from "./through.js";

const FAILURES_FIRST = 2; // of an origin that has never worked
const FAILURES_LATER = 8; // its actor is being started again, probably

export class Routes {
  constructor() {
    /** @type {Map<string, { hasWorked: boolean, failures: number, through: boolean, deciding: Promise<void> | null }>} by origin */
    this.origins = new Map();
    this.words = ""; // what people are told
  }

  /** @param {string} url */
  of(url) {
    const { origin } = new URL(url);
    let known = this.origins.get(origin);
    if (known === undefined) this.origins.set(origin, (known = { hasWorked: false, failures: 0, through: false, deciding: null }));
    return known;
  }

  /** @param {string} url @returns {boolean} */
  isThrough(url) {
    return this.of(url).through;
  }

  /** @param {string} url */
  worked(url) {
    const known = this.of(url);
    known.hasWorked = true;
    known.failures = 0;
  }

  /** A connection broke. @param {string} url */
  async failed(url) {
    const known = this.of(url);
    known.failures += 1;
    if (known.through || known.failures < (known.hasWorked ? FAILURES_LATER : FAILURES_FIRST)) return;
    known.deciding ??= this.decide(known, new URL(url).origin).finally(() => (known.deciding = null));
    await known.deciding;
  }

  /** @param {{ through: boolean }} known @param {string} origin */
  async decide(known, origin) {
    if (!(await isConsoleHere())) return; // the whole network is away
    known.through = true;
    rememberThrough();
    if ((await whyNot(origin)) === "cors") {
      this.words = `Files go through the console, which is slower: the disk at ${origin} does not accept requests of this page. Its operator can add ${location.origin} to the setting http.cors_origins.`;
    } else {
      this.words = `Files go through the console, which is slower: this browser does not reach the disk at ${origin}.` +
        (origin.startsWith("https:") ? ` Open ${origin}/healthz in a tab: if the browser warns of its certificate, install the authority of the store, or use certificates that browsers know.`
          : location.protocol === "https:" ? " A page that came by https may only talk to disks by https: switch tls.mode on."
            : " Ask its operator whether a firewall is in between.");
    }
  }

  /** @param {import("./item.js").Item} item @param {number} index @returns {{ url: string, headers: Record<string, string> }} */
  throughConsole(item, index) {
    const query = new URLSearchParams({ size: `${item.size}`, chunk_size: `${item.chunkSize}` });
    return {
      url: `${root()}/buckets/${encodeURIComponent(item.bucket)}/uploads/${item.uploadId}/${index}?${query}`,
      headers: { "X-CSRF-Token": csrf(), "Accept": "application/json" },
    };
  }
}
