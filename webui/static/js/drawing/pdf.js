// PDF: pages as pictures, drawn by pdf.js in this page and its worker: no evaluation of code, no WebAssembly,
// no scripts of the document, no links.

const PAGES_AT_ONCE = 5;
const PAGES_MAX = 200;
const WIDTH_MAX = 900; // CSS pixels
const PIXELS_MAX = 16_000_000; // of one page

/** @type {import("../pages/details.js").Draw} */
export async function draw(place, source, size, signal) {
  const vendor = new URL("../../vendor/", import.meta.url).href;
  const pdf = await import(`${vendor}pdf.min.mjs`);
  pdf.GlobalWorkerOptions.workerSrc = `${vendor}pdf.worker.min.mjs`;
  const loading = pdf.getDocument({
    url: new URL(source, location.href).href,
    disableAutoFetch: true,
    disableStream: true,
    enableXfa: false,
    isEvalSupported: false,
    useWasm: false,
    maxImageSize: PIXELS_MAX,
    canvasMaxAreaInBytes: PIXELS_MAX * 4,
    length: size,
    verbosity: 0,
  });
  signal.addEventListener("abort", () => void loading.destroy());
  const file = await loading.promise;
  const count = Math.min(file.numPages, PAGES_MAX);
  const words = document.createElement("p");
  words.className = "soft s";
  words.setAttribute("role", "status");
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = "More pages";
  place.replaceChildren(words, more);
  let shown = 0;

  async function drawSome() {
    more.disabled = true;
    const end = Math.min(shown + PAGES_AT_ONCE, count);
    while (shown < end && !signal.aborted) {
      const name = `Page ${shown + 1} of ${file.numPages}`;
      const drawn = await drawPage(file, shown + 1, Math.min(WIDTH_MAX, place.clientWidth)).catch((error) => sorry(name, error));
      if (drawn instanceof HTMLCanvasElement) {
        drawn.setAttribute("role", "img");
        drawn.setAttribute("aria-label", name);
      } else if (signal.aborted) return;
      more.before(drawn);
      shown += 1;
    }
    words.textContent = shown < file.numPages ? `The first ${shown} of ${file.numPages} pages are shown.` : `${file.numPages} ${file.numPages === 1 ? "page" : "pages"}.`;
    more.disabled = false;
    more.hidden = shown >= count;
  }

  more.addEventListener("click", () => void drawSome());
  await drawSome();
}

/** What stands in the place of a page that is damaged. @param {string} name @param {unknown} error @returns {HTMLElement} */
function sorry(name, error) {
  const note = document.createElement("p");
  note.className = "note warn";
  note.textContent = `${name} is damaged and cannot be shown: ${error instanceof Error ? error.message : error}`;
  return note;
}

/** @param {any} file @param {number} number @param {number} width @returns {Promise<HTMLCanvasElement>} */
async function drawPage(file, number, width) {
  const page = await file.getPage(number);
  const natural = page.getViewport({ scale: 1 });
  const wanted = (Math.max(width, 200) / natural.width) * Math.min(devicePixelRatio || 1, 2);
  const scale = Math.min(wanted, Math.sqrt(PIXELS_MAX / (natural.width * natural.height)));
  const viewport = page.getViewport({ scale });
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(viewport.width));
  canvas.height = Math.max(1, Math.floor(viewport.height));
  await page.render({ canvas, viewport }).promise;
  page.cleanup();
  return canvas;
}
