/** Dates, written like 2026-12-01, and the weeks of the visitor's locale. */

import { locale } from "./texts.js";

export const DAY = 24 * 60 * 60_000;
export const WEEK = 7;
/** 1 for Monday, to 7 for Sunday. */
export const FIRST_WEEKDAY = firstWeekday();

/** @returns {number} */
function firstWeekday() {
  const tag = /** @type {any} */ (new Intl.Locale(locale));
  return (tag.getWeekInfo?.() ?? tag.weekInfo)?.firstDay ?? 1;
}

/** @param {number} seconds @returns {string} such as 4:05. */
export const timeLeft = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

/** @param {string} date @param {number} days */
export function addDays(date, days) {
  return new Date(Date.parse(date) + days * DAY).toISOString().slice(0, 10);
}

/** The place of a date in its week, from 0. @param {string} date @returns {number} */
export function placeInWeek(date) {
  return (new Date(date).getUTCDay() - FIRST_WEEKDAY + WEEK) % WEEK;
}
