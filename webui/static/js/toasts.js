// Toasts: short sentences above everything, read out, that can be dismissed.

const SHOWN_MS = 8_000;

/** @param {HTMLElement} toast */
function bringToLife(toast) {
  const close = document.createElement("button");
  close.type = "button";
  close.className = "plain";
  close.textContent = document.getElementById("toasts")?.dataset.dismiss ?? "Dismiss";
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  if (!toast.classList.contains("bad")) setTimeout(() => toast.remove(), SHOWN_MS);
}

/** An open dialog covers all else and makes it inert: the toasts go into it. */
function bringToFront() {
  const place = document.getElementById("toasts");
  const host = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (place !== null && place.parentElement !== host) host.append(place);
}

/** @param {{ kind: string, text: string }[]} toasts kind: good, warn or bad */
export function showToasts(toasts) {
  bringToFront();
  for (const { kind, text } of toasts) {
    const toast = document.createElement("div");
    toast.className = `toast ${["good", "warn", "bad"].includes(kind) ? kind : "warn"}`;
    const words = document.createElement("span");
    words.textContent = text;
    toast.append(words);
    bringToLife(toast);
    document.getElementById("toasts")?.append(toast);
  }
}

/** Those that came with the page. */
export function mountToasts() {
  for (const toast of document.querySelectorAll("#toasts > .toast")) bringToLife(/** @type {HTMLElement} */ (toast));
  document.addEventListener("close", () => bringToFront(), true);
  document.addEventListener("htmx:before:swap", () => {
    const place = document.getElementById("toasts");
    if (place !== null) document.body.append(place); // what is swapped may be the dialog that they are in
  });
  document.addEventListener("htmx:after:swap", bringToFront);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector("#toasts > .toast:last-child")?.remove();
  });
}
