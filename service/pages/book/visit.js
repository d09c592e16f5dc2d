/** The client for the business in the address. Its catalogue is on the way before the texts are there. */

import { Holdfast } from "../holdfast.js";

// Unlike decodeURIComponent, this takes a malformed address too: the business is unknown then.
const business = new URLSearchParams(`name=${location.pathname.split("/").pop()}`).get("name") ?? "";
export const holdfast = new Holdfast({ business });
export const firstCatalogue = holdfast.catalogue();
// A refusal is shown by the page, which awaits it later.
firstCatalogue.catch(() => {});
