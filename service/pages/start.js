import { $ } from "./dom.js";
import { startPage } from "./texts.js";

startPage();
$("#book").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  // Of a whole address, the name is the end.
  const slug = String(new FormData($("#book")).get("slug")).trim().split("/").filter(Boolean).pop() ?? "";
  location.href = new URL(`../book/${encodeURIComponent(slug)}`, location.href).href;
});
