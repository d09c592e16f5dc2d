/** The client for the business in the address. Its catalogue is on the way before the texts are there. */

import { Holdfast } from "../holdfast.js";

export const holdfast = new Holdfast({ business: decodeURIComponent(location.pathname.split("/").pop() ?? "") });
export const firstCatalogue = holdfast.catalogue();
// A refusal is shown by the page, which awaits it later.
firstCatalogue.catch(() => {});
