/** Moves appointments by the pointer or the keys, and the mark of the free place that is to be booked. */
import { $ } from "../dom.js";
import { mayAct } from "./api.js";
import { columnOf, columns, serviceOf, state } from "./catalog.js";
import { change, tellProblem } from "./change.js";
import { openItem, openNew } from "./entry.js";
import { clockText, dateText, instantOf, localTime, minutesFrom, momentText } from "./time.js";
import { text } from "../texts.js";

/** @typedef {import("./catalog.js").Item} Item */

const DRAG_PIXELS = 5;
/** @type {{item: Item, row: HTMLElement, zone: HTMLElement, at: number, byKey: boolean} | null} */
let moving = null;
let dragged = false;
let pressed = false;
let stale = false;
/** @type {() => unknown} */
let reload;
/** @type {() => unknown} */
let drawAll;

/** Draws, after the present press or move: a click and a move need the element that was pressed. */
export function drawWhenFree() {
  stale = pressed || !!moving;
  if (!stale) drawAll();
}

function release() {
  pressed = false;
  if (stale) drawWhenFree();
}

/** @param {HTMLElement} zone @returns {any} its numbers */
const numbers = ({ dataset: { first, unit, length } }) => ({
  first: Number(first),
  unit: Number(unit),
  length: Number(length),
});

/** @param {HTMLElement} zone @returns {boolean} */
const isOfDays = (zone) => zone.dataset.unit !== "60";

/** @param {HTMLElement} free @returns {number} */
const placeOf = (free) => Number(free.style.getPropertyValue("--at"));

/** @param {HTMLElement} zone @param {number} at @returns {Date} */
function instantAt(zone, at) {
  const { first, unit } = numbers(zone);
  return instantOf(zone.dataset.date ?? "", Math.round(first + at * unit));
}

/** @param {HTMLElement} zone @param {{clientX: number, clientY: number}} pointer @returns {number} */
function pointed(zone, { clientX, clientY }) {
  const { top, left, right, width, height } = zone.getBoundingClientRect();
  const { length } = numbers(zone);
  if (!isOfDays(zone)) return ((clientY - top) / height) * length;
  return ((document.dir === "rtl" ? right - clientX : clientX - left) / width) * length;
}

/** @param {HTMLElement} zone @param {number} at @param {(at: number) => number} round @returns {number} */
const snap = (zone, at, round) => (isOfDays(zone) ? round(at) : round(at * 4) / 4);

/** @param {string} key @param {HTMLElement} zone @returns {number[]} the steps along the zone, and to other zones. */
function steps(key, zone) {
  const forward = document.dir === "rtl" ? "ArrowLeft" : "ArrowRight";
  const [x, y] = [
    /^Arrow(Left|Right)$/.test(key) ? (key === forward ? 1 : -1) : 0,
    ["ArrowUp", "", "ArrowDown"].indexOf(key) - 1,
  ];
  return isOfDays(zone) ? [x, y % 2] : [y % 2, x];
}

/** @param {string} words */
const say = (words) => ($("#status").textContent = words);

/** @param {HTMLElement} root @param {() => unknown} load is called after each move. @param {() => unknown} all draws. */
export function listen(root, load, all) {
  [reload, drawAll] = [load, all];
  /** @param {Event} event @returns {any} */
  const about = ({ target }) => {
    const element = /** @type {HTMLElement} */ (target);
    const zone = /** @type {HTMLElement | null} */ (element.closest(".zone"));
    const row = /** @type {HTMLElement | null} */ (element.closest("li"));
    const free = mayAct("staff") && /** @type {HTMLElement | null | undefined} */ (zone?.querySelector(".free"));
    return { zone, row, free, item: state.items.find(({ id }) => id === row?.dataset.id), element };
  };
  root.addEventListener("click", (event) => {
    const { zone, free, item } = about(event);
    if (dragged) dragged = false;
    else if (item) item.expires || openItem(item);
    else if (free) openNew(instantAt(zone, placeOf(free)), zone.dataset.column, isOfDays(zone));
  });
  for (const type of /** @type {const} */ (["pointermove", "pointerdown"])) {
    root.addEventListener(type, (event) => {
      const { zone, free, item } = about(event);
      if (free && !item && !moving) mark(zone, free, snap(zone, pointed(zone, event), Math.floor));
    });
  }
  root.addEventListener("focusin", (event) => {
    const { zone, free, element } = about(event);
    if (element === free) mark(zone, free, placeOf(free));
  });
  root.addEventListener("keydown", (event) => {
    const { zone, row, free, item, element } = about(event);
    if (!zone) return;
    const [along, across] = steps(event.key, zone);
    if (element === free && along) {
      mark(zone, free, placeOf(free) + along * (isOfDays(zone) ? 1 : 0.25));
    } else if (moving?.byKey && ["Enter", " "].includes(event.key)) drop();
    else if (moving && event.key === "Escape") cancel();
    else if (item && (along || across) && canMove(item)) {
      moving ??= { item, row, zone, at: placeIn(zone, item), byKey: true };
      step(moving, along, across);
      show();
    } else return;
    event.preventDefault();
  });
  root.addEventListener("focusout", ({ relatedTarget }) => {
    if (moving?.byKey && relatedTarget !== null) cancel();
  });
  // Moves too: the end of a press may get lost.
  for (const type of /** @type {const} */ (["pointerup", "pointercancel", "pointermove"]))
    addEventListener(type, ({ buttons }) => pressed && !buttons && setTimeout(release));
  root.addEventListener("pointerdown", (event) => {
    const { zone, row, item } = about(event);
    dragged = false;
    pressed = event.button === 0;
    if (moving) cancel();
    else if (item && canMove(item) && event.button === 0 && event.pointerType !== "touch") {
      drag(item, row, zone, event);
    }
  });
}

