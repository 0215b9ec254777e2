// Cells: values and schemas of Parquet files as text, and which columns are small enough to be read. Pure.

export const COLUMNS_MAX = 50;
export const FIELDS_MAX = 300; // of the schema
export const CELL_MAX = 300; // characters
export const COLUMNS_BYTES_MAX = 24 * 1024 * 1024; // of columns whose rows are shown

/** @param {unknown} value @returns {string} */
export function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : plain(value);
  return text.length <= CELL_MAX ? text : `${text.slice(0, CELL_MAX)}…`;
}

/** @param {unknown} value @returns {string} */
function plain(value) {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "–" : value.toISOString();
  if (value instanceof Uint8Array) {
    const digits = [...value.subarray(0, 32)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return value.length > 32 ? `${digits}… (${value.length} bytes)` : digits;
  }
  if (typeof value !== "object") return String(value);
  return JSON.stringify(value, (_name, inner) => {
    if (typeof inner === "bigint") return String(inner);
    return inner instanceof Uint8Array ? plain(inner) : inner;
  });
}

/**
 * The fields of a schema, those inside of others with their path.
 * @param {any} node @param {string[]} path @param {{ name: string, type: string, optional: boolean }[]} found
 */
export function fields(node, path, found) {
  for (const child of node.children) {
    if (found.length >= FIELDS_MAX) return found;
    const { element } = child;
    const names = [...path, element.name];
    if (child.children.length > 0) {
      found.push({ name: cell(names.join(" › ")), type: element.converted_type === "LIST" ? "list" : "group", optional: element.repetition_type === "OPTIONAL" });
      fields(child, names, found);
    } else {
      const logical = element.logical_type?.type ?? element.converted_type;
      found.push({ name: cell(names.join(" › ")), type: `${element.type ?? ""}${logical ? `, ${logical}` : ""}`.toLowerCase(), optional: element.repetition_type === "OPTIONAL" });
    }
  }
  return found;
}

/** The columns whose first rows can be read with a few bytes. @param {any} metadata @param {string[]} names */
export function affordable(metadata, names) {
  const sizes = new Map();
  for (const chunk of metadata.row_groups[0]?.columns ?? []) {
    const name = chunk.meta_data?.path_in_schema[0];
    sizes.set(name, (sizes.get(name) ?? 0) + Number(chunk.meta_data?.total_compressed_size ?? 0));
  }
  const taken = [];
  let left = COLUMNS_BYTES_MAX;
  for (const name of names) {
    const size = sizes.get(name) ?? 0;
    if (size > left) continue;
    left -= size;
    taken.push(name);
    if (taken.length >= COLUMNS_MAX) break;
  }
  return taken;
}
