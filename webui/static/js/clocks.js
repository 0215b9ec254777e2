// Times as local people write them; the exact time stays on hover.

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const both = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** @param {Date} moment @returns {string} */
function shown(moment) {
  const now = new Date();
  const seconds = (now.getTime() - moment.getTime()) / 1000;
  if (seconds >= 0 && seconds < 60) return "just now";
  if (seconds >= 0 && seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (moment.toDateString() === now.toDateString()) return clock.format(moment);
  return day.format(moment);
}

/** Show all times below an element. @param {ParentNode} where */
export function mountClocks(where) {
  for (const element of where.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(moment.getTime())) continue;
    const text = element.hasAttribute("data-clock") ? clock.format(moment) : shown(moment);
    if (element.textContent !== text) element.textContent = text;
    element.setAttribute("title", both.format(moment));
  }
}

setInterval(() => mountClocks(document), 30_000);
