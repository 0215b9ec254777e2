// The page of all buckets: the rules of names, explained while somebody types.

/** @param {HTMLInputElement} input */
function checkRules(input) {
  const list = document.getElementById(input.dataset.rules ?? "");
  let broken = "";
  for (const rule of list?.querySelectorAll("[data-pattern]") ?? []) {
    const holds = new RegExp(`^(?:${rule.getAttribute("data-pattern")})$`).test(input.value);
    rule.classList.toggle("holds", holds && input.value !== "");
    rule.classList.toggle("broken", !holds && input.value !== "");
    if (!holds) broken ||= rule.textContent ?? "";
  }
  input.setCustomValidity(input.value !== "" && broken !== "" ? `A name has ${broken}` : "");
}

/** @param {HTMLElement} main */
export function mount(main) {
  for (const input of main.querySelectorAll("input[data-rules]")) {
    if (input instanceof HTMLInputElement) input.addEventListener("input", () => checkRules(input));
  }
}
