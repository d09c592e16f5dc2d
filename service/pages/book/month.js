/**
 * A month of dates to choose from, after the date grid of the ARIA APG: one stop of the Tab key, arrows between dates.
 *
 * @import { Day } from "../holdfast.js"
 */

import { text } from "../texts.js";
import { make } from "../dom.js";
import { FIRST_WEEKDAY, WEEK, addDays, placeInWeek } from "../dates.js";
import { addMonths, writtenDate } from "./times.js";

const MONDAY = "2024-01-01";

/** The same day of another month, or its last. @param {string} date @param {number} months */
function sameDay(date, months) {
  const [same, last] = [addMonths(date, months).slice(0, 8) + date.slice(8), addDays(addMonths(date, months + 1), -1)];
  return same < last ? same : last;
}

export class Month {
  /**
   * @param {any} root has the grid, the name of the month and two buttons.
   * @param {(date: string) => void} choose is called with a date that has free slots.
   * @param {(month: string) => void} turn is called with the first date of another month, to call `show` for it.
   */
  constructor(root, choose, turn) {
    this.#table = root.querySelector("table");
    this.#name = root.querySelector("h2");
    this.#buttons = root.querySelectorAll("button");
    this.#turn = turn;
    for (const [place, months] of [-1, 1].entries()) {
      this.#buttons[place].addEventListener("click", () => turn(addMonths(this.month, months)));
    }
    this.#table.addEventListener("keydown", (/** @type {any} */ event) => this.#move(event));
    this.#table.addEventListener("focusin", (/** @type {any} */ event) => this.#stopAt(event.target.dataset.date));
    this.#table.addEventListener("click", (/** @type {any} */ event) => {
      const { date } = event.target.dataset;
      if (date) this.#stopAt(date);
      if (date && event.target.ariaDisabled === "false") choose(date);
    });
    for (let place = 0; place < WEEK; place++) {
      const date = addDays(MONDAY, FIRST_WEEKDAY - 1 + place);
      const abbr = writtenDate(date, { weekday: "long" });
      this.#table.tHead.rows[0].append(make("th", { scope: "col", abbr }, writtenDate(date, { weekday: "short" })));
    }
  }

  #table;
  #name;
  #buttons;
  #turn;
  /** @type {Map<string, HTMLElement>} */
  #dates = new Map();
  #first = "";
  #last = "";
  /** The first date of the month. */
  month = "";

  /** Shows a month, whose slots are not known yet, of all between two dates. @param {string} month its first date.
   * @param {string} first @param {string} last @param {string} today */
  show(month, first, last, today) {
    [this.month, this.#first, this.#last] = [month, first, last];
    this.#name.textContent = writtenDate(month, { month: "long", year: "numeric" });
    this.#buttons[0].disabled = month <= first;
    this.#buttons[1].disabled = addMonths(month, 1) > last;
    this.#table.ariaBusy = "true";
    this.#dates.clear();
    const body = this.#table.tBodies[0];
    body.replaceChildren();
    for (let date = month; date < addMonths(month, 1); date = addDays(date, 1)) {
      const row = (placeInWeek(date) && body.rows[body.rows.length - 1]) || body.insertRow();
      while (row.cells.length < placeInWeek(date)) row.insertCell();
      const attributes = { type: "button", "data-date": date, "aria-disabled": "true" };
      const button = make("button", attributes, writtenDate(date, { day: "numeric" }));
      if (date === today) button.ariaCurrent = "date";
      row.insertCell().append(button);
      this.#dates.set(date, button);
    }
    this.#stopAt(month);
  }

  /** Marks the dates that have slots, in place. @param {Day[]} days @param {string} chosen */
  fill(days, chosen) {
    const counts = new Map(days.map((day) => [day.date, day.slots]));
    for (const [date, button] of this.#dates) {
      const count = counts.get(date) ?? 0;
      button.ariaDisabled = String(!count);
      button.ariaPressed = String(date === chosen);
      button.ariaLabel = `${writtenDate(date, { dateStyle: "full" })}, ${text("book.free", { count })}`;
    }
    // Only at first, and not below the fingers of a guest who is on the way through the dates.
    const isUsed = this.#table.contains(document.activeElement);
    if (this.#table.ariaBusy === "true" && !isUsed) this.#stopAt(chosen || this.month);
    this.#table.ariaBusy = "false";
  }

  /** Makes a date the one stop of the Tab key. @param {string} date */
  #stopAt(date) {
    for (const [other, button] of this.#dates) button.tabIndex = other === date ? 0 : -1;
  }

  /** @param {any} event */
  #move(event) {
    const { date } = event.target.dataset;
    const forwards = getComputedStyle(this.#table).direction === "rtl" ? -1 : 1;
    /** @type {Record<string, () => string>} */
    const targets = {
      ArrowLeft: () => addDays(date, -forwards),
      ArrowRight: () => addDays(date, forwards),
      ArrowUp: () => addDays(date, -WEEK),
      ArrowDown: () => addDays(date, WEEK),
      Home: () => addDays(date, -placeInWeek(date)),
      End: () => addDays(date, WEEK - 1 - placeInWeek(date)),
      PageUp: () => sameDay(date, -1),
      PageDown: () => sameDay(date, 1),
    };
    const wanted = !event.ctrlKey && !event.altKey && !event.metaKey && targets[event.key]?.();
    if (!wanted) return;
    event.preventDefault();
    const target = [this.#first, wanted, this.#last].sort()[1];
    if (!this.#dates.has(target)) this.#turn(addMonths(target, 0));
    this.#dates.get(target)?.focus();
  }
}
