/** The dialog of the closures of a business and its resources. */
import { $, button, make } from "../dom.js";
import { Attempt, call, session } from "./api.js";
import { closureTime, itemOf, resourceName, state } from "./catalog.js";
import { pathOf } from "./change.js";
import { choose, entered, openItem, run } from "./entry.js";
import { dateText, instantOf, minutesOf, momentText } from "./time.js";
import { itemText } from "./view.js";
import { isolated, text } from "../texts.js";

const dialog = $("#closures");
const form = /** @type {HTMLFormElement} */ ($("#closures form"));
/** @type {() => Promise<void>} */
let reload;
const attempt = new Attempt();

/** @param {string} id */
const pathOfClosure = (id) => `catalog/businesses/${session.businessId}/closures/${encodeURIComponent(id)}`;

/** @param {string} date */
export function openClosures(date) {
  form.reset();
  const resources = Object.keys(state.catalog.resources).map((id) => [id, resourceName(id)]);
  choose($("#closures [name=resourceId]"), [["", text("calendar.whole_business")], ...resources], "");
  $("#closures [name=date]").value = date;
  $("#affected").replaceChildren();
  list();
  dialog.showModal();
}

function list() {
  const closures = Object.entries(state.catalog.closures).flatMap(([id, closure]) => {
    const { date, until, resourceId, reason } = closure;
    const { start, end } = closureTime(closure);
    if (+end <= Date.now()) return [];
    const when = date ? dateText(date, until ?? date) : momentText(start, end);
    const words = [when, resourceName(resourceId), reason ?? ""].filter(Boolean).map(isolated).join(", ");
    const remove = async () => {
      // After a lost answer it may be gone already.
      await call("DELETE", pathOfClosure(id)).catch((error) => error.code === "CLOSURE_NOT_FOUND" || Promise.reject(error));
      await reload();
      list();
      form.querySelector("input")?.focus();
    };
    const name = text("calendar.remove");
    return [make("li", {}, words, button(name, () => run(form, remove), `${name}: ${words}`))];
  });
  const none = make("li", { class: "muted" }, text("calendar.no_closures"));
  $("#closure-list").replaceChildren(...(closures.length ? closures : [none]));
}

async function close() {
  const { date, time, until, untilTime, ...rest } = entered(form);
  /** @type {Record<string, any>} */
  const body = { date, until, ...rest };
  if (date && (time || untilTime)) {
    const from = instantOf(date, minutesOf(time ?? "00:00"));
    const to = instantOf(until ?? date, minutesOf(untilTime ?? "24:00"));
    Object.assign(body, { date: null, until: null, from, to });
  }
  const put = await call("PUT", pathOfClosure(attempt.id(body)), body);
  const { count, items } = put.affectedAppointments;
  await reload();
  list();
  $("#affected").replaceChildren(
    make("p", {}, count ? text("calendar.affected", { count }) : `${text("calendar.closed")}.`),
    ...items.map((/** @type {any} */ one) => {
      const item = itemOf(one);
      const open = async () => (dialog.close(), openItem(itemOf(await call("GET", pathOf(item)))));
      return button(itemText({ ...item, status: "confirmed" }), () => run(form, open));
    }),
  );
}

/** @param {() => Promise<void>} load reads the catalog and all that is shown. */
export function listenToClosures(load) {
  reload = load;
  form.addEventListener("submit", (event) => (event.preventDefault(), run(form, close)));
}
