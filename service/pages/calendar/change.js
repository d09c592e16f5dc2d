/** Changes appointments, each only at the version that was shown, and shows the outcome. */
import { $, button, make } from "../dom.js";
import { randomId, Refusal } from "../holdfast.js";
import { call, problemText, runStep, session } from "./api.js";
import { itemOf, resourceName, state } from "./catalog.js";
import { instantOf, localTime, minutesFrom, momentText, timeText, today } from "./time.js";
import { draw, itemText } from "./view.js";
import { hasText, isolated, text } from "../texts.js";

/** @typedef {import("./catalog.js").Item} Item */

/** The ids of this page's own changes, which the audit trail has. */
const own = new Set();

/**
 * Shows a message above the calendar, in the place of the dialog whose action has ended. Another one stays open: a move
 * may be answered while a form is filled in.
 *
 * @param {string} words @param {boolean} [bad] @param {...Node} more buttons
 */
export function tell(words, bad = false, ...more) {
  const notice = $("#notice");
  for (const dialog of document.querySelectorAll("dialog")) {
    if (dialog.querySelector(".actions button:disabled")) dialog.close();
  }
  notice.classList.toggle("bad", bad);
  const close = button(text("calendar.close"), () => {});
  notice.replaceChildren(make("p", {}, words), make("p", { class: "actions" }, ...more, close));
  if (bad) notice.focus();
}

$("#notice").addEventListener("click", (/** @type {any} */ { target }) => {
  if (!target.matches("button")) return;
  $("#notice").replaceChildren();
  // The button had the focus.
  $("#drawn > :not([hidden])")?.focus({ preventScroll: true });
});

/** @param {unknown} error */
export const tellProblem = (error) => tell(problemText(error), true);

/** @param {Item} item @param {string} [rest] @returns {string} */
export const pathOf = ({ id }, rest = "") =>
  `booking/appointments/${id}${rest}?${new URLSearchParams({ businessId: session.businessId })}`;

/** Replaces an appointment in the calendar, or adds it. @param {any} body @returns {Item} */
export function keep(body) {
  const item = itemOf(body);
  state.turn++;
  state.items = [...state.items.filter(({ id }) => id !== item.id), item].sort((a, b) => +a.start - +b.start);
  draw();
  return item;
}

/**
 * Changes an appointment. Shows a conflict and a lack of room with the ways out; throws other problems.
 *
 * @param {Item} item as it was shown @param {Record<string, any>} changes with a `reason`: it is cancelled
 * @returns {Promise<void>}
 */
export async function change(item, changes) {
  const id = randomId();
  own.add(id);
  try {
    const [method, path] = "reason" in changes ? ["POST", pathOf(item, "/cancel")] : ["PATCH", pathOf(item)];
    const body = { expectedVersion: item.version, ...changes };
    const saved = keep(await runStep(() => call(method, path, body, { "X-Request-Id": id })));
    tell([text("calendar.saved", { what: itemText(saved) }), ...warningsOf(saved)].join(" "));
  } catch (error) {
    draw();
    if (!(error instanceof Refusal)) throw error;
    if (error.code === "VERSION_CONFLICT") await resolve(item, changes);
    // The slot of one that has ended is final: it is confirmed again there, or not at all.
    else if (error.code === "SLOT_UNAVAILABLE" && !changes.status) tellAlternatives(item, changes, error);
    else throw error;
  } finally {
    $("#status").textContent = "";
  }
}

/** @param {Item} item @returns {string[]} the rules for guests that its slot breaks. */
export const warningsOf = ({ warnings = [] }) => [
  ...new Set(warnings.map(({ code }) => text(`calendar.code_${code}`))),
];

/**
 * Repeats a change in a conflict with changes of this page, whose answers were lost: one that was made already changes
 * nothing. In a conflict with others, shows who changed the appointment meanwhile, and offers the change again.
 *
 * @param {Item} item @param {Record<string, any>} changes
 */
async function resolve(item, changes) {
  const now = keep(await call("GET", pathOf(item)));
  // Afterwards, so that it has all changes up to that version.
  const { items } = await call("GET", pathOf(item, "/audit"));
  const later = items.filter((/** @type {any} */ { version }) => version > item.version);
  const isOwn = later.length && later.every((/** @type {any} */ { requestId }) => own.has(requestId));
  if (isOwn) return change(now, changes);
  const again = button(text("calendar.again"), () => change(now, following(changes, item, now)).catch(tellProblem));
  tell(text("calendar.conflict", { did: entryText(items.at(-1)), what: itemText(now) }), true, again);
}

/**
 * Changes of the length go with a start that others have moved: as much later or earlier by the clock.
 *
 * @param {Record<string, any>} changes @param {Item} item as it was shown @param {Item} now
 * @returns {Record<string, any>}
 */
function following(changes, item, now) {
  if (!changes.slotEnd || changes.slotStart) return changes;
  const [from, to] = [localTime(item.start), localTime(now.start)];
  const length = minutesFrom(from.date, new Date(changes.slotEnd)) - from.minutes;
  return { ...changes, slotEnd: instantOf(to.date, to.minutes + length).toISOString() };
}

/** @param {Item} item @param {Record<string, any>} changes @param {Refusal} problem */
function tellAlternatives(item, changes, { alternatives }) {
  const others = alternatives.slice(0, 4).map(({ slotStart, slotEnd, resourceIds: [resourceId] }) => {
    const other = { ...changes, slotStart, slotEnd, ...(resourceId && { resourceId }) };
    const words = [momentText(new Date(slotStart)), isolated(resourceName(resourceId))].filter(Boolean).join(", ");
    return button(words, () => change(item, other).catch(tellProblem));
  });
  tell(text(others.length ? "calendar.taken_others" : "calendar.code_SLOT_UNAVAILABLE"), true, ...others);
}

/** @param {any} entry of the audit trail @returns {string} who did what, and when. */
export function entryText({ actor, action, changes, at }) {
  const instant = new Date(at);
  const time = localTime(instant).date === today() ? timeText(instant) : momentText(instant);
  const who = actor.name ?? text(`calendar.by_${actor.kind}`);
  const moved = [
    changes.slotStart && momentText(new Date(changes.slotStart.after)),
    changes.resourceId && resourceName(changes.resourceId.after),
  ];
  const what = moved.filter(Boolean).join(", ");
  const did = action !== "created" && what ? "moved" : hasText(`calendar.did_${action}`) ? action : "changed";
  return text(`calendar.did_${did}`, { who, what, time });
}
