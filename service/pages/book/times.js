/** Dates and times of a business, by its clock and in the visitor's locale. A date is written like 2026-12-01. */

import { locale, now } from "../texts.js";

export const MINUTE = 60_000;

/** @param {number} milliseconds @param {string | number} [from] an instant, by default now. */
export function later(milliseconds, from = now()) {
  return new Date(new Date(from).getTime() + milliseconds).toISOString();
}

/** The first date of the month of a date, or of another one. @param {string} date @param {number} months */
export function addMonths(date, months) {
  const [year, month] = date.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + months, 1)).toISOString().slice(0, 10);
}

/** @param {string} date @param {Intl.DateTimeFormatOptions} options */
export function writtenDate(date, options) {
  return new Date(date).toLocaleDateString(locale, { ...options, timeZone: "UTC" });
}

/** A clock on the wall of the business, or of the visitor. */
export class Clock {
  /** @param {string} [timeZone] left out: the visitor's. */
  constructor(timeZone) {
    /** @type {(options: Intl.DateTimeFormatOptions, by?: string) => Intl.DateTimeFormat} */
    const format = (options, by = locale) => new Intl.DateTimeFormat(by, { timeZone, ...options });
    this.#date = format({}, "sv-SE");
    this.#hour = format({ timeStyle: "short" }, "sv-SE");
    this.#time = format({ timeStyle: "short" });
    this.#day = format({ weekday: "short", day: "numeric", month: "short" });
    this.#full = format({ dateStyle: "full", timeStyle: "short" });
    this.#zone = format({ timeZoneName: "longGeneric" });
    /** @type {Intl.DateTimeFormatOptions} */
    const exact = { hour: "numeric", minute: "2-digit", timeZoneName: "short" };
    this.#exactTime = format(exact);
    this.#exact = format({ weekday: "long", day: "numeric", month: "long", year: "numeric", ...exact });
  }

  #date;
  #hour;
  #time;
  #day;
  #full;
  #zone;
  #exactTime;
  #exact;

  /** @param {string | number} instant */
  date(instant) {
    return this.#date.format(new Date(instant));
  }

  /** The time of day, such as 09:00 in all locales. @param {string} instant */
  hour(instant) {
    return this.#hour.format(new Date(instant));
  }

  /** The time of day, as people read it. @param {string} instant */
  time(instant) {
    return (this.#isRepeated(instant) ? this.#exactTime : this.#time).format(new Date(instant));
  }

  /** The day of the week, the day and the month. @param {string} instant */
  day(instant) {
    return this.#day.format(new Date(instant));
  }

  /** Day and time, of a start and an end. @param {string} start @param {string} [end] */
  full(start, end = start) {
    const both = [start, end].map((instant) => new Date(instant));
    if (!this.#isRepeated(start) && !this.#isRepeated(end)) return this.#full.formatRange(both[0], both[1]);
    return [...new Set(both.map((instant) => this.#exact.format(instant)))].join(" – ");
  }

  /** Whether the clock, put back, shows this time of day twice: then the zone tells which. @param {string} instant */
  #isRepeated(instant) {
    const others = [-60, -30, 30, 60].map((minutes) => later(minutes * MINUTE, instant));
    return others.some((other) => this.hour(other) === this.hour(instant));
  }

  /** The name of the time zone. @param {string} instant */
  zone(instant) {
    return this.#zone.formatToParts(new Date(instant)).find(({ type }) => type === "timeZoneName")?.value ?? "";
  }
}
