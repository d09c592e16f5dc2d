/** The message to a guest who waits for an answer. */

import { $ } from "../dom.js";
import { text } from "../texts.js";

// After this long a request was probably repeated.
const SLOW = 3000;
/** @type {Set<unknown>} the steps that take longer. */
const late = new Set();

const show = () => ($("#waiting").textContent = late.size ? text("book.waiting") : "");

/** Runs a step, and says so while it takes long. @param {() => unknown} step */
export async function patiently(step) {
  const timer = setTimeout(() => {
    late.add(timer);
    show();
  }, SLOW);
  try {
    await step();
  } finally {
    clearTimeout(timer);
    if (late.delete(timer)) show();
  }
}
