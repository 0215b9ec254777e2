// Counting: how far all uploads of this tab are. Pure: no page, no network.
import { plural } from "../formats.js";
import { summary } from "./plan.js";

/** @typedef {ReturnType<typeof counted>} Count */
/** @typedef {Pick<import("./item.js").Item, "state" | "size" | "sent" | "isActive" | "isOver">} Counted */

/** @param {Counted[]} items */
export function counted(items) {
  const count = { active: 0, paused: 0, asking: 0, lost: 0, failed: 0, stored: 0, skipped: 0, over: 0, bytes: 0, sent: 0, storedBytes: 0 };
  for (const item of items) {
    if (item.isActive) count.active += 1;
    if (item.isOver) count.over += 1;
    if (item.state === "paused" || item.state === "asking" || item.state === "lost" || item.state === "failed" || item.state === "stored" || item.state === "skipped") count[item.state] += 1;
    if (item.state === "stored") count.storedBytes += item.size;
    if (item.isActive || item.state === "paused" || item.state === "stored") {
      count.bytes += item.size;
      count.sent += item.state === "stored" ? item.size : item.sent;
    }
  }
  return count;
}

/**
 * The heading of the panel: what is going on, or how it ended.
 * @param {Count} count @param {number} total how many files there are
 * @param {number} seconds from the first beginning to the last end
 * @returns {string}
 */
export function headingOf(count, total, seconds) {
  if (count.active > 0) return total === 1 ? "Uploading" : `Uploading ${(count.over + count.failed + 1).toLocaleString("en")} of ${total.toLocaleString("en")}`;
  if (count.asking > 0) return "Waiting for an answer";
  if (count.paused > 0) return "Paused";
  if (count.lost > 0 && count.stored + count.failed === 0) return "Unfinished uploads";
  return summary({ stored: count.stored, bytes: count.storedBytes, failed: count.failed, skipped: count.skipped, seconds: Math.max(0.5, seconds) });
}
