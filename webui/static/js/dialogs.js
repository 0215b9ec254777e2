// Dialogs, and buttons that copy: by delegation, so that what a swap brings works at once.

/** @param {string} text @returns {Promise<boolean>} */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea"); // plain http: no clipboard there
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** @type {WeakSet<Element>} questions that were shown: their dialog may have closed, and not be empty yet */
const asked = new WeakSet();

/** Open what the server sent: a swap brought something into <dialog data-asked>. Each swap of a page comes here. */
function openAsked() {
  for (const dialog of document.querySelectorAll("dialog[data-asked]:not([open])")) {
    const question = dialog.firstElementChild;
    if (!(dialog instanceof HTMLDialogElement) || question === null || asked.has(question)) continue;
    asked.add(question);
    dialog.showModal();
  }
}

export function mountDialogs() {
  document.addEventListener("htmx:after:swap", openAsked);
  document.addEventListener("done", () => {
    for (const dialog of document.querySelectorAll("dialog[open]")) if (dialog instanceof HTMLDialogElement) dialog.close();
  });
  document.addEventListener("close", (event) => {
    if (event.target instanceof HTMLDialogElement && event.target.matches("[data-asked]")) event.target.replaceChildren();
  }, true);
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const opener = event.target.closest("[data-opens]");
    if (opener instanceof HTMLElement) {
      const dialog = document.getElementById(opener.dataset.opens ?? "");
      if (dialog instanceof HTMLDialogElement && !dialog.open) dialog.showModal();
      return;
    }
    if (event.target.closest("[data-closes]")) event.target.closest("dialog")?.close();
    if (event.target instanceof HTMLDialogElement) event.target.close(); // its backdrop
    const copier = event.target.closest("[data-copies]");
    if (copier instanceof HTMLElement) {
      void copy(copier.dataset.copies ?? "").then((done) => {
        document.dispatchEvent(new CustomEvent("toasts", {
          detail: { toasts: [done ? { kind: "good", text: "Copied" } : { kind: "bad", text: "The browser does not let this page copy" }] },
        }));
      });
    }
  });
}
