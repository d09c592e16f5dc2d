/**
 * The booking page of a business: a guest chooses a slot, holds it, books it, and moves or cancels the booking later.
 *
 * @import { Alternative, Appointment, Catalogue, Change, Reservation, Ticket, Wanted, Wish } from "../holdfast.js"
 */

// First, so that its request does not wait for the other modules.
import { firstCatalogue, holdfast } from "./visit.js";
import { calendarFile, lengthOf, otherLength, summarise, terms } from "./booking.js";
import { Choice } from "./choice.js";
import { $, button, showFaults } from "../dom.js";
import { timeLeft } from "../dates.js";
import { Refusal } from "../holdfast.js";
import { forget, keep, kept } from "../kept.js";
import { Listing } from "./listing.js";
import { adoptOwn } from "./own.js";
import { hasText, isolated, startPage, text } from "../texts.js";
import { Clock, MINUTE, addMonths, later } from "./times.js";
import { runStep } from "./waiting.js";

// In seconds: the countdown stands out from the first on, and a screen reader says the others.
const [LAST, SPOKEN] = [120, [300, 120, 30]];
const ENDED = ["RESERVATION_NOT_FOUND", "RESERVATION_RELEASED", "RESERVATION_EXPIRED"];
/** The codes that mean to a guest what others do. @type {Record<string, string>} */
const SAME = {
  APPOINTMENT_NOT_FOUND: "FORBIDDEN",
  SERVICE_NOT_FOUND: "SLOT_NOT_BOOKABLE",
  RESOURCE_NOT_FOUND: "SLOT_NOT_BOOKABLE",
};
const SECTIONS = ["choose", "details", "booked", "failed"];
// A business may change all the time: the page reads its booking again after this many milliseconds at the earliest.
const BETWEEN_READS = 3000;

/** @param {string | undefined} id */
const serviceOf = (id) => catalogue.services.find(({ serviceId }) => serviceId === id);
const isShown = (/** @type {string} */ section) => !$(`#${section}`).hidden;

const KEPT = `holdfast-page:${location.pathname}`;
const visitor = new Clock();
const choice = new Choice($("#choice"), () => listing.list());
let clock = visitor;
/** @type {Catalogue} */
let catalogue;
/** @type {Catalogue} the one of which the guest chooses. */
let offered;
/** @type {Listing} */
let listing;
/** @type {Wish | undefined} the slot that is held, or was. */
let wish;
/** @type {Appointment | undefined} */
let booking;
/** @type {(() => void) | undefined} */
let stopCountdown;
let isRepeated = false;
let busy = false;
let isAway = false;
let lastRead = -BETWEEN_READS;
let reading = new AbortController();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let nextRead;
/** @type {any} the element from which a notice took the focus. */
let pressed;

/** Shows one step, and begins at its heading. @param {string} step @param {string} [heading] */
function show(step, heading) {
  const title = headingOf(step);
  if (heading) title.textContent = heading;
  const name = catalogue?.business.name;
  document.title = (step === "choose" ? text("book.title") : title.textContent) + (name ? ` – ${name}` : "");
  if (isShown(step)) return;
  const isFirst = !SECTIONS.some(isShown);
  for (const section of SECTIONS) $(`#${section}`).hidden = section !== step;
  if (isFirst) return;
  scrollTo(0, 0);
  title.focus();
}

/** @param {string} words @param {HTMLElement[]} [buttons] the ways out. */
function notice(words, buttons = []) {
  const { activeElement } = document;
  if (activeElement !== document.body && !$("#notice").contains(activeElement)) pressed = activeElement;
  $("#notice-text").textContent = words;
  $("#notice .actions").replaceChildren(...buttons);
  $("#notice").hidden = !words;
  if (words) $("#notice").focus();
}

/** The heading with which a step begins. @param {string} step @returns {HTMLElement} */
const headingOf = (step) => (step === "choose" ? $("#business") : $(`#${step} h2`));

/** Gives the focus back to an element where it was lost, or to the heading of the step if that element is gone.
 *
 * @param {any} element */
function giveBack(element) {
  const { activeElement, body } = document;
  const step = SECTIONS.find(isShown);
  const isSeen = (/** @type {Element | null} */ one) => Boolean(one?.getClientRects().length);
  if (element === body || !step || (activeElement !== body && isSeen(activeElement))) return;
  (isSeen(element) ? element : headingOf(step)).focus();
}

