// Times: how long ago something was, as people say it. Pure: no page, no clock.

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
export const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
export const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** @param {Date} moment @param {Date} now @returns {string} */
export function inWords(moment, now) {
  const seconds = (now.getTime() - moment.getTime()) / 1000;
  if (seconds >= 0 && seconds < 60) return "just now";
  if (seconds >= 0 && seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (moment.toDateString() === now.toDateString()) return clock.format(moment);
  return day.format(moment);
}