/** @param {HTMLElement} zone @param {HTMLElement} free @param {number} at */
function mark(zone, free, at) {
  const place = Math.max(0, Math.min(numbers(zone).length - (isOfDays(zone) ? 1 : 0.25), at));
  const { date, minutes } = localTime(instantAt(zone, place));
  const time = isOfDays(zone) ? dateText(date) : clockText(minutes);
  free.style.setProperty("--at", String(place));
  free.textContent = `+ ${time}`;
  const name = `${zone.parentElement?.getAttribute("aria-label")}, ${time}`;
  free.setAttribute("aria-label", text("calendar.free", { name }));
}

/** @param {Item} item @returns {boolean} */
const canMove = (item) => mayAct("staff") && item.status === "confirmed";

/** @param {HTMLElement} zone @param {Item} item */
function placeIn(zone, item) {
  const { first, unit } = numbers(zone);
  return (minutesFrom(zone.dataset.date ?? "", item.start) - first) / unit;
}

/** @param {HTMLElement} zone @param {Item} item @returns {boolean} whether it may be moved there. */
function serves({ dataset: { column } }, item) {
  return (
    !column ||
    column === columnOf(item) ||
    columns().some(({ id, services }) => id === column && services.includes(item.serviceId))
  );
}

/** @param {NonNullable<typeof moving>} move @param {number} along @param {number} across */
function step(move, along, across) {
  const { item, zone } = move;
  const zones = [...document.querySelectorAll(`.zone[data-unit="${zone.dataset.unit}"]`)].flatMap((one) =>
    one instanceof HTMLElement && serves(one, item) ? [one] : [],
  );
  move.zone = zones[zones.indexOf(zone) + across] ?? zone;
  move.at += along * (isOfDays(zone) ? 1 : (serviceOf(item.serviceId).slotStepMinutes ?? 15) / 60);
}

/** Shows the appointment at its new place. */
function show() {
  if (!moving) return;
  const { row, zone, at, byKey } = moving;
  row.classList.add("moving");
  const list = /** @type {HTMLElement} */ (zone.querySelector("ul"));
  if (row.parentElement !== list) list.append(row);
  if (byKey) row.querySelector("button")?.focus();
  for (const [name, value] of Object.entries({ "--at": at, "--lane": 0, "--lanes": 1 }))
    row.style.setProperty(name, String(value));
  const name = zone.parentElement?.getAttribute("aria-label") ?? "";
  say(text("calendar.moving", { name, time: momentText(instantAt(zone, at)) }));
}

/** @param {Item} item @param {HTMLElement} row @param {HTMLElement} from @param {PointerEvent} down */
function drag(item, row, from, down) {
  const start = placeIn(from, item);
  const grabbed = pointed(from, down);
  const done = new AbortController();
  addEventListener(
    "pointermove",
    (event) => {
      if (!moving && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < DRAG_PIXELS) return;
      dragged = true;
      moving ??= { item, row, zone: from, at: start, byKey: false };
      const under = document
        .elementsFromPoint(event.clientX, event.clientY)
        .find((one) => one.matches(`.zone[data-unit="${from.dataset.unit}"]`));
      if (under instanceof HTMLElement && serves(under, item)) moving.zone = under;
      moving.at = start + snap(from, pointed(moving.zone, event) - grabbed, Math.round);
      show();
    },
    done,
  );
  addEventListener("pointerup", () => (done.abort(), drop()), done);
  addEventListener("pointercancel", () => (done.abort(), cancel()), done);
  addEventListener("keydown", ({ key }) => key === "Escape" && (done.abort(), cancel()), done);
}

function cancel() {
  if (!moving) return;
  moving = null;
  stale = true;
  release();
  say(text("calendar.not_moved"));
}

function drop() {
  if (!moving) return;
  const { item, zone, at } = moving;
  moving = null;
  say("");
  // Its own start, if that stays: the clock may show the time of its place twice.
  const start = at === placeIn(zone, item) ? item.start : instantAt(zone, at);
  const column = zone.dataset.column || columnOf(item);
  const changes = {
    ...(+start !== +item.start && { slotStart: start.toISOString() }),
    ...(column !== columnOf(item) && { resourceId: column }),
  };
  stale = !Object.keys(changes).length;
  if (stale) release();
  else change(item, changes).catch(tellProblem).finally(reload);
}
