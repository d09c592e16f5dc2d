/** Draws the day and the week. Places along a zone are custom properties, of which the style sheet makes lengths. */
import { addDays, timeLeft } from "../dates.js";
import { $, make } from "../dom.js";
import { mayAct } from "./api.js";
import { closuresOf, columnOf, columns, isLong, isOfDays, openHours } from "./catalog.js";
import { resourceName, serviceOf, state } from "./catalog.js";
import { clockText, dateText, minutesFrom, momentText, timeText, today } from "./time.js";
import { isolated, text } from "../texts.js";

/**
 * @typedef {import("./catalog.js").Item} Item
 * @typedef {import("./catalog.js").Column} Column
 * @typedef {{date: string, column: string, first: number, unit: number, length: number}} Zone
 *   A stretch of time that is drawn: `length` units of `unit` minutes, from the minute `first` of a date on.
 */

const DAY = 1440;
const WORKING_HOURS = [8, 19];
// The least length of a card, in hours.
const SHORTEST = 1 / 3;

/** @returns {string[]} */
export const shownDates = () => Array.from({ length: state.view === "week" ? 7 : 1 }, (_, n) => addDays(state.date, n));

/** @param {Item} item @returns {string} */
export function statusText({ status, expires = 0 }) {
  const left = Math.max(0, Math.ceil((expires - Date.now()) / 1000));
  return text(`calendar.status_${status}`, { time: timeLeft(left) });
}

/** @param {Item} item @returns {string} */
const sizeText = ({ quantity }) => (quantity > 1 ? `× ${quantity}` : "");

/** @param {Item} item @returns {string} all of it in one line. */
export function itemText(item) {
  const { guestName, serviceId, resourceId } = item;
  const names = [guestName ?? "", serviceOf(serviceId).name, sizeText(item), resourceName(resourceId)];
  const what = names.map(isolated);
  return [momentText(item.start, item.end), ...what, statusText(item)].filter(Boolean).join(", ");
}

/** Draws all data, and gives the focus back. */
export function draw() {
  const focused = document.activeElement;
  const { id, date, column } = /** @type {HTMLElement | undefined} */ (focused?.closest(".item, .zone"))?.dataset ?? {};
  const shown = columns().filter(({ id }) => !state.filter || id === state.filter);
  const items = state.items.filter((item) => item.status !== "cancelled");
  for (const [place, drawPart] of Object.entries({ "#tape": drawTape, "#grid": drawGrid })) {
    const areLong = drawPart === drawTape;
    const own = items.filter((item) => isLong(item) === areLong);
    const used = shown.filter(
      ({ id, services }) =>
        services.some((service) => isOfDays(service) === areLong) || own.some((item) => columnOf(item) === id),
    );
    $(place).replaceChildren(...(used.length ? drawPart(used, own) : []));
    $(place).hidden = !used.length;
  }
  if (id) $(`[data-id="${id}"] button`)?.focus();
  else if (date) $(`.zone[data-date="${date}"][data-column="${column}"] .free`)?.focus();
}

/** Draws a row for each resource whose bookings take days. @param {Column[]} rows @param {Item[]} items */
function drawTape(rows, items) {
  const dates = shownDates();
  const days = dates.map((date) => make("span", { class: date === today() ? "today" : "" }, dateText(date)));
  $("#tape").style.setProperty("--length", dates.length);
  return [
    make("div", { class: "days", "aria-hidden": "true" }, ...days),
    ...rows.map(({ id, name }) => {
      const zone = { date: dates[0], column: id, first: 0, unit: DAY, length: dates.length };
      const own = items.filter((item) => columnOf(item) === id);
      return make("section", { "aria-label": name }, make("h3", {}, isolated(name)), drawZone(zone, own, name));
    }),
  ];
}

/** Draws a column for each resource, or in a week for each day. @param {Column[]} shown @param {Item[]} items */
function drawGrid(shown, items) {
  const week = state.view === "week";
  const only = shown.length === 1 ? shown[0] : { id: "", name: "" };
  const places = week
    ? shownDates().map((date) => ({ date, column: only, name: dateText(date) }))
    : shown.map((column) => ({ date: state.date, column, name: column.name }));
  const drawn = places.map(({ date, column, name }) => {
    const ids = (week ? shown : [column]).map(({ id }) => id);
    const own = items.filter(
      (item) => ids.includes(columnOf(item)) && minutesFrom(date, item.start) < DAY && minutesFrom(date, item.end) > 0,
    );
    return { date, column, name, open: openHours(date, column.id), own };
  });
  const times = drawn
    .flatMap(({ date, open, own }) => [
      ...open.filter(([from, to]) => to - from < DAY),
      ...own.map(({ start, end }) => [Math.max(0, minutesFrom(date, start)), Math.min(DAY, minutesFrom(date, end))]),
    ])
    .flat()
    .map((minutes) => minutes / 60);
  const first = Math.floor(Math.min(WORKING_HOURS[0], ...times));
  const length = Math.ceil(Math.max(WORKING_HOURS[1], ...times)) - first;
  $("#grid").style.setProperty("--length", length);
  $("#grid").style.setProperty("--columns", places.length);
  $("#grid").classList.toggle("many", places.length > 1);
  const hours = Array.from({ length }, (_, n) => make("span", {}, clockText((first + n) * 60)));
  return [
    make("div", { class: "axis", "aria-hidden": "true" }, ...hours),
    ...drawn.map(({ date, column, name, open, own }) => {
      const opening = make("p", { class: "muted" }, hoursText(date, column.id, open));
      const head = make("header", { class: date === today() ? "today" : "" }, make("h3", {}, isolated(name)), opening);
      const zone = drawZone({ date, column: column.id, first: first * 60, unit: 60, length }, own, name, open);
      return make("section", { class: "column", "aria-label": name }, head, zone);
    }),
  ];
}

