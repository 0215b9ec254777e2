// The entry of every page: what all pages share, and the module that a page names in data-script.
import { mountClocks } from "./clocks.js";
import { mountDialogs } from "./dialogs.js";
import { startLive } from "./live.js";
import { root, shared } from "./shared.js";
import { mountShortcuts } from "./shortcuts.js";
import { mountToasts, showToasts } from "./toasts.js";
import { mountUploading } from "./uploading.js";

/** @type {(() => void) | null} What the module of the page before left to be ended. */
let leave = null;
let mounted = 0;

/** Bring the page to life, again after each swap. */
async function mount() {
  mountClocks(document.body);
  shared.live?.refresh();
  const main = document.getElementById("main");
  const name = main?.dataset.script;
  const turn = ++mounted;
  if (main === null || main.dataset.mounted === "yes") return;
  leave?.();
  leave = null;
  main.dataset.mounted = "yes";
  if (name === undefined) return;
  const module = await import(`./pages/${name}.js`);
  if (turn === mounted || main.isConnected) leave = module.mount(main) ?? null;
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
  context.request.headers["X-CSRF-Token"] = document.body.dataset.csrf ?? "";
});
document.addEventListener("htmx:after:swap", () => void mount());
document.addEventListener("htmx:after:settle", () => void mount());
document.addEventListener("toasts", (event) => showToasts(/** @type {CustomEvent} */ (event).detail.toasts));

mountToasts();
mountRoomForPanels();
mountDialogs();
mountShortcuts();
mountUploading();
if (document.body.dataset.csrf) shared.live = startLive(`${root()}/live`);
void mount();
