/** The text format of Prometheus, and what follows from two scrapes. */

/** @typedef {{name: string, labels: Map<string, string>, value: number}} Sample */
/** @typedef {Map<string, Sample>} Scrape by series: a name with its labels, as they are written */
/** @typedef {Map<string, number>} Counts */

const LINE = /^([a-z_:][\w:]*)(\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?[ \t]+(\S+)/i;
const LABEL = /([a-z_]\w*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"/gi;

const numberOf = (/** @type {string} */ written) => Number(written.replace(/inf$/i, "Infinity"));

/** @param {string} text @returns {Scrape} */
export function parseMetrics(text) {
  const scrape = new Map();
  for (const line of text.split("\n")) {
    const [, name, written = "", value] = LINE.exec(line) ?? [];
    if (!name) continue;
    const labels = new Map();
    for (const [, label, quoted] of written.matchAll(LABEL)) {
      labels.set(label, quoted.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped)));
    }
    scrape.set(name + written, { name, labels, value: numberOf(value) });
  }
  return scrape;
}

/**
 * Returns by how much each series has grown. One that is lower than before, or new, has begun at 0.
 *
 * @param {Scrape} before @param {Scrape} after @returns {Sample[]}
 */
export function increases(before, after) {
  return [...after].map(([series, sample]) => {
    const was = before.get(series)?.value ?? 0;
    return { ...sample, value: sample.value < was ? sample.value : sample.value - was };
  });
}

/**
 * Adds up the samples of a metric by a key; those without a key are left out.
 *
 * @param {Iterable<Sample>} samples @param {string} metric @param {(label: (name: string) => string) => string | false} key
 * @returns {Counts}
 */
export function countBy(samples, metric, key) {
  const counts = new Map();
  for (const { name, labels, value } of samples) {
    const found = name === `holdfast_${metric}` && key((label) => labels.get(label) ?? "");
    if (found) counts.set(found, (counts.get(found) ?? 0) + value);
  }
  return counts;
}

/** @param {Counts[]} all @returns {Counts} the sums by key. */
export function merged(all) {
  const sums = new Map();
  for (const counts of all) for (const [key, count] of counts) sums.set(key, (sums.get(key) ?? 0) + count);
  return sums;
}

/** @param {Counts} counts */
export const sumOf = (counts) => [...counts.values()].reduce((sum, count) => sum + count, 0);

/**
 * Estimates a quantile as Prometheus does; null if nothing was counted.
 *
 * @param {Counts} buckets cumulative, by their upper bounds (`le`) @param {number} q @returns {number | null}
 */
export function quantile(buckets, q) {
  const bounds = [...buckets].map(([le, count]) => ({ le: numberOf(le), count })).sort((a, b) => a.le - b.le);
  const rank = q * (bounds.at(-1)?.count ?? 0);
  if (!rank) return null;
  const at = bounds.findIndex(({ count }) => count >= rank);
  const { le: from, count: below } = bounds[at - 1] ?? { le: 0, count: 0 };
  const { le, count } = bounds[at];
  return le === Infinity ? from : from + ((le - from) * (rank - below)) / (count - below);
}
