// The page of help: shortcuts can be switched off.
import { areShortcutsOn, switchShortcuts } from "../shortcuts.js";

/** @param {HTMLElement} main */
export function mount(main) {
  const box = main.querySelector("[data-shortcuts-on]");
  if (!(box instanceof HTMLInputElement)) return;
  box.checked = areShortcutsOn();
  box.addEventListener("change", () => switchShortcuts(box.checked));
}