/** Returns how to find an element once a list was made again, with another one in its place. @param {any} element */
function madeAgain(element) {
  const { value, dataset } = element;
  const [name] = Object.keys(dataset);
  const selector = name ? `[data-${name}="${dataset[name]}"]` : `#services [value="${value}"]`;
  return () => (element.isConnected ? element : $(selector));
}

/** Runs a step, one at a time, and shows why it was refused. @param {() => unknown} step */
async function act(step) {
  if (busy) {
    // The browser is at another place of its history already.
    if (step === route) isAway = true;
    return;
  }
  const { activeElement } = document;
  notice("");
  busy = $("#guest .primary").disabled = true;
  try {
    await runStep(step);
  } catch (error) {
    refused(error);
    if (isShown("choose")) listing.list({ inPlace: true });
  } finally {
    busy = $("#guest .primary").disabled = false;
    giveBack(activeElement);
    if (isAway) act(route);
    else offerAgain();
    isAway = false;
  }
}

/** @param {unknown} error @param {() => unknown} [again] a step for which the guest has no button. */
function refused(error, again) {
  if (error instanceof DOMException) return;
  if (!(error instanceof Refusal)) throw error;
  // The business has cancelled it meanwhile: its present state says so.
  if (error.code === "APPOINTMENT_ENDED") {
    isAway = true;
    return;
  }
  const code = error.isTemporary ? "NO_ANSWER" : (SAME[error.code] ?? error.code);
  const name = [code, "other"].map((known) => `book.code_${known}`).find(hasText) ?? "";
  const words = text(name, { business: catalogue?.business.name ?? "" });
  if (!SECTIONS.some(isShown)) {
    show("failed", words);
    $("#failed button").hidden = !error.isTemporary;
  } else if (!mark(error.errors)) {
    offer(words, error.alternatives, error.isTemporary ? again : undefined);
  }
  if (isShown("details") && !holdfast.attempt) ended();
}

/** Shows a refusal with its ways out. @param {string} words @param {Alternative[]} slots @param {() => void} [again] */
function offer(words, slots, again) {
  const buttons = slots.map((slot) => {
    const { resourceId } = wanted();
    // The very time may be free with another resource.
    const other = resourceId && !slot.resourceIds.includes(resourceId) ? slot.resourceIds[0] : undefined;
    const named = [clock.day(slot.slotStart), clock.time(slot.slotStart), ...nameOf(other)];
    return button(named.join(", "), () => pick(slot, other));
  });
  if (again) buttons.push(button(text("book.retry"), () => act(again)));
  notice(slots.length ? text("book.nearby", { words }) : words, buttons);
}

/** Shows the faults of the guest's fields, if there are any. @param {{ field: string, code: string }[]} faults */
function mark(faults) {
  const words = faults.map(({ field, code }) => {
    const known = [code, field, "invalid"].map((name) => `book.code_${name}`).find(hasText);
    return [field, text(known ?? "")];
  });
  return showFaults($("#guest"), Object.fromEntries(words));
}

// Choosing

/** Keeps what the guest chose and wrote, for a page that is loaded again. */
function save() {
  const typed = Object.fromEntries(new FormData($("#guest")));
  if (!booking) keep(KEPT, { choice: choice.kept, place: listing.place, typed });
}

const saved = () => kept(KEPT) ?? {};

/** Leads to the choice of a slot. @returns {Promise<void> | void} once the slots are listed. */
function choose() {
  const { business, services } = catalogue;
  if (!services.length) return show("failed", text("book.nothing", { business: business.name }));
  stopCountdown?.();
  booking = undefined;
  const { choice: chosen = {}, place = { date: "", month: "" } } = saved();
  listing.place = place;
  $("#choose").classList.remove("moves");
  $("#moving").hidden = true;
  choice.offer((offered = catalogue), chosen);
  show("choose");
  // A long list scrolls by itself.
  const [list, chosenLabel] = [$("#services"), $("#services label:has(:checked)")];
  list.scrollTop = chosenLabel.offsetTop - list.offsetTop - chosenLabel.offsetHeight / 2;
  const released = holdfast.release().catch((error) => {
    // The answer of a commit was lost.
    if (error.code === "RESERVATION_COMMITTED") act(async () => booked(await holdfast.commit()));
    else refused(error);
  });
  // Afterwards, so that the guest's own slot is among the free ones.
  return released.then(() => listing.list());
}

// Holding and booking

/** What the slot in view is for. @returns {Wanted} */
const wanted = () => (isShown("details") && wish) || choice.wanted;

