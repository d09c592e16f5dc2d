/** What a page keeps for this tab. Where storage is switched off, nothing is kept, and a reload begins anew. */

/** @param {string} name @returns {any} null if nothing was kept. */
export const kept = (name) => attempt(() => JSON.parse(sessionStorage.getItem(name) ?? "null")) ?? null;

/** @param {string} name @param {unknown} value */
export const keep = (name, value) => attempt(() => sessionStorage.setItem(name, JSON.stringify(value)));

/** @param {string} name */
export const forget = (name) => attempt(() => sessionStorage.removeItem(name));

/** @template T @param {() => T} call @returns {T | undefined} */
function attempt(call) {
  try {
    return call();
  } catch {
    return undefined;
  }
}
