/** What the operations page has seen of the service since it was opened. */

import { SLOW_SECONDS } from "./alerts.js";
import { countBy, increases, merged, parseMetrics, quantile, sumOf } from "./prometheus.js";

const MINUTE = 60_000;
const KEPT = 15 * MINUTE;
/** Calls of the API, but those of operators, and streams, which last. */
const CALL = /^\/api\/(?!operations|cron|.*\/stream$)/;
const ALL = () => "all";

/** The state at each scrape, and what was counted since the one before. @type {any[]} */
let steps = [];
/** The hours by their beginning. @type {Map<number, any>} */
const hours = new Map();
/** The last wait for the lock of each business. @type {Map<string, any>} */
const locked = new Map();
/** The buckets of all calls since the page was opened. */
let calls = /** @type {Map<string, number>} */ (new Map());
let scrape = /** @type {import("./prometheus.js").Scrape | null} */ (null);
let health = /** @type {any} */ ({ reasons: [], invariantViolations: {}, oldestExpiredSeconds: 0 });
let overview = /** @type {any} */ ({ purgeRuns: [], businesses: [], lockWaits: [] });
let overviewAt = -Infinity;
let awaySince = 0;

/** Returns how many hours of the overview are missing or may have changed. */
export const missingHours = () => (Date.now() - overviewAt > 60 * MINUTE ? 24 : 2);

/** @param {Map<string, number>} buckets */
export const slowOf = (buckets) => (buckets.get("+Inf") ?? 0) - (buckets.get(SLOW_SECONDS.toFixed(1)) ?? 0);

/**
 * Takes in the answers of one poll, each with its status, 0 for none, and returns what is known now.
 *
 * @param {any} metrics @param {any} ready @param {any} reservations of /health/reservations @param {any} hourly the overview
 */
export function see(metrics, ready, reservations, hourly) {
  const at = Date.now();
  // A proxy answers for a service that is away.
  awaySince = metrics.status === 200 ? 0 : awaySince || at;
  const isDown = !reservations.status || reservations.body.code === "DATABASE_UNAVAILABLE";
  if (reservations.body?.reasons) health = reservations.body;
  if (hourly.status === 200) {
    overview = hourly.body;
    overviewAt = at;
    for (const hour of overview.hours) hours.set(Date.parse(hour.hour), hour);
    for (const wait of overview.lockWaits) locked.set(wait.businessId, { ...wait, at });
  }
  if (!awaySince) addStep(at, parseMetrics(metrics.body), isDown ? 0 : 1);

  const lately = (/** @type {number} */ minutes) => steps.filter((step) => step.at > at - minutes * MINUTE);
  const sums = (/** @type {string} */ name, minutes = 5) => merged(lately(minutes).map((step) => step[name]));
  const purges = overview.purgeRuns.map((/** @type {any} */ run) => Date.parse(run.finishedAt)).reverse();
  const now = overview.now ? Date.parse(overview.now) + at - overviewAt : at;
  const answers = sums("answers");
  return {
    at,
    awaySince,
    steps,
    health,
    locked,
    calls,
    purges,
    now,
    hours: [...hours].sort(([a], [b]) => a - b).slice(-24),
    businesses: overview.businesses,
    database: awaySince ? 1 : (steps.at(-1)?.database ?? 1),
    redis: steps.at(-1)?.redis ?? 1,
    unready: isDown || ready.status === 200 ? "" : (ready.body?.detail ?? "–"),
    failed: [...sums("failed", 15)].filter(([, count]) => count).map(([route]) => route),
    share: (answers.get("503") ?? 0) / (sumOf(answers) || 1),
    queued: quantile(sums("queue"), 0.95) ?? 0,
    // One sample or two may be a moment.
    waiting: lately(2).length > 2 ? Math.min(...lately(2).map((step) => step.waiting)) : 0,
    slowLocks: slowOf(sums("locks")),
    longestLock: overview.lockWaits[0]?.seconds ?? 0,
    late: purges.length ? (now - purges.at(-1)) / 1000 : health.oldestExpiredSeconds,
    grew: Number(health.expiredUnpurged > (steps[0]?.expired ?? 0)),
  };
}

/** @param {number} at @param {import("./prometheus.js").Scrape} now @param {number} database whether it is up */
function addStep(at, now, database) {
  const grown = scrape ? increases(scrape, now) : [];
  const requests = (/** @type {Parameters<typeof countBy>[2]} */ key) => countBy(grown, "http_requests_total", key);
  const buckets = (/** @type {string} */ metric) => countBy(grown, `${metric}_bucket`, (label) => label("le"));
  const seconds = countBy(
    grown,
    "http_request_seconds_bucket",
    (label) => CALL.test(label("route")) && `${label("method")} ${label("route")} ${label("le")}`,
  );
  const latency = [...seconds].map(([key, count]) => new Map([[/** @type {string} */ (key.split(" ").pop()), count]]));
  calls = merged([calls, seconds]);
  steps = steps.filter((step) => step.at > at - KEPT);
  steps.push({
    at,
    database,
    redis: countBy(now.values(), "redis_up", ALL).get("all") ?? null,
    waiting: sumOf(countBy(now.values(), "pool_waiting", ALL)),
    expired: health.expiredUnpurged,
    minutes: steps.length ? (at - steps[steps.length - 1].at) / MINUTE : null,
    refusals: requests((label) => CALL.test(label("route")) && label("code")),
    answers: requests((label) => !/^\/(health|api\/operations)/.test(label("route")) && label("status")),
    failed: requests((label) => /^5(?!03)/.test(label("status")) && label("route")),
    latency: merged(latency),
    queue: buckets("queue_wait_seconds"),
    locks: buckets("lock_wait_seconds"),
    batches: sumOf(countBy(grown, "batch_size_count", ALL)),
    batched: sumOf(countBy(grown, "batch_size_sum", ALL)),
  });
  scrape = now;
}
