/** The message to a guest who waits for an answer. */

import { $ } from "../dom.js";
import { text } from "../texts.js";
import { patiently } from "../waiting.js";

// After this long a request was probably repeated.
const SLOW_MILLISECONDS = 3000;
/** @type {Set<unknown>} the steps that take longer. */
const late = new Set();

const show = () => ($("#waiting").textContent = late.size ? text("book.waiting") : "");

/** Runs a step of the guest, and says so while it takes long. @param {() => unknown} step */
export async function runStep(step) {
  try {
    await patiently(step, SLOW_MILLISECONDS, () => {
      late.add(step);
      show();
    });
  } finally {
    if (late.delete(step)) show();
  }
}
