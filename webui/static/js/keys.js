// Keys: what a key means on every page. Pure: no page, no clock.

export const SECOND_MS = 1_500; // for the letter after g
/** @type {Record<string, string>} */
const PLACES = { o: "/", d: "/volumes", b: "/buckets", k: "/keys", a: "/activity" };

/**
 * @typedef {{ does: "begin" | "go" | "help" | "search", path: string } | null} Meaning
 *   begin: a letter has to follow; go: to the page `path`, if its link is shown
 */

/** @param {string} key as in `KeyboardEvent.key` @param {number} sinceGMs how long ago g was pressed @returns {Meaning} */
export function meaningOf(key, sinceGMs) {
  if (sinceGMs < SECOND_MS && Object.hasOwn(PLACES, key)) return { does: "go", path: PLACES[key] };
  if (key === "g") return { does: "begin", path: "" };
  if (key === "?") return { does: "help", path: "/help" };
  return key === "/" ? { does: "search", path: "" } : null;
}
