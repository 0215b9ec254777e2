// The page of help: shortcuts can be switched off, and colours chosen.
import { areShortcutsOn, switchShortcuts } from "../shortcuts.js";

const COLOURS = "warehouse-colours"; // colours.js applies it

/** @param {HTMLElement} main */
export function mount(main) {
  const box = main.querySelector("[data-shortcuts-on]");
  if (box instanceof HTMLInputElement) {
    box.checked = areShortcutsOn();
    box.addEventListener("change", () => switchShortcuts(box.checked));
  }
  const colours = main.querySelector("[data-colours-choice]");
  if (colours instanceof HTMLSelectElement) {
    colours.value = document.documentElement.dataset.colours ?? "";
    colours.addEventListener("change", () => keepColours(colours.value));
  }
}

/** @param {string} choice "": as the system has it */
function keepColours(choice) {
  try {
    if (choice === "") localStorage.removeItem(COLOURS);
    else localStorage.setItem(COLOURS, choice);
  } catch {
    return; // nothing to keep it in
  }
  dispatchEvent(new StorageEvent("storage", { key: COLOURS })); // browsers tell the other pages alone
}
