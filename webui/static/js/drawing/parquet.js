// Parquet: schema and first rows, as tables. All that comes from the file goes into text nodes.

const PATIENCE_MS = 30_000;

/** @typedef {{ rowCount: number, groupCount: number, createdBy: string, codec: string, fields: { name: string, type: string, optional: boolean }[], columnCount: number, columns: string[], rows: string[][] }} Found */

/** @param {string} source @param {number} size @param {AbortSignal} signal @returns {Promise<Found>} */
function read(source, size, signal) {
  const worker = new Worker(new URL("./parquet_worker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("it takes too long to read")), PATIENCE_MS);
    signal.addEventListener("abort", () => reject(new Error("the page was left")));
    worker.addEventListener("error", () => reject(new Error("the reader of Parquet files could not be started")));
    worker.addEventListener("message", (event) => {
      clearTimeout(timer);
      if (event.data.error !== undefined) reject(new Error(event.data.error));
      else resolve(event.data.found);
    });
    worker.postMessage({ source: new URL(source, location.href).href, size });
  }).then((found) => /** @type {Found} */ (found)).finally(() => worker.terminate());
}

/** @param {string} name @param {string} [text] */
function make(name, text) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** @param {string} label @param {string[]} head @param {string[][]} rows */
function table(label, head, rows) {
  const place = make("div");
  place.className = "scroll";
  place.tabIndex = 0;
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", label);
  const made = make("table");
  made.className = "num cells";
  const top = make("tr");
  for (const text of head) {
    const cell = make("th", text);
    cell.setAttribute("scope", "col");
    top.append(cell);
  }
  const headPart = make("thead");
  headPart.append(top);
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    line.append(...row.map((text) => make("td", text)));
    body.append(line);
  }
  made.append(headPart, body);
  place.append(made);
  return place;
}

/** @type {import("../pages/details.js").Draw} */
export async function draw(place, source, size, signal) {
  const found = await read(source, size, signal);
  const count = found.rowCount.toLocaleString();
  const rest = found.columns.length < found.columnCount ? `, ${found.columns.length} of ${found.columnCount} columns` : "";
  const made = found.createdBy === "" ? "" : `, made by ${found.createdBy}`;
  const heading = make("p", `${count} rows in ${found.groupCount.toLocaleString()} ${found.groupCount === 1 ? "group" : "groups"}, ${found.codec.toLowerCase()}${made}. The first ${found.rows.length} rows${rest} are shown.`);
  heading.className = "soft s wrap";
  const schema = make("details");
  schema.append(
    make("summary", `Schema: ${found.columnCount} columns`),
    table("Schema", ["Field", "Type", "May be missing"], found.fields.map((one) => [one.name, one.type, one.optional ? "yes" : "no"])),
  );
  place.replaceChildren(heading, table("Rows", found.columns, found.rows), schema);
}
