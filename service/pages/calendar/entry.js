/** The dialog of one appointment: its data, its changes, and a new booking. */
import { addDays } from "../dates.js";
import { $, button, make } from "../dom.js";
import { Refusal } from "../holdfast.js";
import { Attempt, call, mayAct, problemText, runStep, session, showProblem, showWaiting } from "./api.js";
import { columns, isOfDays, resourceName, serviceOf, state } from "./catalog.js";
import { change, entryText, keep, pathOf, tell, tellProblem, warningsOf } from "./change.js";
import { clockOf, daysBetween, instantOf, localTime, minutesOf, momentText } from "./time.js";
import { itemText, statusText } from "./view.js";
import { isolated, text } from "../texts.js";

/** @typedef {import("./catalog.js").Item} Item */

// The fields that can't change once an appointment has ended.
const SLOT = ["serviceId", "resourceId", "date", "time", "duration", "quantity"];
const dialog = $("#entry");
const form = /** @type {HTMLFormElement} */ ($("#change form"));
const cancelling = /** @type {HTMLFormElement} */ ($("#cancel form"));
const fields = /** @type {Record<string, HTMLInputElement>} */ (/** @type {unknown} */ (form.elements));
/** @type {Item | null} */
let shown = null;
let before = "";
const attempt = new Attempt();

/** @param {HTMLSelectElement | HTMLInputElement} select @param {string[][]} entries @param {string} chosen */
export function choose(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, name]) => make("option", { value }, name)));
  select.value = chosen;
}

/** Shows an appointment. @param {Item} item */
export function openItem(item) {
  shown = item;
  const { guestName, guestEmail, guestPhone, notes, cancellationReason, status, start } = item;
  const service = serviceOf(item.serviceId).name;
  $("#entry-title").textContent = isolated(guestName ?? service);
  const what = [service, resourceName(item.resourceId)].filter(Boolean).map(isolated).join(" · ");
  const facts = [
    momentText(item.start, item.end),
    what,
    statusText(item),
    guestEmail && make("a", { href: `mailto:${guestEmail}` }, guestEmail),
    guestPhone && make("a", { href: `tel:${guestPhone}` }, guestPhone),
    isolated(notes ?? ""),
    isolated(cancellationReason ?? ""),
  ];
  $("#facts").replaceChildren(...facts.flatMap((fact) => (fact ? [make("li", {}, fact)] : [])));
  const ends = +start <= Date.now() ? ["completed", "no_show"] : [];
  const next = status === "confirmed" ? ends : status === "cancelled" ? [] : ["confirmed"];
  const buttons = next.map((to) =>
    button(text(`calendar.set_${to}`), () => run(form, () => change(item, { status: to }))),
  );
  $("#statuses").replaceChildren(...(mayAct("staff") ? buttons : []));
  $("#change").hidden = !mayAct("staff") || status === "cancelled";
  $("#cancel").hidden = !mayAct("staff") || status !== "confirmed";
  $("#history").hidden = false;
  for (const details of dialog.querySelectorAll("details")) details.open = false;
  fill(item.serviceId, item.resourceId ?? "", item.start, lengthOf(item));
  for (const name of /** @type {const} */ (["guestName", "guestEmail", "guestPhone", "notes", "quantity"])) {
    fields[name].value = String(item[name] ?? "");
  }
  for (const name of SLOT) fields[name].disabled = status !== "confirmed";
  show();
}

/** Shows the form for a new appointment. @param {Date} start @param {string} column @param {boolean} [ofDays] */
export function openNew(start, column, ofDays = false) {
  shown = null;
  const offered = columns().flatMap(({ id, services }) => (!column || id === column ? services : []));
  const serviceId = offered.find((id) => isOfDays(id) === ofDays) ?? offered[0];
  if (!serviceId) return tell(text("calendar.nothing"), true);
  form.reset();
  $("#entry-title").textContent = text("calendar.book");
  for (const part of ["#facts", "#statuses"]) $(part).replaceChildren();
  for (const part of ["#cancel", "#history"]) $(part).hidden = true;
  for (const name of SLOT) fields[name].disabled = false;
  fill(serviceId, column, start);
  fields.quantity.value = "1";
  $("#change").hidden = false;
  $("#change").open = true;
  show();
}

function show() {
  $("#change summary").hidden = !shown;
  for (const one of [form, cancelling]) showProblem(one);
  before = JSON.stringify(members());
  if (!dialog.open) dialog.showModal();
}

/** @param {string} serviceId @param {string} resourceId @param {Date} start @param {number} [length] */
function fill(serviceId, resourceId, start, length) {
  const services = Object.keys(state.catalog.services).map((id) => [id, serviceOf(id).name]);
  choose(fields.serviceId, services, serviceId);
  fillService(resourceId, length);
  const { date, minutes } = localTime(start);
  fields.date.value = date;
  fields.time.value = clockOf(minutes);
  fillTime();
}

/** Begins a new stay or rental at the first time of its service. */
function fillTime() {
  const { durationDays, startTimes } = serviceOf(fields.serviceId.value);
  if (!shown && durationDays && startTimes) fields.time.value = startTimes[0];
}

/** @param {string} resourceId @param {number} [length] in minutes or days */
function fillService(resourceId, length) {
  const service = serviceOf(fields.serviceId.value);
  /** @type {Set<string>} */
  const ids = new Set(service.resourceIds);
  // The resource of an appointment may have left the pool of its service since.
  if (shown?.resourceId && shown.serviceId === fields.serviceId.value) ids.add(shown.resourceId);
  const names = [...ids].map((id) => [id, resourceName(id)]);
  choose(fields.resourceId, [["", text("calendar.any")], ...names], ids.has(resourceId) ? resourceId : "");
  /** @type {HTMLElement} */ (fields.resourceId.parentElement).hidden = !names.length;
  $("#unit").textContent = text(service.durationDays ? "calendar.length_days" : "calendar.length_minutes");
  fields.duration.value = String(length ?? service.durationDays ?? service.durationMinutes);
}

