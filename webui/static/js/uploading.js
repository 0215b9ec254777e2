// Uploading: watches where files are chosen and dropped; the rest is loaded when there is something to do.
import { ofDrop, ofField } from "./transfers/chosen.js";
import { answerOtherTabs, remembered } from "./transfers/remembered.js";
import { mountThrough } from "./transfers/through.js";

const load = () => import("./transfers/transfers.js");

/** @param {DragEvent} event @returns {boolean} */
function hasFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

/** Where the files of this page go. @param {HTMLInputElement | null} field @returns {[string, string] | null} bucket and prefix */
function placeOf(field) {
  return field === null ? null : [field.dataset.bucket ?? "", decodeURIComponent(field.dataset.prefix ?? "")];
}

/** The field of this page, if one may upload here. @returns {HTMLInputElement | null} */
function fieldHere() {
  return document.querySelector("input[data-upload]");
}

/** @param {boolean} isOver */
function light(isOver) {
  (document.querySelector("[data-upload-drop]") ?? document.getElementById("main"))?.classList.toggle("dropping", isOver);
}

/** @param {Iterable<import("./transfers/chosen.js").Chosen> | AsyncIterable<import("./transfers/chosen.js").Chosen>} chosen @param {[string, string] | null} place */
async function upload(chosen, place) {
  if (place !== null) (await load()).add(chosen, ...place);
}

export function mountUploading() {
  mountThrough();
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (!(field instanceof HTMLInputElement) || field.dataset.upload === undefined || field.files === null) return;
    const chosen = ofField(field.files);
    field.value = ""; // the same file may be chosen again
    void upload(chosen, placeOf(field));
  });
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // or the browser leaves the page to show the file
    const isTaken = fieldHere() !== null;
    if (event.dataTransfer !== null) event.dataTransfer.dropEffect = isTaken ? "copy" : "none";
    light(isTaken);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) light(false);
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event) || event.dataTransfer === null) return;
    event.preventDefault();
    light(false);
    const place = placeOf(fieldHere());
    if (place !== null) void upload(ofDrop(event.dataTransfer), place); // now: after this event nothing is in there
  });
  if (document.body.dataset.key) {
    answerOtherTabs();
    void remembered().then(async (records) => {
      if (records.length > 0) (await load()).restore();
    });
  }
}
