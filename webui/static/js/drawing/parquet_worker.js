// A worker that reads the beginning of a Parquet file by ranges: its schema, and its first rows as text.
// It is a worker because a file can make its reader work for long; the page ends it then.
import { affordable, cell, fields } from "./cells.js";

const ROWS_MAX = 100;
const BYTES_MAX = 48 * 1024 * 1024; // that are fetched at all

const vendor = new URL("../../vendor/", import.meta.url).href;

/** @param {string} source @param {number} size */
function ranges(source, size) {
  let left = BYTES_MAX;
  return {
    byteLength: size,
    /** @param {number} start @param {number} [end] @returns {Promise<ArrayBuffer>} */
    async slice(start, end = size) {
      if (start < 0) start += size;
      left -= end - start;
      if (left < 0) throw new Error("its first rows take too many bytes to be shown here");
      const answer = await fetch(source, { headers: { Range: `bytes=${start}-${end - 1}` } });
      if (!answer.ok) throw new Error(`the store answered ${answer.status}`);
      const data = await answer.arrayBuffer();
      return answer.status === 206 ? data : data.slice(start, end);
    },
  };
}

async function decompressors() {
  const [gzip, brotli, lz4, zstd] = await Promise.all(
    ["hyparquet-compressors/gzip.js", "hyparquet-compressors/brotli.js", "hyparquet-compressors/lz4.js", "fzstd/index.mjs"]
      .map((name) => import(`${vendor}${name}`)),
  );
  return {
    GZIP: (/** @type {Uint8Array} */ data, /** @type {number} */ length) => gzip.gunzip(data, new Uint8Array(length)),
    BROTLI: brotli.decompressBrotli,
    ZSTD: (/** @type {Uint8Array} */ data) => zstd.decompress(data),
    LZ4: lz4.decompressLz4,
    LZ4_RAW: lz4.decompressLz4Raw,
  };
}

/** @param {string} source @param {number} size */
async function read(source, size) {
  const parquet = await import(`${vendor}hyparquet/index.js`);
  const file = ranges(source, size);
  const metadata = await parquet.parquetMetadataAsync(file);
  const schema = parquet.parquetSchema(metadata);
  /** @type {string[]} */
  const names = schema.children.map((/** @type {any} */ child) => child.element.name);
  const columns = affordable(metadata, names);
  const first = Math.min(ROWS_MAX, Number(metadata.row_groups[0]?.num_rows ?? 0));
  /** @type {string[][]} */
  let rows = [];
  if (columns.length > 0 && first > 0) {
    const found = await parquet.parquetReadObjects({
      file, metadata, columns, rowStart: 0, rowEnd: first, compressors: await decompressors(), useOffsetIndex: true,
    });
    rows = found.map((/** @type {Record<string, unknown>} */ row) => columns.map((name) => cell(row[name])));
  }
  return {
    rowCount: Number(metadata.num_rows),
    groupCount: metadata.row_groups.length,
    createdBy: cell(metadata.created_by ?? ""),
    codec: cell(metadata.row_groups[0]?.columns[0]?.meta_data?.codec ?? ""),
    fields: fields(schema, [], []),
    columnCount: names.length,
    columns: columns.map(cell),
    rows,
  };
}

self.addEventListener("message", (event) => {
  read(event.data.source, event.data.size).then(
    (found) => self.postMessage({ found }),
    (error) => self.postMessage({ error: error instanceof Error ? error.message : String(error) }),
  );
});