/** @param {string | undefined} id @returns {string[]} the name of a resource, if there is one. */
const nameOf = (id) =>
  catalogue.resources.filter(({ resourceId }) => resourceId === id).map(({ name }) => isolated(name));

/** @param {{ slotStart: string, slotEnd: string }} slot @param {string} [other] not the wanted resource. */
function pick({ slotStart, slotEnd }, other) {
  const { serviceId, quantity, resourceId } = wanted();
  const slot = { slotStart, slotEnd, resourceId: other ?? resourceId };
  return act(() => (booking ? move(slot) : hold({ serviceId, quantity, ...slot })));
}

/** @param {Wish} wanted */
async function hold(wanted) {
  const held = await holdfast.hold(wanted).catch((error) => adoptOwn(error, wanted));
  wish = wanted;
  count(held);
  return held;
}

/** Shows the form for the guest, beside a slot. @param {Wish & Partial<Reservation>} slot */
function fillIn(slot) {
  const { slotStart, slotEnd = slotStart, quantity = 1, resourceId = null, serviceId } = slot;
  // The way back leads to the choice: also from a hold of an earlier visit, with which the page begins. A guest who
  // took it meanwhile stays there.
  if (!isAway && history.state?.step !== "details") history.pushState({ step: "details" }, "");
  summarise($("#details .panel"), { serviceId, slotStart, slotEnd, quantity, resourceId }, catalogue, clock, visitor);
  const { cancellationWindowMinutes = 0, rescheduleWindowMinutes = 0 } = serviceOf(serviceId) ?? {};
  const cancellableUntil = later(-cancellationWindowMinutes * MINUTE, slotStart);
  const reschedulableUntil = later(-rescheduleWindowMinutes * MINUTE, slotStart);
  $("#details .terms").textContent = terms({ cancellableUntil, reschedulableUntil }, clock, catalogue.business.name);
  show("details");
}

/** @param {Reservation} held */
function count(held) {
  fillIn(/** @type {any} */ (held));
  stopCountdown?.();
  $("#held").className = "held";
  $("#held span").textContent = text("book.held");
  $("#longer").textContent = text("book.longer");
  stopCountdown = holdfast.countdown((seconds) => {
    $("#left").textContent = timeLeft(seconds);
    $("#held").classList.toggle("last", seconds <= LAST);
    if (SPOKEN.includes(seconds)) $("#spoken").textContent = text("book.time_left", { count: seconds });
  }, (refusal) => (refusal.code === "RESERVATION_COMMITTED" ? act(() => giveUp(refusal)) : ended()));
}

/** Leads to the choice, and says why. @param {unknown} error @returns {never} */
function giveUp(error) {
  choose();
  throw error;
}

/** Says that the hold has ended: what was typed stays. */
function ended() {
  stopCountdown?.();
  $("#held").className = "held ended";
  $("#spoken").textContent = $("#held span").textContent = text("book.ended");
  $("#left").textContent = "";
  $("#longer").textContent = text("book.hold_again");
}

async function longer() {
  if (!wish) return;
  const held = await (holdfast.attempt
    ? holdfast.extend(serviceOf(wish.serviceId)?.holdTtlMinutes ?? 1)
    : hold(wish));
  $("#spoken").textContent = text("book.time_left", { count: Math.round(held.expiresInSeconds) });
}

async function book() {
  const guest = Object.fromEntries([...new FormData($("#guest"))].filter(([, value]) => String(value).trim()));
  if (mark(guest.guestName ? [] : [{ field: "guestName", code: "required" }])) return;
  const commit = async () => {
    if (!holdfast.attempt && wish) await hold(wish);
    return holdfast.commit(guest, { ifExpired: "rebook" });
  };
  // A hold that another window has released is made again.
  booked(await commit().catch((error) => (ENDED.includes(error.code) ? commit() : Promise.reject(error))));
}

/** @param {Appointment & Ticket} appointment */
function booked({ appointmentId, cancellationToken: token, ...appointment }) {
  stopCountdown?.();
  forget(KEPT);
  $("#guest").reset();
  history.replaceState({ step: "booked" }, "", `#${new URLSearchParams({ appointment: appointmentId, token })}`);
  showBooking({ ...appointment, appointmentId }, text("book.booked"));
}

// The booking

/** The ticket in the fragment of the address, which no browser sends. @returns {Ticket | null} */
function ticket() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const [appointmentId, cancellationToken] = [fragment.get("appointment"), fragment.get("token") ?? ""];
  return appointmentId ? { appointmentId, cancellationToken } : null;
}

