/** The panels of the operations page, and its summary. */

import { ALERTS, anchorOf, limitOf } from "./alerts.js";
import { makePlot, makeTable } from "./plot.js";
import { merged, quantile } from "./prometheus.js";
import { slowOf } from "./seen.js";
import { $, make } from "../dom.js";
import { locale, text } from "../texts.js";

/** @typedef {ReturnType<typeof import("./seen.js").see>} Seen */

/** The shortest time that a plot of scrapes shows. */
const LEAST = 120_000;
const EVENTS = ["made", "committed", "released", "expired", "booked"];

const digits = (/** @type {number} */ value) => ({ maximumFractionDigits: value < 10 ? 1 : 0 });
const count = (/** @type {number} */ value) => value.toLocaleString(locale, digits(value));
const percent = (/** @type {number} */ value) => value.toLocaleString(locale, { style: "percent" });
const state = (/** @type {number} */ up) => (up % 1 ? "" : text(up ? "ops.is_up" : "ops.is_down"));
const duration = (/** @type {number} */ seconds) => {
  const unit = seconds < 1 ? "millisecond" : seconds < 120 ? "second" : "minute";
  const value = seconds * { millisecond: 1000, second: 1, minute: 1 / 60 }[unit];
  return seconds ? value.toLocaleString(locale, { style: "unit", unit, ...digits(value) }) : "0";
};
const clock = (/** @type {number} */ time) => new Date(time).toLocaleTimeString(locale);
const label = (/** @type {string} */ name) => text(`ops.label_${name}`);

/** @param {string} id @param {(value: number) => string} format @param {boolean} [isLive] whether it shows scrapes */
const plot = (id, format, isLive) =>
  makePlot({ title: text(`ops.panel_${id}`), format, least: isLive ? LEAST : 0, limit: LIMITS[id] });
const LIMITS = /** @type {Record<string, number | undefined>} */ ({ queue: limitOf("QueueSlow"), purge: limitOf("PurgeLate") });
const PLOTS = {
  up: plot("up", state, true),
  holds: plot("holds", count),
  conversion: plot("conversion", percent),
  refusals: plot("refusals", count, true),
  latency: plot("latency", duration, true),
  queue: plot("queue", duration, true),
  batch: plot("batch", count, true),
  locks: plot("locks", count, true),
  purge: plot("purge", duration),
};
const TABLES = Object.fromEntries(
  ["locked", "businesses", "calls", "invariants"].map((id) => [id, makeTable(text(`ops.panel_${id}`))]),
);
const PANELS = Object.entries({ ...PLOTS, ...TABLES }).map(([id, { title, element: content }]) => {
  const problems = make("div");
  const section = make("section", { id, class: "panel" }, make("h2", {}, title), problems, content);
  $("#panels").append(section);
  return { id, section, problems };
});

/** Shows all that was seen. @param {Seen} seen */
export function show(seen) {
  tell(seen);
  drawScrapes(seen);
  drawHistory(seen);
  fillTables(seen);
  const { at, awaySince, health } = seen;
  if (!awaySince) $("#updated").textContent = text("ops.updated", { time: clock(at), live: health.live ?? "–" });
}

let told = "";

/** Tells the problems, all in the summary and each at its panel. @param {Seen} seen */
function tell(seen) {
  const locks = [...seen.locked].filter(([, { at }]) => at > seen.at - 300_000);
  const reasons = (/** @type {string} */ code) =>
    seen.health.reasons.filter((/** @type {string} */ reason) => reason.startsWith(code)).join("; ").replaceAll(code, "");
  const facts = {
    since: clock(seen.awaySince),
    late: duration(Math.floor(seen.late / 60) * 60),
    share: percent(seen.share),
    queued: duration(Math.round(seen.queued)),
    waiting: seen.waiting,
    expired: seen.health.expiredUnpurged,
    detail: seen.unready,
    calls: seen.failed.join(", "),
    locks: locks.map(([business, { blockerPids }]) => `${business} (${blockerPids.join(", ")})`).join(", ") || "–",
    invariants: reasons("invariant_violated: "),
    zones: reasons("unknown_timezone: "),
    partitions: (reasons("partition_down: ").match(/\d+/g) ?? []).join(", "),
  };
  const problems = ALERTS.filter(({ limit, of }) => of(seen) > limit).map((alert) => ({
    panel: alert.panel,
    tag: alert.isCritical ? "strong" : "span",
    sentence: text(`ops.fault_${alert.name}`, facts),
    href: `docs/deploy/runbook.md#${anchorOf(alert)}`,
  }));
  // Unchanged sentences are not announced again.
  if (told === (told = JSON.stringify(problems))) return;
  const items = (/** @type {string} */ kind, /** @type {typeof problems} */ some) =>
    some.map(({ tag, sentence, href }) =>
      make(kind, {}, make(tag, {}, sentence), " ", make("a", { href }, text("ops.runbook"))),
    );
  const headline = problems.length ? text("ops.problems", { count: problems.length }) : text("ops.well");
  const list = problems.length ? [make("ol", {}, ...items("li", problems))] : [];
  $("#summary").classList.toggle("bad", problems.length > 0);
  $("#summary").replaceChildren(make("h2", {}, headline), ...list);
  for (const { id, section, problems: place } of PANELS) {
    const here = problems.filter(({ panel }) => panel === id);
    section.classList.toggle("bad", here.length > 0);
    place.replaceChildren(...items("p", here));
  }
}

