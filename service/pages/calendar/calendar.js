/** The calendar of a business: signs in with a key, shows a day or a week, and keeps it up to date. */
import { addDays } from "../dates.js";
import { $, secretOf } from "../dom.js";
import { Holdfast, Refusal } from "../holdfast.js";
import { forget, keep, kept } from "../kept.js";
import { call, mayAct, problemText, runStep, session, showProblem } from "./api.js";
import { columns, readItems, state } from "./catalog.js";
import { listenToClosures, openClosures } from "./closures.js";
import { choose, listenToEntry, openNew, run } from "./entry.js";
import { drawWhenFree, listen } from "./move.js";
import { dateText, instantOf, localTime, setZone, startOfWeek, today } from "./time.js";
import { countDown, draw, shownDates } from "./view.js";
import { isolated, startPage, text } from "../texts.js";

const REFRESH_SECONDS = 60;
const GATHER_MILLISECONDS = 150;
const RECONNECT_MILLISECONDS = 5000;
// In minutes of the day.
const [QUARTER, LAST_QUARTER] = [15, 23 * 60 + 45];
const STORED = "holdfast-calendar";
// The client of guests keeps an id and an attempt, which the calendar has no use for.
const NOWHERE = { getItem: () => null, setItem: () => {} };
/** @type {(() => void) | undefined} */
let stopWatching;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let planned;
let isCatalogStale = true;

function load() {
  const isBlank = $("#calendar").hidden && $("#sign-in").hidden;
  return isBlank ? runStep(read) : read();
}

/** Reads the shown range, and the catalog where it may have changed; draws it unless an appointment is being moved. */
async function read() {
  clearTimeout(planned);
  if (!session.key) return;
  const turn = ++state.turn;
  const readsCatalog = isCatalogStale;
  isCatalogStale = false;
  try {
    if (readsCatalog) {
      const read = ["document", "archived"].map((part) =>
        call("GET", `catalog/businesses/${session.businessId}/${part}`),
      );
      [state.catalog, state.archived] = await Promise.all(read);
      setZone(state.catalog.timezone);
    }
    state.date ||= today();
    goOn();
    const items = await readItems(...range());
    if (turn !== state.turn) return;
    state.items = items;
    drawWhenFree();
  } catch (error) {
    isCatalogStale ||= readsCatalog;
    if (error instanceof Refusal && error.code === "UNAUTHORIZED") return signOut(error);
    $("#status").textContent = problemText(error);
    plan(RECONNECT_MILLISECONDS);
  }
}

/** Shows the new day, or its week, where the day before it was the present one in view. */
function goOn() {
  const [before, now] = [state.present, today()];
  if (before === now) return;
  if (shownDates().includes(before)) state.date = state.view === "week" ? startOfWeek(now) : now;
  state.present = now;
  store();
}

function loadAll() {
  isCatalogStale = true;
  return load();
}

/** @returns {[Date, Date]} */
const range = () => [instantOf(state.date, 0), instantOf(addDays(state.date, shownDates().length), 0)];

/** @param {{ from: string, to: string }} change */
function isShown({ from, to }) {
  const [first, end] = range();
  return new Date(from) < end && new Date(to) > first;
}

/** Loads in a while, once for all requests meanwhile. @param {number} milliseconds */
function plan(milliseconds) {
  clearTimeout(planned);
  planned = setTimeout(load, milliseconds);
}

function watch() {
  stopWatching?.();
  const storage = { local: NOWHERE, session: NOWHERE };
  stopWatching = new Holdfast({ business: session.businessId, storage }).watch((change) => {
    if (change && !isShown(change)) return;
    isCatalogStale ||= !change;
    plan(GATHER_MILLISECONDS);
  });
}

