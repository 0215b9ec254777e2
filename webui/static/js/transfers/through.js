// Through: this tab has found that it reaches no volume actor, so its downloads go through the console, too.

const NAME = "warehouse-through-console";

export function rememberThrough() {
  try {
    sessionStorage.setItem(NAME, "yes");
  } catch {
    // no storage: the person sees the browser's own message
  }
}

/** Links of downloads, when they are followed. */
export function mountThrough() {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href*='/download/']") : null;
    if (!(link instanceof HTMLAnchorElement) || link.origin !== location.origin) return;
    try {
      if (sessionStorage.getItem(NAME) === null) return;
    } catch {
      return;
    }
    const address = new URL(link.href);
    address.searchParams.set("through", "console");
    link.href = address.href;
  }, { capture: true });
}