/** @param {Appointment} appointment @param {string} [heading] */
function showBooking(appointment, heading = text("book.yours")) {
  booking = appointment;
  const { status, slotEnd, cancellableUntil, reschedulableUntil, serviceId } = appointment;
  const { business } = catalogue;
  const service = serviceOf(serviceId);
  const now = later(0);
  const isLive = status === "confirmed" && slotEnd > now;
  summarise($("#booked .panel"), appointment, catalogue, clock, visitor);
  const until = { cancellableUntil, reschedulableUntil: service && reschedulableUntil };
  $("#booked .terms").textContent = isLive ? terms(until, clock, business.name) : "";
  $("#move").hidden = !isLive || !service || reschedulableUntil < now;
  $("#cancel").hidden = !isLive || cancellableUntil < now;
  $("#calendar").hidden = $("#link").hidden = !isLive;
  // Only pages by HTTPS have it.
  $("#link button").hidden = !navigator.clipboard;
  const file = calendarFile(appointment, service?.name ?? business.name, business.name);
  $("#calendar").href = URL.createObjectURL(new Blob([file], { type: "text/calendar" }));
  show("booked", isLive ? heading : text(status === "cancelled" ? "book.cancelled" : "book.over"));
}

const isBookingInView = () => isShown("booked") || isShown("choose");

/**
 * Reads the booking in view again, soon, if a change may be one of it: not all browsers at the same moment.
 *
 * @param {Change | null} [change]
 */
function follow(change = null) {
  if (!booking || !isBookingInView()) return;
  const { serviceId, slotStart } = booking;
  if (change && !(change.serviceIds.includes(serviceId) && change.from <= slotStart && slotStart < change.to)) return;
  const wait = Math.max(0, lastRead + BETWEEN_READS - performance.now()) + 100 + 400 * Math.random();
  nextRead ??= setTimeout(showChanges, wait);
}

/** Shows what became of the booking: not below a step that is under way. */
async function showChanges() {
  nextRead = undefined;
  const of = ticket();
  if (busy) return follow();
  if (!of || document.hidden) return;
  reading.abort();
  reading = new AbortController();
  lastRead = performance.now();
  const fresh = await holdfast.appointment(of, { signal: reading.signal }).catch(() => undefined);
  // The guest may have changed it meanwhile, or may look at another one.
  const isNews = fresh?.appointmentId === booking?.appointmentId && Number(fresh?.version) > Number(booking?.version);
  if (!fresh || !isNews || !isBookingInView()) return;
  if (busy) return follow();
  const { activeElement } = document;
  booking = fresh;
  if (isShown("choose") && fresh.status === "confirmed") return chooseAgain();
  showBooking(fresh);
  giveBack(activeElement);
  $("#spoken").textContent = `${headingOf("booked").textContent}: ${clock.full(fresh.slotStart, fresh.slotEnd)}`;
}

/** Lets the guest choose another slot of the booking. @param {boolean} [isAgain] where the guest was looking already.
 * @returns {Promise<void> | void} once the slots are listed. */
function startMove(isAgain = false) {
  if (!booking) return;
  const [{ serviceId, resourceId, quantity }, of] = [booking, ticket()];
  // The business offers it no more: the slots would be those of another service.
  if (!of || !serviceOf(serviceId)) return showBooking(booking);
  const present = { resourceId: resourceId ?? "", duration: lengthOf(booking, catalogue, clock) };
  const chosen = { ...(isAgain ? choice.kept : present), serviceId, quantity };
  choice.offer((offered = catalogue), chosen, { ...booking, ...of });
  $("#choose").classList.add("moves");
  $("#moving").hidden = false;
  $("#moving span").textContent = text("book.moving", { when: clock.full(booking.slotStart, booking.slotEnd) });
  const date = clock.date(booking.slotStart);
  if (!isAgain) listing.place = { date, month: addMonths(date, 0) };
  show("choose");
  return listing.list();
}

/** @param {{ slotStart: string, slotEnd: string, resourceId?: string }} slot */
async function move(slot) {
  const to = ticket();
  if (!to || !booking) return;
  const when = [clock.full(slot.slotStart, slot.slotEnd), ...nameOf(slot.resourceId)].join(", ");
  const length = otherLength(booking, slot, catalogue, clock);
  if (!(await agreed(`${text("book.move_question", { when })} ${length}`, text("book.move")))) return;
  const resourceId = choice.service.resourceIds.length ? (slot.resourceId ?? null) : undefined;
  const moved = await holdfast.reschedule(to, { ...slot, resourceId });
  history.replaceState({ step: "booked" }, "");
  showBooking(moved, moved.version === booking?.version ? undefined : text("book.moved"));
}