/** @param {Item} item @returns {number} in the unit of its service */
function lengthOf({ serviceId, start, end }) {
  if (!isOfDays(serviceId)) return (+end - +start) / 60_000;
  // The end itself may be late by the clock: after an hour that it skips.
  const [first, last] = [localTime(start), localTime(+end - 60_000)];
  return daysBetween(first.date, last.date) + (last.minutes >= first.minutes ? 1 : 0);
}

/** @param {HTMLFormElement} one @returns {Record<string, any>} the values of a form; null for an empty one. */
export const entered = (one) =>
  Object.fromEntries([...new FormData(one)].map(([name, value]) => [name, String(value).trim() || null]));

/** @returns {Record<string, any>} the members of a request. */
function members() {
  const { date, time, duration, quantity, ...rest } = entered(form);
  if (!fields.date.disabled) Object.assign(rest, { quantity: Number(quantity) || null });
  if (date && time) rest.slotStart = instantOf(date, minutesOf(time)).toISOString();
  return { ...rest, ...(duration && { length: Number(duration) }) };
}

/** @param {string} slotStart @param {number} length @returns {string} the end of a slot of the chosen service. */
function endOf(slotStart, length) {
  const { durationDays, endTime } = serviceOf(fields.serviceId.value);
  if (!durationDays) return new Date(Date.parse(slotStart) + length * 60_000).toISOString();
  const { date, minutes } = localTime(Date.parse(slotStart));
  const until = endTime ? minutesOf(endTime) : minutes;
  return instantOf(addDays(date, length - (until > minutes ? 1 : 0)), until).toISOString();
}

/**
 * Runs the action of a form: says when it takes long, and shows a problem in the form or, once its dialog was closed,
 * above the calendar.
 *
 * @param {HTMLFormElement} one @param {() => Promise<void>} act
 */
export async function run(one, act) {
  const send = /** @type {HTMLButtonElement} */ (one.querySelector(".actions button"));
  // A second press would change an old version.
  if (send.disabled) return;
  const pressed = /** @type {HTMLElement | null} */ (document.activeElement);
  send.disabled = true;
  showProblem(one);
  let isLeft = false;
  /** @param {unknown} [error] */
  const end = (error) => {
    send.disabled = false;
    showProblem(one, error);
  };
  one.closest("dialog")?.addEventListener("close", () => (end(), (isLeft = true)), { once: true });
  try {
    await runStep(act, () => isLeft || showWaiting(one));
    if (!isLeft) end();
  } catch (error) {
    (isLeft ? tellProblem : end)(error);
  }
  // A button that is disabled loses the focus.
  if (document.activeElement === document.body) pressed?.focus();
}

async function save() {
  const missing = ["date", "time", "duration", "quantity"].filter(
    (name) => !fields[name].disabled && !fields[name].value,
  );
  if (missing.length) {
    const errors = missing.map((field) => ({ field, code: "required" }));
    throw new Refusal({ code: "VALIDATION_FAILED", errors });
  }
  const now = members();
  const then = JSON.parse(before);
  // Its own start, if that stays: the clock may show the time of the field twice.
  const start = shown && now.slotStart === then.slotStart ? shown.start.toISOString() : now.slotStart;
  // Another service has another length by default.
  const isLengthNew = now.length !== then.length || now.serviceId !== then.serviceId;
  if (start && now.length && isLengthNew) now.slotEnd = endOf(start, now.length);
  const changed = Object.entries(now).filter(
    ([name, value]) => name !== "length" && (shown ? value !== then[name] : value !== null),
  );
  if (shown) return change(shown, Object.fromEntries(changed));
  const body = { businessId: session.businessId, ...Object.fromEntries(changed) };
  const booked = keep(await call("POST", "booking/appointments", body, { "Idempotency-Key": attempt.id(body) }));
  attempt.end(); // the next guest may have the same data
  tell([text("calendar.booked", { what: itemText(booked) }), ...warningsOf(booked)].join(" "));
  if (!dialog.open) shown = booked; // gets the focus
}

/** @param {() => void} closed */
export function listenToEntry(closed) {
  fields.serviceId.addEventListener("change", () => {
    fillService(fields.resourceId.value);
    fillTime();
  });
  form.addEventListener("submit", (event) => (event.preventDefault(), run(form, save)));
  cancelling.addEventListener("submit", (event) => {
    event.preventDefault();
    run(cancelling, () => change(/** @type {Item} */ (shown), entered(cancelling)));
  });
  $("#history").addEventListener("toggle", async () => {
    if (!$("#history").open || !shown) return;
    const [item, list] = [shown, $("#history ol")];
    // What it has is of the appointment that was shown before.
    list.replaceChildren();
    const read = call("GET", pathOf(item, "/audit"));
    const lines = await read.then(({ items }) => items.map(entryText)).catch((error) => [problemText(error)]);
    if (item === shown) list.replaceChildren(...lines.map((/** @type {string} */ line) => make("li", {}, line)));
  });
  dialog.addEventListener("close", () => {
    // The focused element may have been drawn anew, or may be gone.
    const place = $(`[data-id="${shown?.id}"] button`) ?? $("#drawn > :not([hidden])");
    if (document.activeElement === document.body) place?.focus({ preventScroll: true });
    closed();
  });
}
