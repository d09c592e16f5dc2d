/**
 * Runs a step, and calls `say` if it takes longer than some milliseconds.
 *
 * @template T @param {() => T | Promise<T>} step @param {number} milliseconds @param {() => unknown} say
 * @returns {Promise<T>}
 */
export async function patiently(step, milliseconds, say) {
  const slow = setTimeout(say, milliseconds);
  try {
    return await step();
  } finally {
    clearTimeout(slow);
  }
}