/** Draws the calendar and what stands above it. */
function show() {
  if (!session.key) return;
  $("#status").textContent = "";
  offer(false);
  $("#drawn").ariaBusy = "false";
  $("#business").textContent = isolated((document.title = state.catalog.name));
  const dates = shownDates();
  const [first, last] = [dates[0], dates[dates.length - 1]];
  const long = /** @type {const} */ ({ day: "numeric", month: "long", year: "numeric" });
  $("#range").textContent = dateText(first, last, first === last ? { weekday: "long", ...long } : long);
  const field = $("#date");
  // Any date in view, and one that is being typed, stays as it is.
  const isTyped = document.activeElement === field && !field.validity.valid;
  if (!isTyped && !dates.includes(field.value)) field.value = first;
  for (const view of ["day", "week"]) $(`#${view}`).setAttribute("aria-pressed", state.view === view);
  const entries = columns().map(({ id, name }) => [id, name]);
  if (!entries.some(([id]) => id === state.filter)) state.filter = "";
  choose($("#filter"), [["", text("calendar.all")], ...entries], state.filter);
  draw();
}

/** @param {Partial<typeof state>} wanted */
function go(wanted) {
  Object.assign(state, wanted);
  if (state.view === "week") state.date = startOfWeek(state.date);
  store();
  $("#drawn").ariaBusy = "true";
  load();
}

function store() {
  const { view, date, present, filter } = state;
  keep(STORED, { session, place: { view, date, present, filter } });
}

/** @param {string} business @param {string} key */
async function signIn(business, key) {
  Object.assign(session, { businessId: "", key: "", role: "" });
  const found = await call("GET", `v1/public/${encodeURIComponent(business)}`);
  Object.assign(session, { businessId: found.business.businessId, key });
  session.role = (await call("GET", `catalog/businesses/${session.businessId}/own-key`)).role;
  await enter();
  $("#today").focus();
}

/** Shows the form, or the calendar with what the role may do. @param {boolean} isOut */
function offer(isOut) {
  $("#sign-in").hidden = !isOut;
  $("#calendar").hidden = $("#sign-out").hidden = isOut;
  $("#new").hidden = !mayAct("staff");
  $("#closures-open").hidden = !mayAct();
  $("#role").textContent = isOut ? "" : text(`calendar.role_${session.role}`);
}

async function enter() {
  store();
  watch();
  await loadAll();
}

/** @param {unknown} [reason] */
function signOut(reason) {
  stopWatching?.();
  forget(STORED);
  session.key = "";
  if (!reason) return location.reload();
  for (const part of ["#tape", "#grid", "#notice"]) $(part).replaceChildren();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  offer(true);
  showProblem($("#sign-in"), reason);
}

startPage();
listen($("#drawn"), load, show);
listenToEntry(load);
listenToClosures(loadAll);
for (const close of document.querySelectorAll("dialog .close"))
  close.addEventListener("click", () => close.closest("dialog")?.close());
const days = () => shownDates().length;
/** @type {Record<string, () => unknown>} */
const actions = {
  "sign-out": () => signOut(),
  previous: () => go({ date: addDays(state.date, -days()) }),
  next: () => go({ date: addDays(state.date, days()) }),
  today: () => go({ date: today() }),
  day: () => go({ view: "day", ...(shownDates().includes(today()) && { date: today() }) }),
  week: () => go({ view: "week" }),
  new: () => {
    const date = shownDates().includes(today()) ? today() : state.date;
    // Not past midnight, where it would be another date than the one in view.
    const next = Math.min(Math.ceil(localTime(Date.now()).minutes / QUARTER) * QUARTER, LAST_QUARTER);
    openNew(instantOf(date, next), state.filter);
  },
  "closures-open": () => openClosures(state.date),
};
for (const [id, act] of Object.entries(actions)) $(`#${id}`).addEventListener("click", act);
$("#date").addEventListener("change", () => $("#date").validity.valid && go({ date: $("#date").value }));
$("#filter").addEventListener("change", () => go({ filter: $("#filter").value }));
$("#sign-in").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const { business, key } = $("#sign-in").elements;
  run($("#sign-in"), () => signIn(business.value.trim(), secretOf(key)));
});
setInterval(() => countDown() && drawWhenFree(), 1000);
setInterval(() => session.key && !document.hidden && load(), REFRESH_SECONDS * 1000);

const stored = kept(STORED);
if (stored) {
  Object.assign(session, stored.session);
  Object.assign(state, stored.place);
  enter();
} else offer(true);
