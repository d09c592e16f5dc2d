/**
 * The free days of a month and the slots of one of them, of the service that the guest has chosen.
 *
 * @import { Change, Day, Slot } from "../holdfast.js"
 * @import { Choice } from "./choice.js"
 * @import { Clock } from "./times.js"
 */

import { DAY, addDays } from "../dates.js";
import { $ } from "../dom.js";
import { isByNight } from "./choice.js";
import { Month } from "./month.js";
import { Slots } from "./slots.js";
import { now, text } from "../texts.js";
import { MINUTE, addMonths, later, writtenDate } from "./times.js";
import { holdfast } from "./visit.js";
import { runStep } from "./waiting.js";

// As many dates as one request may count.
const YEAR = 366;
// A day has 25 hours at most.
const DAY_AND_MORE = 26 * 60 * MINUTE;

export class Listing {
  /**
   * @param {Choice} choice
   * @param {[Clock, Clock]} clocks of the business and of the visitor.
   * @param {{ pick: (slot: Slot) => void, listed: () => void, failed: (error: unknown) => void }} calls those for
   *   the chosen slot, before each list, and for the error of a list that the guest asked for.
   */
  constructor(choice, [clock, visitor], { pick, listed, failed }) {
    this.#choice = choice;
    this.#clock = clock;
    this.#visitor = visitor;
    this.#listed = listed;
    this.#failed = failed;
    this.#month = new Month($("#month"), (date) => this.#pickDate(date), (month) => this.#turn(month));
    const calls = { lines: this.#lines.bind(this), part: this.#partOfDay.bind(this), choose: pick };
    this.#slots = new Slots($("#slots"), $("#more"), calls);
  }

  #choice;
  #clock;
  #visitor;
  #listed;
  #failed;
  #month;
  #slots;
  #date = "";
  /** @type {Day[]} those of the month that have slots to come. */
  #days = [];
  #asking = new AbortController();
  #isListed = false;
  /** The dates that bound the list in view. */
  #bounds = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;

  /** The chosen date, and the first date of the month, to keep. */
  get place() {
    return { date: this.#date, month: this.#month.month };
  }

  set place({ date, month }) {
    [this.#date, this.#month.month] = [date, month];
  }

  /** Whether the list in view may have dates that are over. */
  get isOld() {
    return this.#isListed && this.#bounds !== String(this.#boundsNow());
  }

  /** The first and the last date that can be booked, and the present one. */
  #boundsNow() {
    const { minNoticeMinutes, maxAdvanceDays } = this.#choice.service;
    return [minNoticeMinutes * MINUTE, maxAdvanceDays * DAY, 0].map((time) => this.#clock.date(now() + time));
  }

  /** Ends the wait for a former list. @param {boolean} inPlace */
  #begin(inPlace) {
    this.#listed();
    this.#asking.abort();
    this.#asking = new AbortController();
    this.#isListed &&= inPlace;
    $("#day").inert = !this.#isListed;
    return this.#asking.signal;
  }

  /**
   * Lists the days of the month and the slots of the chosen one.
   *
   * @param {{ inPlace?: boolean, ahead?: boolean }} how `inPlace` changes the list in view, and moves nothing; `ahead`
   *   goes on to the first month that has a free day.
   */
  async list({ inPlace = false, ahead = !inPlace } = {}) {
    const isInPlace = inPlace && this.#isListed && !this.isOld;
    const step = () => this.#list(isInPlace, ahead);
    // The guest has not asked for a change in place.
    await (isInPlace ? step() : runStep(step));
  }

  /** @param {boolean} isInPlace @param {boolean} ahead */
  async #list(isInPlace, ahead) {
    const signal = this.#begin(isInPlace);
    const { wanted } = this.#choice;
    const bounds = this.#boundsNow();
    const [first, last, today] = bounds;
    // The month in view may be over, or later than the service can be booked.
    const [earliest, inView] = [addMonths(first, 0), this.#month.month];
    const month = inView > earliest && inView <= last ? inView : earliest;
    const days = async (/** @type {string} */ from, /** @type {string} */ to) =>
      from <= last && to >= first
        ? holdfast.days({ ...wanted, from: from < first ? first : from, to: to < last ? to : last }, { signal })
        : [];
    try {
      if (!isInPlace) {
        this.#bounds = String(bounds);
        this.#month.show(month, first, last, today);
      }
      const next = addMonths(month, 1);
      this.#days = await days(month, addDays(next, -1));
      const free = this.#days.filter(({ slots }) => slots);
      if (!isInPlace && !free.some(({ date }) => date === this.#date)) this.#date = free[0]?.date ?? "";
      this.#month.fill(this.#days, this.#date);
      $("#none").textContent = free.length ? "" : text("book.none");
      if (ahead && !free.length) {
        const found = (await days(next, addDays(next, YEAR - 1))).find(({ slots }) => slots);
        if (found) return this.#turn(addMonths(found.date, 0));
      }
      await this.#listSlots(isInPlace, signal);
    } catch (error) {
      // A list that the guest has not asked for fails in silence: the next change, or the guest, asks again.
      if (!isInPlace) this.#failed(error);
    }
  }

  /** @param {boolean} inPlace @param {AbortSignal} signal */
  async #listSlots(inPlace, signal) {
    const [date, from] = [this.#date, this.#days.find((day) => day.date === this.#date)?.firstSlotStart];
    const wanted = { ...this.#choice.wanted, from: from ?? "", to: from ? later(DAY_AND_MORE, from) : "" };
    const found = from ? await holdfast.slots(wanted, { signal }) : [];
    const slots = found.filter(({ slotStart }) => this.#clock.date(slotStart) === date);
    const start = from ?? later(0);
    const zones = { zone: this.#clock.zone(start), yours: this.#visitor.zone(start) };
    $("#day h2").textContent = date && writtenDate(date, { weekday: "long", day: "numeric", month: "long" });
    $("#zone").textContent = this.#isFar(start) ? text("book.zone", zones) : "";
    $("#slots").classList.toggle("wide", Boolean(this.#choice.service.durationDays));
    if (inPlace) this.#slots.update(slots);
    else this.#slots.show(slots);
    this.#isListed = true;
    $("#day").inert = false;
  }

  /** @param {string} date */
  async #pickDate(date) {
    this.#date = date;
    this.#month.fill(this.#days, date);
    const signal = this.#begin(false);
    await runStep(() => this.#listSlots(false, signal)).catch(this.#failed);
    // Others have taken the day meanwhile, or it is over.
    if (this.#isListed && !$("#slots").childElementCount) await this.list({ inPlace: true });
    $("#day").scrollIntoView({ block: "nearest" });
  }

  /** @param {string} month @returns {Promise<void>} */
  #turn(month) {
    this.#month.month = month;
    return this.list({ ahead: false });
  }

  /** Whether the visitor's clock shows another time. @param {string} instant */
  #isFar(instant) {
    return this.#clock.full(instant) !== this.#visitor.full(instant);
  }

  /** The lines of a slot's button. @param {Slot} slot */
  #lines({ slotStart, slotEnd, available, resourceIds }) {
    const { service, wanted } = this.#choice;
    const [start, end] = [this.#clock.time(slotStart), this.#clock.time(slotEnd)];
    const [day, isOneDay] = [this.#clock.day(slotEnd), this.#clock.date(slotStart) === this.#clock.date(slotEnd)];
    let time = start;
    if (isByNight(service)) time = text("book.night", { start, end, day });
    else if (service.durationDays) time += ` – ${isOneDay ? "" : `${day}, `}${end}`;
    const yours = this.#isFar(slotStart) ? [`(${this.#visitor.time(slotStart)})`] : [];
    const { moved } = this.#choice;
    const isKept = [undefined, moved?.resourceId].includes(wanted.resourceId);
    if (moved?.slotStart === slotStart && moved.slotEnd === slotEnd && isKept) {
      return [time, ...yours, text("book.yours")];
    }
    const isShared = !service.resourceIds.length || service.resourceSharing === "session";
    const isOne = isShared ? service.maxQuantity === 1 : wanted.resourceId || service.resourceIds.length === 1;
    return [time, ...yours, isOne ? "" : text("book.left", { count: isShared ? available : resourceIds.length })];
  }

  /** @param {Slot} slot */
  #partOfDay({ slotStart }) {
    const hour = this.#clock.hour(slotStart);
    return text(hour < "12" ? "book.morning" : hour < "17" ? "book.afternoon" : "book.evening");
  }

  /** Lists again what others have changed, soon: not all browsers at the same moment. @param {Change | null} change
   * @param {() => void} list */
  changed(change, list) {
    if (change && !change.serviceIds.includes(this.#choice.service?.serviceId)) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      list();
    }, 100 + 400 * Math.random());
  }
}
