// Figures: the quantities of the overview, their history as columns, and how each is written. Pure: no page, no network.
import { formatSize } from "./formats.js";

/** @typedef {{ name: string, label: string, colour: string, dash?: number[], fill?: string }} Series */
/** @typedef {{ series: Series[], format: (value: number) => string }} Picture */
/** @typedef {Record<string, (number | null)[]>} Columns by quantity; "at": the times, in seconds */
/** @typedef {{ seconds: number, words: string, apart: number }} Range apart: seconds between two points */

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
/** @param {number} seconds @returns {string} */
export const latency = (seconds) => (seconds < 1e-3 ? `${Math.round(seconds * 1e6)} µs` : seconds < 1 ? `${numbers.format(seconds * 1e3)} ms` : `${numbers.format(seconds)} s`);
/** @param {number} value @returns {string} */
export const perSecond = (value) => `${value >= 10_000 ? whole.format(value) : numbers.format(value)} /s`;

/** @type {Record<string, Picture>} */
export const PICTURES = {
  requests: { format: perSecond, series: [
    { name: "gets", label: "gets", colour: "--accent" },
    { name: "puts", label: "puts", colour: "--good", dash: [6, 4] }] },
  bytes: { format: (value) => `${formatSize(value)}/s`, series: [
    { name: "bytes_out", label: "out", colour: "--accent" },
    { name: "bytes_in", label: "in", colour: "--good", dash: [6, 4] }] },
  latency: { format: latency, series: [
    { name: "get_p99", label: "gets, 99 % within", colour: "--accent" },
    { name: "put_p99", label: "puts, 99 % within", colour: "--good", dash: [6, 4] }] },
  space: { format: formatSize, series: [
    { name: "stored", label: "stored", colour: "--accent", fill: "--accent-wash" },
    { name: "wasted", label: "wasted", colour: "--ink-soft", dash: [2, 3] }] },
  objects: { format: (value) => whole.format(value), series: [{ name: "objects", label: "objects", colour: "--accent", fill: "--accent-wash" }] },
};
/** @type {Record<string, Range>} */
export const RANGES = {
  hour: { seconds: 3600, words: "last hour", apart: 9 },
  day: { seconds: 86_400, words: "last day", apart: 240 },
  month: { seconds: 30 * 86_400, words: "last 30 days", apart: 7200 },
};

/**
 * Add the newest figures to columns, and drop those that are too old.
 * @param {Columns} columns @param {Record<string, number | null>} point @param {Range} range
 * @returns {boolean} false: they come too soon after the ones before, and nothing was added
 */
export function add(columns, point, range) {
  const { at } = columns;
  const now = point.at;
  if (now === null || now - (at.at(-1) ?? 0) < range.apart) return false;
  for (const name of Object.keys(columns)) columns[name].push(point[name] ?? null);
  while (at.length > 0 && (at[0] ?? 0) < now - range.seconds) for (const column of Object.values(columns)) column.shift();
  return true;
}

/** The value of a quantity in words. @param {Picture} picture @param {Columns} columns @param {string} name @param {number} row @returns {string} */
export function wordsAt(picture, columns, name, row) {
  const value = columns[name]?.[row] ?? null;
  return value === null ? "–" : picture.format(value);
}

/** Some rows of many, the newest first and the oldest last. @param {number} count @param {number} most @returns {number[]} */
export function someRows(count, most) {
  const shown = Math.min(most, count);
  return Array.from({ length: shown }, (_, number) => count - 1 - Math.round((number * (count - 1)) / Math.max(1, shown - 1)));
}
