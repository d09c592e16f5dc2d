/** The local time of the business: a date is a text such as "2026-12-01", a time the minutes since a midnight. */
import { DAY, addDays, placeInWeek } from "../dates.js";
import { locale } from "../texts.js";

const TIME = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit" });
const DATE = /** @type {const} */ ({ weekday: "short", day: "numeric", month: "short" });
/** Made once: that takes far longer than a use. @type {Record<"clock" | "time" | "moment", Intl.DateTimeFormat>} */
let formats;

/** @param {string} timeZone for all functions here. */
export function setZone(timeZone) {
  formats = {
    clock: new Intl.DateTimeFormat("sv", { timeZone, dateStyle: "short", timeStyle: "short" }),
    time: new Intl.DateTimeFormat(locale, { timeZone, ...TIME }),
    moment: new Intl.DateTimeFormat(locale, { timeZone, ...DATE, ...TIME }),
  };
}

/** @param {Date} instant @returns {string} */
export const timeText = (instant) => formats.time.format(instant);

/** @param {Date} from @param {Date} [to] @returns {string} */
export const momentText = (from, to = from) => formats.moment.formatRange(from, to);

/** @param {string} from a date @param {string} [to] @param {Intl.DateTimeFormatOptions} [options] @returns {string} */
export const dateText = (from, to = from, options = DATE) =>
  new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options }).formatRange(Date.parse(from), Date.parse(to));

/** @param {number} minutes @returns {string} */
export const clockText = (minutes) => dateText(written(minutes), written(minutes), TIME);

/** @param {number} minutes @returns {string} */
const written = (minutes) => new Date(minutes * 60_000).toISOString();

/** @param {number} minutes @returns {string} such as "09:30", for an input. */
export const clockOf = (minutes) => written(minutes).slice(11, 16);

/** @param {string} time such as "09:30" or "24:00" @returns {number} */
export const minutesOf = (time) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3));

/** @param {Date | number} instant @returns {{date: string, minutes: number}} */
export function localTime(instant) {
  // A year of two digits, which is typed by mistake, has no zeros.
  const local = formats.clock.format(instant).padStart(16, "0");
  return { date: local.slice(0, 10), minutes: minutesOf(local.slice(11)) };
}

/** @param {string} date @param {Date | number} instant @returns {number} the minutes from a midnight, by the clock. */
export function minutesFrom(date, instant) {
  const local = localTime(instant);
  return daysBetween(date, local.date) * 1440 + local.minutes;
}

/** @param {string} date @param {number} minutes @returns {Date} for a time that the clock skips, one after the gap. */
export function instantOf(date, minutes) {
  const wanted = Date.parse(date) + minutes * 60_000;
  /** @param {number} guess */
  const nearer = (guess) => guess + (minutes - minutesFrom(date, guess)) * 60_000;
  const found = nearer(nearer(wanted));
  return new Date(Math.max(found, nearer(found)));
}

/** @param {string} from @param {string} to @returns {number} */
export const daysBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / DAY;

/** @param {string} date @returns {number} 1 for Monday, to 7 for Sunday. */
export const weekday = (date) => new Date(date).getUTCDay() || 7;

/** @param {string} date @returns {string} the first day of its week, by the visitor's locale. */
export function startOfWeek(date) {
  return addDays(date, -placeInWeek(date));
}

export const today = () => localTime(Date.now()).date;
