// Times as local people write them; the exact time stays on hover.
import { clock, exact, inWords } from "./times.js";

/** Show all times below an element. @param {ParentNode} where */
export function mountClocks(where) {
  const now = new Date();
  for (const element of where.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(moment.getTime())) continue;
    const text = element.hasAttribute("data-clock") ? clock.format(moment) : inWords(moment, now);
    if (element.textContent !== text) element.textContent = text;
    element.setAttribute("title", exact.format(moment));
  }
}

setInterval(() => mountClocks(document), 30_000);
