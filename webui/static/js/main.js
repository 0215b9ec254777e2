// The entry of every page: what all pages share, and the module that a page names in data-script.
import { mountClocks } from "./clocks.js";
import { mountDialogs } from "./dialogs.js";
import { startLive } from "./live.js";
import { csrf, mountTouches, ownHeaders, root, shared } from "./shared.js";
import { mountShortcuts } from "./shortcuts.js";
import { mountToasts, showToasts } from "./toasts.js";
import { mountUploading } from "./uploading.js";

/** @type {(() => void) | null} What the module of the page before left to be ended. */
let leave = null;
let pageCount = 0; // that have come; a swap of a part is no new page

/** Bring the page to life, again after each swap. */
async function mount() {
  mountClocks(document.body);
  shared.live?.refresh();
  const main = document.getElementById("main");
  if (main === null || main.dataset.mounted === "yes") return;
  const number = ++pageCount;
  leave?.();
  leave = null;
  main.dataset.mounted = "yes";
  const name = main.dataset.script;
  if (name === undefined) return;
  const module = await import(`./pages/${name}.js`);
  if (number === pageCount) leave = module.mount(main) ?? null; // another page may have come meanwhile
}

/** Panels lie over the page: it ends that much later, so that nothing of it stays below them. */
function mountRoomForPanels() {
  const panels = document.getElementById("panels");
  if (panels === null) return;
  const measure = () => document.body.style.setProperty("--panels-height", `${panels.offsetHeight}px`);
  new ResizeObserver(measure).observe(panels);
}

document.addEventListener("htmx:config:request", (event) => {
  const context = /** @type {CustomEvent} */ (event).detail.ctx;
  Object.assign(context.request.headers, ownHeaders());
});
document.addEventListener("htmx:after:swap", () => void mount());
document.addEventListener("htmx:after:settle", () => void mount());
document.addEventListener("toasts", (event) => showToasts(/** @type {CustomEvent} */ (event).detail.toasts));

mountTouches();
mountToasts();
mountRoomForPanels();
mountDialogs();
mountShortcuts();
mountUploading();
if (csrf()) shared.live = startLive(`${root()}/live`);
void mount();
