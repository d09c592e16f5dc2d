/** The data of the calendar: the catalog of the business, its appointments and its holds. */
import { DAY } from "../dates.js";
import { call, session } from "./api.js";
import { instantOf, minutesOf, weekday } from "./time.js";

/**
 * @typedef {{id: string, serviceId: string, resourceId: string | null, start: Date, end: Date, quantity: number,
 *   status: string, version: number, guestName: string | null, guestEmail: string | null, guestPhone: string | null,
 *   notes: string | null, cancellationReason?: string, warnings?: {code: string}[], expires?: number}} Item
 *   An appointment; or a hold, of the status `held`, that `expires`.
 * @typedef {{id: string, name: string, services: string[]}} Column  A resource, or a service without any.
 */

export const state = {
  /** @type {any} The catalog as one document. */
  catalog: {},
  /** @type {any} The names of services and resources that were removed from it. */
  archived: {},
  /** @type {Item[]} By their start. */
  items: [],
  // Rises with each reading, and with each change: a reading that began before is out of date.
  turn: 0,
  view: "day",
  date: "",
  // The present day, when it was last read.
  present: "",
  // A column; none: all.
  filter: "",
};

/** @param {any} body of an appointment or a hold @returns {Item} */
export const itemOf = (body) => ({
  ...(body.holdId && { status: "held", expires: Date.now() + body.expiresInSeconds * 1000 }),
  ...body,
  id: body.appointmentId ?? body.holdId,
  start: new Date(body.slotStart),
  end: new Date(body.slotEnd),
});

/** @param {Date} from @param {Date} to @returns {Promise<Item[]>} the appointments and holds that overlap a range. */
export async function readItems(from, to) {
  const range = { businessId: session.businessId, from: from.toISOString(), to: to.toISOString(), limit: "500" };
  const lists = [readPages("appointments", { ...range, overlapping: "true" }), readPages("reservations", range)];
  return (await Promise.all(lists))
    .flat()
    .map(itemOf)
    .sort((a, b) => +a.start - +b.start);
}

/** @param {string} list @param {Record<string, string>} query @returns {Promise<any[]>} */
async function readPages(list, query) {
  const { items, nextCursor } = await call("GET", `booking/${list}?${new URLSearchParams(query)}`);
  return nextCursor ? [...items, ...(await readPages(list, { ...query, cursor: nextCursor }))] : items;
}

/** @param {string} id @returns {any} the service; a stand-in where it was removed. */
export const serviceOf = (id) =>
  state.catalog.services[id] ?? { name: state.archived.services[id] ?? id, resourceIds: [], durationMinutes: 60 };

/** @param {string | null} id @returns {string} */
export const resourceName = (id) =>
  state.catalog.resources[id ?? ""]?.name ?? state.archived.resources[id ?? ""] ?? id ?? "";

/** @param {Item} item @returns {string} */
export const columnOf = (item) => item.resourceId ?? `service ${item.serviceId}`;

/** @param {string} id @returns {boolean} whether the length of the service is in days. */
export const isOfDays = (id) => Boolean(serviceOf(id).durationDays);

/** @param {Item} item @returns {boolean} whether it takes days. */
export const isLong = ({ serviceId, start, end }) => isOfDays(serviceId) || +end - +start >= DAY;

/** @returns {Column[]} those of the catalog, and of items whose resource or service was removed. */
export function columns() {
  const { resources, services } = state.catalog;
  const ids = Object.keys(services);
  const found = Object.keys(resources).map((id) => ({
    id,
    name: resourceName(id),
    services: ids.filter((service) => services[service].resourceIds.includes(id)),
  }));
  const alone = ids.filter((id) => !services[id].resourceIds.length);
  found.push(...alone.map((id) => ({ id: `service ${id}`, name: services[id].name, services: [id] })));
  for (const item of state.items) {
    const id = columnOf(item);
    const name = item.resourceId ? resourceName(item.resourceId) : serviceOf(item.serviceId).name;
    if (!found.some((column) => column.id === id)) found.push({ id, name, services: [] });
  }
  return found;
}

/** @param {string} date @param {string} column @returns {number[][]} when it is open, without the closures. */
export function openHours(date, column) {
  const all = hoursOf(date, null);
  return hoursOf(date, column).flatMap(([opens, closes]) =>
    all.map(([from, to]) => [Math.max(opens, from), Math.min(closes, to)]).filter(([from, to]) => from < to),
  );
}

/** @param {string} date @param {string | null} owner @returns {number[][]} */
function hoursOf(date, owner) {
  const { specialHours, openingHours } = state.catalog;
  /** @param {any} entry */
  const isOwn = (entry) => entry.resourceId === owner;
  const special = Object.values(specialHours).find(
    (entry) => isOwn(entry) && entry.date <= date && date <= (entry.until ?? entry.date),
  );
  const weekly = openingHours.filter(isOwn);
  if (!special && !weekly.length) return [[0, 1440]];
  /** @type {any[]} */
  const hours = special?.hours ?? weekly.filter((/** @type {any} */ entry) => entry.weekday === weekday(date));
  return hours.map(({ opens, closes }) => [minutesOf(opens), minutesOf(closes)]);
}

/** @param {any} closure @returns {{start: Date, end: Date}} */
export const closureTime = ({ from, to, date, until }) =>
  date
    ? { start: instantOf(date, 0), end: instantOf(until ?? date, 1440) }
    : { start: new Date(from), end: new Date(to) };

/** @param {string} column @returns {{start: Date, end: Date, reason: string | null}[]} */
export const closuresOf = (column) =>
  Object.values(state.catalog.closures)
    .filter(({ resourceId }) => !resourceId || resourceId === column)
    .map((closure) => ({ ...closure, ...closureTime(closure) }));
