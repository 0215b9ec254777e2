// Sifting: which events a person wants to see. Pure: no page, no network.

/** @typedef {{ groups: string, isProgress: boolean, text: string }} Line groups: with spaces in between */
/** @typedef {{ kind: string, find: string, hasProgress: boolean }} Wish kind: a group, or "" for all */

/** @param {Line} line @param {Wish} wish @returns {boolean} */
export function fits(line, wish) {
  const isOfKind = wish.kind === "" || line.groups.split(" ").includes(wish.kind);
  return isOfKind && (wish.hasProgress || !line.isProgress) && line.text.toLowerCase().includes(wish.find.trim().toLowerCase());
}
