// Live: one WebSocket for the page. An element with data-live="TOPIC" gets a DOM event "live" with each message,
// and "unreachable" in its place while the store is away: nobody can look again then.

const AGAIN_MS = [500, 1_000, 2_000, 5_000, 10_000];

/**
 * @param {string} path of the WebSocket
 * @returns {{ refresh: () => void }} refresh: look again which topics the page watches
 */
export function startLive(path) {
  /** @type {WebSocket | null} */
  let socket = null;
  let failures = 0;
  let watched = "";
  /** @type {number | undefined} */
  let timer;

  function topics() {
    const found = new Set();
    for (const element of document.querySelectorAll("[data-live]")) {
      for (const topic of JSON.parse(element.getAttribute("data-live") ?? "[]")) found.add(topic);
    }
    return [...found].sort();
  }

  function refresh() {
    const wanted = topics();
    if (wanted.length > 0 && socket === null && timer === undefined) connect();
    if (socket?.readyState !== WebSocket.OPEN) return;
    const message = JSON.stringify({ watch: wanted });
    if (message !== watched) socket.send((watched = message));
  }

  /** @param {{ topic: string, unreachable?: boolean }} message */
  function deliver(message) {
    const kind = message.unreachable ? "unreachable" : "live";
    for (const element of document.querySelectorAll("[data-live]")) {
      if (JSON.parse(element.getAttribute("data-live") ?? "[]").includes(message.topic)) {
        element.dispatchEvent(new CustomEvent(kind, { detail: message }));
      }
    }
  }

  function connect() {
    timer = undefined;
    socket = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")));
    socket.addEventListener("open", () => {
      const isAgain = failures > 0;
      failures = 0;
      watched = "";
      document.documentElement.dataset.socket = "on";
      refresh();
      if (isAgain) for (const topic of topics()) deliver({ topic });
    });
    socket.addEventListener("message", (event) => {
      for (const message of JSON.parse(event.data)) deliver(message);
    });
    socket.addEventListener("close", (event) => {
      socket = null;
      document.documentElement.dataset.socket = "off";
      if (event.code === 4401) {
        const root = document.body.dataset.root ?? "";
        location.assign(`${root}/sign-in?cause=ended&next=${encodeURIComponent(location.pathname + location.search)}`);
        return;
      }
      if (event.code === 4402) { // another tab signed out, or switched keys: in a moment the browser has its new cookie
        window.setTimeout(() => location.reload(), 1_000);
        return;
      }
      timer = window.setTimeout(connect, AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]);
    });
  }

  refresh();
  return { refresh };
}
