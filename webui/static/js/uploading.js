// Uploading: watches where files are chosen and dropped; the rest is loaded when there is something to do.
import { ofDrop, ofField } from "./transfers/chosen.js";
import { answerOtherTabs, remembered } from "./transfers/remembered.js";

const load = () => import("./transfers/transfers.js");

/** @param {DragEvent} event @returns {boolean} */
function hasFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

/** Where a drop goes: the list that it fell onto, or the only one of the page. @param {Event} event @returns {HTMLElement | null} */
function zoneOf(event) {
  const below = event.target instanceof Element ? event.target.closest("[data-upload-drop]") : null;
  return /** @type {HTMLElement | null} */ (below ?? document.querySelector("[data-upload-drop]"));
}

/** @param {boolean} isOver */
function light(isOver) {
  document.querySelector("[data-upload-drop]")?.classList.toggle("dropping", isOver);
}

export function mountUploading() {
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (!(field instanceof HTMLInputElement) || field.dataset.upload === undefined || field.files === null) return;
    const { bucket = "", prefix = "" } = field.dataset;
    const chosen = ofField(field.files);
    field.value = ""; // the same file may be chosen again
    void load().then(({ add }) => add(chosen, bucket, prefix));
  });
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // or the browser leaves the page to show the file
    const zone = zoneOf(event);
    if (event.dataTransfer !== null) event.dataTransfer.dropEffect = zone === null ? "none" : "copy";
    light(zone !== null);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) light(false);
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event) || event.dataTransfer === null) return;
    event.preventDefault();
    light(false);
    const zone = zoneOf(event);
    if (zone === null) return;
    const { bucket = "", prefix = "" } = zone.dataset;
    const chosen = ofDrop(event.dataTransfer); // now: after this event nothing is in there
    void load().then(({ add }) => add(chosen, bucket, prefix));
  });
  if (document.body.dataset.key) {
    answerOtherTabs();
    void remembered().then((records) => {
      if (records.length > 0) void load().then(({ restore }) => restore());
    });
  }
}
