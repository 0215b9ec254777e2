// Selecting: lines of a list of objects that are chosen, and how they are sent and told. Pure: no page, no network.
import { formatSize, plural } from "./formats.js";

/** @typedef {{ kind: "o" | "p", size: number, key: string }} Item a line that is selected: an object or a folder */

/** @param {string} value of a row's checkbox, as in selection.py @returns {Item} */
export function itemOf(value) {
  const [kind, size, ...quoted] = value.split(":");
  return { kind: kind === "p" ? "p" : "o", size: Number(size), key: decodeURIComponent(quoted.join(":")) };
}

/**
 * The lines from one to another, whichever comes first.
 * @template T
 * @param {T[]} lines @param {T | null} from @param {T} to
 * @returns {T[]} only the other where the one is not there any more
 */
export function between(lines, from, to) {
  const ends = [from === null ? -1 : lines.indexOf(from), lines.indexOf(to)];
  return Math.min(...ends) < 0 ? [to] : lines.slice(Math.min(...ends), Math.max(...ends) + 1);
}

/** A selection for the form; see selection.py. @param {Item[]} items @returns {string} */
export function jsonOf(items) {
  return JSON.stringify({
    keys: items.filter((item) => item.kind === "o").map((item) => [item.key, item.size]),
    prefixes: items.filter((item) => item.kind === "p").map((item) => item.key),
  });
}

/** @param {Item[]} items @returns {string} */
export function wordsOf(items) {
  const objects = items.filter((item) => item.kind === "o");
  const folders = items.length - objects.length;
  const words = [];
  if (folders > 0) words.push(plural(folders, "folder"));
  if (objects.length > 0) words.push(plural(objects.length, "object"), formatSize(objects.reduce((sum, item) => sum + item.size, 0)));
  return words.join(", ");
}