/** @param {string} date @param {string} column @param {number[][]} open */
function hoursText(date, column, open) {
  const closed = closuresOf(column).some(
    ({ start, end }) => minutesFrom(date, start) <= 0 && minutesFrom(date, end) >= DAY,
  );
  if (closed || !open.length) return text("calendar.closed");
  return open[0][1] - open[0][0] === DAY ? "" : open.map((span) => span.map(clockText).join("–")).join(", ");
}

/** @param {Zone} zone @param {Item[]} items @param {string} name @param {number[][]} [open] in minutes */
function drawZone(zone, items, name, open) {
  const { date, first, unit, length } = zone;
  const at = (/** @type {number} */ minutes) => Math.max(0, Math.min(length, (minutes - first) / unit));
  /** @param {{start: Date, end: Date}} time */
  const span = ({ start, end }) => [at(minutesFrom(date, start)), at(minutesFrom(date, end))];
  const block = (/** @type {string} */ kind, /** @type {number[]} */ [from, to], /** @type {string} */ words = "") =>
    from < to ? [make("div", { class: kind, "--at": from, "--size": to - from }, words)] : [];
  const now = (minutesFrom(date, Date.now()) - first) / unit;
  const shut = open ? [0, ...open.flat().map(at), length] : [];
  const laid = spread(items, (item) => {
    const [from, to] = span(item);
    return [from, unit === 60 ? Math.max(to, from + SHORTEST) : to];
  });
  const lanes = Math.max(1, ...laid.map(([, , place]) => place["--lanes"]));
  const cards = laid.flatMap(([item, [from, to], place]) =>
    from < to ? [drawItem(item, { "--at": from, "--size": to - from, ...place })] : [],
  );
  const free = { "--at": unit === DAY ? 0 : at(open?.[0]?.[0] ?? 0), "aria-label": text("calendar.free", { name }) };
  const drawn = make(
    "div",
    { class: "zone", "--lanes": lanes },
    ...shut.flatMap((from, n) => (n % 2 ? [] : block("shut", [from, shut[n + 1]]))),
    ...closuresOf(zone.column).flatMap((closure) =>
      block("shut closure", span(closure), closure.reason ?? text("calendar.closed")),
    ),
    make("ul", {}, ...cards),
    ...(now > 0 && now < length ? [make("div", { class: "now", "--at": now, "--size": 0 })] : []),
    ...(mayAct("staff") ? [make("button", { type: "button", class: "free", ...free }, "+")] : []),
  );
  Object.assign(drawn.dataset, zone);
  return drawn;
}

/**
 * Lays items that overlap beside each other.
 *
 * @param {Item[]} items @param {(item: Item) => number[]} span
 * @returns {[Item, number[], {"--lane": number, "--lanes": number}][]}
 */
function spread(items, span) {
  /** @type {ReturnType<typeof spread>} */
  const laid = [];
  /** @type {number[]} */
  let ends = [];
  let cluster = 0;
  /** @type {[Item, number[]][]} */
  const spans = items.map((item) => [item, span(item)]);
  // By the clock: where it is put back, an appointment may begin before one that ended.
  for (const [item, [from, to]] of spans.sort(([, [a]], [, [b]]) => a - b)) {
    if (ends.every((end) => end <= from)) [ends, cluster] = [[], laid.length];
    const free = ends.findIndex((end) => end <= from);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = to;
    laid.push([item, [from, to], { "--lane": lane, "--lanes": 1 }]);
    for (const [, , place] of laid.slice(cluster)) place["--lanes"] = ends.length;
  }
  return laid;
}

/** @param {Item} item @param {Record<string, number>} place */
function drawItem(item, place) {
  const service = serviceOf(item.serviceId).name;
  const held = item.status === "held";
  const label = { class: "card", "aria-label": itemText(item) };
  const when = isLong(item) ? momentText(item.start, item.end) : timeText(item.start);
  const where = state.view === "week" && !isLong(item) ? resourceName(item.resourceId) : "";
  const status = item.status === "confirmed" || held ? "" : statusText(item);
  const lines = [
    make("b", {}, held ? statusText(item) : isolated(item.guestName ?? service)),
    make("span", {}, [status, when, where, sizeText(item), service].filter(Boolean).map(isolated).join(" · ")),
  ];
  const card = make(held ? "div" : "button", { ...label, ...(held ? { role: "img" } : { type: "button" }) }, ...lines);
  const tone = Object.keys(state.catalog.services).indexOf(item.serviceId) % 5;
  return make("li", { class: `item ${item.status}`, "data-id": item.id, "data-tone": tone, ...place }, card);
}

/** Counts the time down that holds have left, and drops those that ended. @returns {boolean} whether there were any. */
export function countDown() {
  const before = state.items.length;
  state.items = state.items.filter(({ expires = Infinity }) => expires > Date.now());
  for (const item of state.items) {
    const line = item.expires && $(`[data-id="${item.id}"] b`);
    if (line) line.textContent = statusText(item);
  }
  return state.items.length < before;
}
