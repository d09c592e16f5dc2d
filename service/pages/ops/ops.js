/** The operations page: asks the service every few seconds with the administrator's token, while it can be seen. */

import { show } from "./board.js";
import { missingHours, see } from "./seen.js";
import { $, secretOf } from "../dom.js";
import { forget, keep, kept } from "../kept.js";
import { startPage } from "../texts.js";

const POLL_MILLISECONDS = 5_000;
const TIMEOUT_MILLISECONDS = 8_000;
const TOKEN = "holdfast.admin";

startPage();
let token = kept(TOKEN);
let timer = 0;
let isAsking = false;

/** @param {string} path @param {Record<string, string>} [headers] of the request; the status is 0 if there is no answer */
async function ask(path, headers) {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MILLISECONDS);
    const answer = await fetch(path, { headers, cache: "no-store", signal });
    return { status: answer.status, body: await (path === "metrics" ? answer.text() : answer.json()) };
  } catch {
    return { status: 0, body: null };
  }
}

async function poll() {
  if (isAsking || !token) return;
  isAsking = true;
  clearTimeout(timer);
  const [metrics, ready, health, overview] = await Promise.all([
    ask("metrics"),
    ask("health/ready"),
    ask("health/reservations"),
    ask(`api/operations/overview?hours=${missingHours()}`, { Authorization: `Bearer ${token}` }),
  ]);
  isAsking = false;
  // A limit refuses a token that was never accepted; one that was is right all the same.
  const refusals = kept(TOKEN) ? [401, 403] : [401, 403, 429];
  if (refusals.includes(overview.status)) return enter(true);
  if (overview.status === 200) keep(TOKEN, token);
  const hasFocus = $("#enter").contains(document.activeElement);
  $("#enter").hidden = true;
  $("#board").hidden = false;
  show(see(metrics, ready, health, overview));
  // The form is gone.
  if (hasFocus) $("#summary").focus();
  if (!document.hidden) timer = setTimeout(poll, POLL_MILLISECONDS);
}

/** Asks for the token. @param {boolean} isRefused whether the service refused the last one */
function enter(isRefused) {
  token = null;
  forget(TOKEN);
  $("#enter").hidden = false;
  $("#board").hidden = true;
  $("#refused").hidden = !isRefused;
  $("#token").focus();
}

$("#enter").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  token = secretOf($("#token"));
  poll();
});
$("#leave").addEventListener("click", () => {
  forget(TOKEN);
  location.reload();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));
if (token) poll();
else enter(false);
