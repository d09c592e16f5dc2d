/**
 * A booking, made or about to be made: its summary, its terms, and its entry for the guest's own calendar.
 *
 * @import { Appointment, Catalogue } from "../holdfast.js"
 * @import { Clock } from "./times.js"
 * @typedef {Pick<Appointment, "serviceId" | "resourceId" | "slotStart" | "slotEnd" | "quantity">
 *   & { guestName?: string | null }} Booked
 */

import { DAY } from "../dates.js";
import { isByNight, writtenLength } from "./choice.js";
import { make } from "../dom.js";
import { isolated, locale, now, text } from "../texts.js";
import { MINUTE, later } from "./times.js";

/** The length in the unit of the service. @param {Booked} booked @param {Catalogue} catalogue @param {Clock} clock */
export function lengthOf({ serviceId, slotStart, slotEnd }, { services }, clock) {
  const service = services.find((one) => one.serviceId === serviceId);
  if (!service?.durationDays) return (Date.parse(slotEnd) - Date.parse(slotStart)) / MINUTE;
  // The end itself may be late by the clock: after an hour that it skips.
  const last = later(-MINUTE, slotEnd);
  const days = (Date.parse(clock.date(last)) - Date.parse(clock.date(slotStart))) / DAY;
  return days + (clock.hour(last) >= clock.hour(slotStart) ? 1 : 0);
}

/**
 * Says how long a booking takes in another slot, if that is another length.
 *
 * @param {Booked} booked
 * @param {{ slotStart: string, slotEnd: string }} slot
 * @param {Catalogue} catalogue
 * @param {Clock} clock
 */
export function otherLength(booked, slot, catalogue, clock) {
  const service = catalogue.services.find(({ serviceId }) => serviceId === booked.serviceId);
  const lengths = [{ ...booked, ...slot }, booked].map((one) => lengthOf(one, catalogue, clock));
  if (!service || lengths[0] === lengths[1]) return "";
  const [length, former] = lengths.map((one) => writtenLength(service, one));
  return text("book.move_length", { length, former });
}

/**
 * Writes the slot, the resource and the party of a booking into the heading and the list of a panel.
 *
 * @param {any} panel
 * @param {Booked} booked
 * @param {Catalogue} catalogue
 * @param {Clock} clock
 * @param {Clock} visitor
 */
export function summarise(panel, booked, catalogue, clock, visitor) {
  const { serviceId, resourceId, slotStart, slotEnd, quantity, guestName } = booked;
  const service = catalogue.services.find((one) => one.serviceId === serviceId);
  const resource = catalogue.resources.find((one) => one.resourceId === resourceId);
  const rows = [[text("book.when"), clock.full(slotStart, slotEnd)]];
  if (service && isByNight(service)) {
    rows.splice(0, 1, [text("book.arrival"), clock.full(slotStart)], [text("book.departure"), clock.full(slotEnd)]);
  }
  const yours = visitor.full(slotStart, slotEnd);
  if (yours !== clock.full(slotStart, slotEnd)) rows.push([visitor.zone(slotStart), yours]);
  if (resource) rows.push([resource.kind, isolated(resource.name)]);
  if (quantity > 1) rows.push([text(resource ? "book.people" : "book.quantity"), quantity.toLocaleString(locale)]);
  if (guestName) rows.push([text("book.name"), isolated(guestName)]);
  const length = service && writtenLength(service, lengthOf(booked, catalogue, clock));
  const heading = panel.querySelector("h3");
  heading.hidden = !service;
  heading.textContent = service ? `${isolated(service.name)}, ${length}` : "";
  panel.querySelector("dl").replaceChildren(
    ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

/**
 * Says until when a booking can be moved and cancelled. One of a service that is not offered any more is not moved.
 *
 * @param {Pick<Appointment, "cancellableUntil"> & { reschedulableUntil?: string }} booked
 * @param {Clock} clock
 * @param {string} business its name.
 */
export function terms({ cancellableUntil, reschedulableUntil }, clock, business) {
  /** @type {(until: string, open: string, closed: string) => string} */
  const term = (until, open, closed) =>
    text(Date.parse(until) > now() ? open : closed, { until: clock.full(until), business });
  if (cancellableUntil === reschedulableUntil) return term(cancellableUntil, "book.change_until", "book.change_closed");
  const cancel = term(cancellableUntil, "book.cancel_until", "book.cancel_closed");
  return reschedulableUntil ? `${term(reschedulableUntil, "book.move_until", "book.move_closed")} ${cancel}` : cancel;
}

/** Writes an iCalendar file (RFC 5545). @param {Appointment} booked @param {string} summary @param {string} location */
export function calendarFile({ appointmentId, businessId, slotStart, slotEnd, version }, summary, location) {
  /** @param {string | number} instant */
  const utc = (instant) => new Date(instant).toISOString().replace(/[-:]|\.\d+/g, "");
  /** @param {string} value */
  const escaped = (value) => value.replace(/[\\;,]/g, "\\$&").replace(/\r?\n/g, "\\n");
  const lines = [
    "BEGIN:VCALENDAR",
    "VERSION:2.0",
    "PRODID:-//Holdfast//Booking//EN",
    "BEGIN:VEVENT",
    // As in the calendar feeds of the business: one event, whichever way it comes.
    `UID:${appointmentId}@${businessId}`,
    `SEQUENCE:${version - 1}`,
    `DTSTAMP:${utc(now())}`,
    `DTSTART:${utc(slotStart)}`,
    `DTEND:${utc(slotEnd)}`,
    `SUMMARY:${escaped(summary)}`,
    `LOCATION:${escaped(location)}`,
    "END:VEVENT",
    "END:VCALENDAR",
  ];
  return lines.map((line) => `${folded(line)}\r\n`).join("");
}

/** Breaks a line after 75 octets at most, never within a character. @param {string} line */
function folded(line) {
  let [written, octets] = ["", 0];
  for (const character of line) {
    octets += new TextEncoder().encode(character).length;
    if (octets > 75) [written, octets] = [`${written}\r\n `, 1 + new TextEncoder().encode(character).length];
    written += character;
  }
  return written;
}
