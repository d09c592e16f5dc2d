/** What is wrong: the alerts of deploy/prometheus/alerts.yaml, on what `see` in seen.js returns. */

/** A longer wait for a lock is slow. */
export const SLOW_SECONDS = 1;

/** @param {any} health @param {string} code */
const hasReason = ({ reasons }, code) => reasons.some((/** @type {string} */ reason) => reason.startsWith(code));

/**
 * In order of urgency: there is a problem where `of` gives more than `limit`; it is also shown at the `panel`.
 *
 * @type {{name: string, panel: string, limit: number, of: (seen: any) => number, isCritical?: true, anchor?: string}[]}
 */
export const ALERTS = [
  { name: "Down", panel: "up", limit: 0, of: ({ awaySince }) => awaySince, isCritical: true },
  { name: "DatabaseDown", panel: "up", limit: 0, of: ({ database }) => 1 - database, isCritical: true },
  {
    name: "PartitionDown",
    panel: "up",
    limit: 0,
    of: ({ database, health }) => Number(database && hasReason(health, "partition_down")),
    isCritical: true,
    anchor: "holdfastdatabasedown",
  },
  {
    name: "InvariantViolated",
    panel: "invariants",
    limit: 0,
    of: ({ health }) => Math.max(0, ...Object.values(health.invariantViolations)),
    isCritical: true,
  },
  { name: "Overloaded", panel: "refusals", limit: 0.01, of: ({ share }) => share, isCritical: true },
  { name: "NotReady", panel: "up", limit: 0, of: ({ unready }) => unready.length },
  { name: "Errors", panel: "refusals", limit: 0, of: ({ failed }) => failed.length },
  {
    name: "LockSlow",
    panel: "locks",
    limit: 2,
    of: ({ longestLock, slowLocks }) => (longestLock > SLOW_SECONDS ? Infinity : slowLocks),
  },
  { name: "QueueSlow", panel: "queue", limit: 1, of: ({ queued }) => queued },
  { name: "PoolExhausted", panel: "queue", limit: 0, of: ({ waiting }) => waiting },
  { name: "PurgeLate", panel: "purge", limit: 300, of: ({ database, late }) => database && late },
  {
    name: "ExpiredHoldsGrow",
    panel: "purge",
    limit: 1000,
    of: ({ health, grew }) => (hasReason(health, "expired_unpurged") ? Infinity : grew && health.expiredUnpurged),
  },
  { name: "RedisDown", panel: "up", limit: 0, of: ({ redis }) => 1 - redis },
  {
    name: "Timezone",
    panel: "invariants",
    limit: 0,
    of: ({ health }) => Number(hasReason(health, "unknown_timezone")),
    anchor: "a-time-zone-that-the-server-does-not-know",
  },
];

/** The place in the runbook. @param {{name: string, anchor?: string}} alert */
export const anchorOf = ({ name, anchor }) => anchor ?? `holdfast${name.toLowerCase()}`;

/** @param {string} name */
export const limitOf = (name) => ALERTS.find((alert) => alert.name === name)?.limit;