async function cancel() {
  const of = ticket();
  if (of && (await agreed(text("book.cancel_question"), text("book.cancel")))) showBooking(await holdfast.cancel(of));
}

/** Asks in a dialog. @param {string} question @param {string} yes @returns {Promise<boolean>} */
function agreed(question, yes) {
  const dialog = $("#confirm");
  $("#confirm-text").textContent = question;
  $("#confirm .primary").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// The steps, also of the browser's history

async function route() {
  const of = ticket();
  if (of) {
    showBooking(await holdfast.appointment(of));
    if (history.state?.step === "move" && !$("#move").hidden) startMove();
  } else if (history.state?.step === "details" && wish) await hold(wish);
  else choose();
}

/** Shows the business, and watches its changes. */
async function load() {
  const asked = isRepeated ? holdfast.catalogue() : firstCatalogue;
  isRepeated = true;
  catalogue = await asked;
  const { business } = catalogue;
  clock = new Clock(business.timezone);
  $("#business").textContent = isolated(business.name);
  $("#about").textContent = isolated(business.description ?? "");
  choice.offer(catalogue, saved().choice ?? {});
  const failed = (/** @type {unknown} */ error) => refused(error, () => listing.list());
  listing = new Listing(choice, [clock, visitor], { pick, listed: save, failed });
  holdfast.watch(async (change) => {
    follow(change);
    // Anything may have changed.
    const fresh = change ? catalogue : await holdfast.catalogue().catch(() => catalogue);
    // All times in view are by the former clock. What the guest does is kept.
    if (fresh.business.timezone !== business.timezone) return location.reload();
    const isSame = JSON.stringify(fresh) === JSON.stringify(catalogue);
    if (isSame) return listing.changed(change, listAgain);
    catalogue = fresh;
    return offerAgain();
  });
}

/** Lists again what is in view: where dates are over, anew, with the focus where it was. */
async function listAgain() {
  if (!isShown("choose") || busy) return;
  const again = madeAgain(document.activeElement);
  await listing.list({ inPlace: true });
  giveBack(again());
}

/** Leads to the choice again where the catalogue has changed: not below a step that is under way. */
async function offerAgain() {
  if (isShown("choose") && !busy && offered !== catalogue) await chooseAgain();
}

/** Leads to the choice again, with the focus where it was. */
async function chooseAgain() {
  const again = madeAgain(document.activeElement);
  await (booking ? startMove(true) : choose());
  giveBack(again());
}

async function start() {
  if (!catalogue) await load();
  if (ticket()) return route();
  const { slot, ticket: done } = holdfast.attempt ?? {};
  // The list is no part of the step: the guest can go on before it is there.
  if (!slot || done) return void choose();
  for (const [name, value] of Object.entries(saved().typed ?? {})) {
    $(`#guest [name=${name}]`).value = value;
  }
  wish = slot;
  fillIn(slot);
  const { appointment, reservation } = await holdfast.resume().catch(giveUp);
  if (appointment) booked(appointment);
  else if (reservation) count(reservation);
}

/** @param {string} selector @param {() => unknown} step */
const on = (selector, step) => $(selector).addEventListener("click", () => act(step));

startPage();
setInterval(() => isShown("choose") && listing.isOld && !document.hidden && listAgain(), MINUTE);
on("#longer", longer);
on("#cancel", cancel);
on("#failed button", start);
on("#move", () => {
  history.pushState({ step: "move" }, "");
  startMove();
});
// Where the browser does not allow it, the guest copies the address by hand.
on("#link button", async () => {
  const { href } = location;
  await navigator.clipboard.writeText(href).then(() => notice(text("book.copied")), () => notice(href));
});
for (const selector of ["#back", "#moving button"]) on(selector, () => history.back());
$("#notice > button").addEventListener("click", () => {
  notice("");
  giveBack(pressed);
});
$("#confirm .primary").addEventListener("click", () => $("#confirm").close("yes"));
$("#confirm button:not(.primary)").addEventListener("click", () => $("#confirm").close());
$("#guest").addEventListener("input", save);
$("#guest").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  act(book);
});
$("#again").href = location.pathname + location.search;
addEventListener("popstate", () => act(route));
addEventListener("pageshow", ({ persisted }) => {
  const { slot, guest } = holdfast.attempt ?? {};
  // The slot was given back: held again, it may have another resource.
  if (persisted && isShown("details") && slot && !guest) act(() => hold(slot));
});
act(start);