/** @param {Seen} seen */
function drawScrapes({ steps }) {
  /** @param {keyof typeof PLOTS} id @param {Record<string, (step: any) => number | null>} lines */
  const draw = (id, lines) => {
    const values = Object.entries(lines).map(([name, of]) => [name, steps.map(of)]);
    PLOTS[id].draw(steps.map(({ at }) => at), Object.fromEntries(values));
  };
  /** @param {(step: any) => number} of */
  const aMinute = (of) => (/** @type {any} */ step) => (step.minutes ? of(step) / step.minutes : null);
  const codes = [...merged(steps.map(({ refusals }) => refusals))].filter(([, number]) => number);
  const often = codes.sort(([, a], [, b]) => b - a).slice(0, 5).map(([code]) => code).sort();
  draw("up", { PostgreSQL: ({ database }) => database, Redis: ({ redis }) => redis });
  draw("refusals", Object.fromEntries(often.map((code) => [code, aMinute(({ refusals }) => refusals.get(code) ?? 0)])));
  draw("latency", { p50: ({ latency }) => quantile(latency, 0.5), p99: ({ latency }) => quantile(latency, 0.99) });
  draw("queue", { p95: ({ queue }) => quantile(queue, 0.95) });
  draw("batch", { [label("mean")]: ({ batches, batched }) => (batches ? batched / batches : null) });
  draw("locks", {
    [label("all")]: aMinute(({ locks }) => locks.get("+Inf") ?? 0),
    [label("slow")]: aMinute(({ locks }) => slowOf(locks)),
  });
}

/** @param {Seen} seen */
function drawHistory({ hours, purges, now }) {
  const times = hours.map(([time]) => time);
  const events = EVENTS.map((name) => [label(name), hours.map(([, hour]) => hour[name])]);
  PLOTS.holds.draw(times, Object.fromEntries(events));
  const shares = hours.map(([, { committed, released, expired }]) => committed / (committed + released + expired));
  PLOTS.conversion.draw(times, { [label("committed")]: shares.map((share) => (share >= 0 ? share : null)) });
  const ends = [...purges, now].slice(1);
  PLOTS.purge.draw(ends, { [label("lag")]: ends.map((end, i) => (end - purges[i]) / 1000) });
}

/** @param {Seen} seen */
function fillTables({ at, locked, businesses, calls, health }) {
  const fill = (/** @type {string} */ id, /** @type {string[]} */ head, /** @type {(string | number)[][]} */ rows) =>
    TABLES[id].fill(head.map(label), rows);
  const waits = [...locked].map(([business, wait]) => {
    return [business, duration(wait.seconds), wait.blockerPids.join(", "), duration((at - wait.at) / 1000)];
  });
  fill("locked", ["business", "waited", "holders", "ago"], waits);
  fill("businesses", ["business", "made", "booked"], businesses.map((/** @type {any} */ b) => [b.name, b.made, b.booked]));
  fill("invariants", ["invariant", "violations"], Object.entries(health.invariantViolations));
  /** @type {Map<string, Map<string, number>>} */
  const byCall = new Map();
  for (const [key, number] of calls) {
    const [method, route, le] = key.split(" ");
    const call = `${method} ${route}`;
    byCall.set(call, (byCall.get(call) ?? new Map()).set(le, number));
  }
  const used = [...byCall].filter(([, buckets]) => buckets.get("+Inf"));
  const slowest = used.sort(([, a], [, b]) => (quantile(b, 0.99) ?? 0) - (quantile(a, 0.99) ?? 0)).slice(0, 10);
  const times = (/** @type {Map<string, number>} */ buckets) => [0.5, 0.99].map((q) => duration(quantile(buckets, q) ?? 0));
  fill("calls", ["call", "count", "p50", "p99"], slowest.map(([call, b]) => [call, b.get("+Inf") ?? 0, ...times(b)]));
}
