/** Calls of the API with the key of a business, and their problems in the visitor's language. */
import { $, showFaults } from "../dom.js";
import { randomId, Refusal } from "../holdfast.js";
import { hasText, locale, text } from "../texts.js";
import { patiently } from "../waiting.js";

const ATTEMPTS = 3;
const SECONDS = 15;
const SECONDS_TO_BEGIN = 30;
const MOST_SECONDS_TO_WAIT = 5;
const SLOW_MILLISECONDS = 1000;

/** The address of the API. */
const BASE = new URL("api/", location.href.replace(/[^/]*$/, ""));

/** The business, and the key of the visitor with its role. */
export const session = { businessId: "", key: "", role: "" };

/** @param {...string} roles @returns {boolean} whether the key has one of these roles. */
export const mayAct = (...roles) => ["owner", "admin", ...roles].includes(session.role);

/**
 * Makes a call, and returns the body of the answer. It is repeated after a failure: no call of this page has a second
 * effect. Throws a `Refusal`, whose code is `OFFLINE` where no answer came.
 *
 * @param {string} method @param {string} path below `api/` @param {object} [body] @param {Record<string, string>} [names]
 *   the headers that name the request
 * @returns {Promise<any>}
 */
export async function call(method, path, body, names) {
  const lastBegin = performance.now() + SECONDS_TO_BEGIN * 1000;
  for (let attempt = 1; ; attempt++) {
    const { answer, content } = await send(method, path, body, names);
    if (answer?.ok) return content;
    const busy = !answer || answer.status === 429 || answer.status === 503;
    const seconds = Math.min(Number(answer?.headers.get("Retry-After")) || attempt, MOST_SECONDS_TO_WAIT);
    if (!busy || attempt === ATTEMPTS || performance.now() + seconds * 1000 > lastBegin) {
      throw new Refusal(content ?? { code: "OFFLINE" });
    }
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

/**
 * @param {string} method @param {string} path @param {object} [body] @param {Record<string, string>} [names]
 * @returns {Promise<{answer?: Response, content?: any}>} nothing where no answer came, or not all of it.
 */
async function send(method, path, body, names) {
  /** @type {Record<string, string>} */
  const headers = { ...names };
  if (session.key) headers.Authorization = `Bearer ${session.key}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(SECONDS * 1000) };
  try {
    const answer = await fetch(new URL(path, BASE), options);
    return { answer, content: answer.status === 204 ? null : await answer.json() };
  } catch {
    return {};
  }
}

/** The attempts of a form to make something: the same entries after a lost answer are the same attempt. */
export class Attempt {
  #body = "";
  #id = "";

  /** Returns the id of the attempt with a body. @param {object} body @returns {string} */
  id(body) {
    const written = JSON.stringify(body);
    if (this.#body !== written) [this.#body, this.#id] = [written, randomId()];
    return this.#id;
  }

  /** Ends the attempt: the same entries are another one from now on. */
  end() {
    this.#body = "";
  }
}

/** @param {unknown} error @returns {string} the message of a failed call. */
export function problemText(error) {
  if (!(error instanceof Refusal)) throw error;
  const { code } = error;
  return hasText(`calendar.code_${code}`) ? text(`calendar.code_${code}`) : text("calendar.code_OTHER", { code });
}

/** Says at the bottom of the page that an answer takes long. */
const sayWaiting = () => ($("#status").textContent = text("calendar.waiting"));

/**
 * Runs a step of the user, and says that it takes long.
 *
 * @template T @param {() => T | Promise<T>} step @param {() => unknown} [say] @returns {Promise<T>}
 */
export const runStep = (step, say = sayWaiting) => patiently(step, SLOW_MILLISECONDS, say);

/** Says in a form that its answer takes long. @param {HTMLFormElement} form */
export const showWaiting = (form) => showMessage(form, text("calendar.waiting")).classList.remove("bad");

/** @param {HTMLFormElement} form @param {string} words @returns {HTMLElement} its alert. */
function showMessage(form, words) {
  const alert = /** @type {HTMLElement} */ (form.querySelector("[role=alert]"));
  alert.textContent = words;
  alert.classList.add("bad");
  const details = form.closest("details");
  if (details && words) details.open = true;
  return alert;
}

/** The inputs of members that have another name in a form. @type {Record<string, string>} */
const INPUTS = { slotStart: "date", slotEnd: "duration", from: "date", to: "until" };

/**
 * Shows a problem in a form: faults at their inputs, others in its alert. Without a problem it clears the form of them.
 *
 * @param {HTMLFormElement} form @param {unknown} [error]
 */
export function showProblem(form, error) {
  const alert = showMessage(form, error ? problemText(error) : "");
  /** @type {Record<string, string>} */
  const faults = {};
  for (const { field, code, message } of error instanceof Refusal ? error.errors : []) {
    const input = INPUTS[field] ?? field;
    const name = `calendar.code_${code}`;
    const words = hasText(name) ? text(name) : locale.startsWith("en") ? message : text("calendar.code_invalid");
    if (form.elements.namedItem(input)) faults[input] = words;
    else alert.append(` ${field}: ${words}.`);
  }
  showFaults(form, faults);
}
