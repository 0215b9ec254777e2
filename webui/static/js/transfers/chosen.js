// Chosen: the files that a person has picked or dropped, folders included.

/**
 * @typedef {{ file: File, path: string, handle: FileSystemFileHandle | null }} Chosen
 */

/** @param {FileList} files @returns {Chosen[]} */
export function ofField(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name, handle: null }));
}

/**
 * What was dropped. Everything is asked of the transfer at once, because it is empty after the event.
 * @param {DataTransfer} transfer
 * @returns {AsyncGenerator<Chosen>}
 */
export function ofDrop(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => {
    // A handle can be kept over a reload; only some browsers have them, and only on secure pages.
    const ask = /** @type {any} */ (item).getAsFileSystemHandle;
    return { handle: ask === undefined ? null : /** @type {Promise<any>} */ (ask.call(item)).catch(() => null), entry: item.webkitGetAsEntry(), file: item.getAsFile() };
  });
  return walkAll(entries);
}

/** @param {{ handle: Promise<any> | null, entry: FileSystemEntry | null, file: File | null }[]} entries @returns {AsyncGenerator<Chosen>} */
async function* walkAll(entries) {
  for (const { handle, entry, file } of entries) {
    const found = (await handle) ?? null;
    if (found !== null) yield* ofHandle(found, found.name);
    else if (entry !== null) yield* ofEntry(entry, entry.name);
    else if (file !== null) yield { file, path: file.name, handle: null };
  }
}

/** @param {any} handle @param {string} path @returns {AsyncGenerator<Chosen>} */
async function* ofHandle(handle, path) {
  if (handle.kind === "file") {
    yield { file: await handle.getFile(), path, handle };
    return;
  }
  for await (const below of handle.values()) yield* ofHandle(below, `${path}/${below.name}`);
}

/** @param {FileSystemEntry} entry @param {string} path @returns {AsyncGenerator<Chosen>} */
async function* ofEntry(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
    yield { file: /** @type {File} */ (file), path, handle: null };
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (some.length === 0) return;
    for (const below of some) yield* ofEntry(below, `${path}/${below.name}`);
  }
}
