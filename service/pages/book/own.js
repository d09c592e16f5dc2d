/**
 * The holds of this browser in other tabs, such as that from which a tab was duplicated.
 *
 * @import { Reservation, Wish } from "../holdfast.js"
 */

import { holdfast } from "./visit.js";

/**
 * Goes on with the hold that another tab has of a slot, where that is why it is taken. Otherwise throws the error, with
 * a code of its own where a hold of another tab is in the way.
 *
 * @param {any} error @param {Wish} wanted @returns {Promise<Reservation>}
 */
export async function adoptOwn(error, wanted) {
  if (error.code !== "SLOT_UNAVAILABLE") throw error;
  const { serviceId, slotStart, slotEnd = slotStart, resourceId } = wanted;
  const own = (await holdfast.ownHolds().catch(() => [])).filter(
    (held) =>
      (resourceId ? held.resourceId === resourceId : held.serviceId === serviceId) &&
      held.slotStart < slotEnd &&
      held.slotEnd > slotStart,
  );
  const same = own.find((held) => slotOf(held) === slotOf(wanted));
  if (own.length && !same) error.code = "OWN_HOLD";
  if (!same) throw error;
  holdfast.adopt(same);
  return same;
}

/** @param {Omit<Wish, "resourceId">} slot */
const slotOf = ({ serviceId, slotStart, slotEnd, quantity = 1 }) =>
  JSON.stringify([serviceId, slotStart, slotEnd, quantity]);
