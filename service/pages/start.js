import { $ } from "./dom.js";
import { startPage } from "./texts.js";

startPage();
$("#book").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const slug = String(new FormData($("#book")).get("slug")).trim();
  location.href = new URL(`../book/${encodeURIComponent(slug)}`, location.href).href;
});
