// Formats: numbers as people read them. Pure: no page, no network.

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
  return plural(Math.round(seconds / 86400), "day");
}

/** @param {number} count @param {string} noun @returns {string} */
export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
