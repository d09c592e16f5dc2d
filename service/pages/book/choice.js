/**
 * What a guest looks for: a service and, where it has them, one of its resources, a number of people and a length.
 *
 * @import { Appointment, Catalogue, Resource, Service, Ticket, Wanted } from "../holdfast.js"
 */

import { $, make } from "../dom.js";
import { isolated, locale, text } from "../texts.js";

/** Whether a service ends on another day, at an earlier time than it begins. @param {Service} service */
export function isByNight({ durationDays, startTimes, endTime }) {
  return Boolean(durationDays && startTimes && endTime && endTime <= startTimes[0]);
}

/** Writes such as `1 hr 30 mins` or `2 nights`. @param {Service} service @param {number} length in its unit. */
export function writtenLength(service, length) {
  if (isByNight(service)) return text("book.nights", { count: length });
  /** @type {(count: number, unit: string, unitDisplay?: "short" | "long") => string} */
  const written = (count, unit, unitDisplay = "short") =>
    count.toLocaleString(locale, { style: "unit", unit, unitDisplay });
  if (service.durationDays) return written(length, "day", "long");
  const [hours, minutes] = [Math.floor(length / 60), length % 60];
  return [hours && written(hours, "hour"), minutes && written(minutes, "minute")].filter(Boolean).join(" ");
}

/**
 * Returns the lengths to choose from, in days or in steps of minutes, and a wanted one that the service takes.
 *
 * @param {Service} service @param {number} [wanted] @returns {number[]}
 */
function lengths({ durationMinutes, minDurationMinutes, maxDurationMinutes, slotStepMinutes, ...service }, wanted = 0) {
  const step = durationMinutes ? (slotStepMinutes ?? 30) : 1;
  const shortest = minDurationMinutes ?? Number(service.minDurationDays);
  const longest = maxDurationMinutes ?? Number(service.maxDurationDays);
  const offered = new Set([durationMinutes ?? Number(service.durationDays), longest]);
  for (let length = shortest; length < longest; length += step) offered.add(length);
  if (wanted >= shortest && wanted <= longest) offered.add(wanted);
  return [...offered].sort((one, other) => one - other);
}

export class Choice {
  /** @param {HTMLFormElement} form @param {() => void} changed is called when the guest has chosen otherwise. */
  constructor(form, changed) {
    this.#form = form;
    this.#fields = form.elements;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => {
      this.#fit(this.kept);
      changed();
    });
  }

  #form;
  /** @type {any} */
  #fields;
  /** @type {Catalogue} */
  #catalogue = { business: /** @type {any} */ (null), services: [], resources: [] };
  #fitted = "";
  /** @type {(Appointment & Ticket) | undefined} */
  moved;

  /** @param {Catalogue} catalogue @param {Record<string, any>} kept the fields as they were.
   * @param {Appointment & Ticket} [moved] the booking that is to be moved. */
  offer(catalogue, kept, moved) {
    [this.#catalogue, this.moved] = [catalogue, moved];
    const { services } = catalogue;
    const chosen = services.find(({ serviceId }) => serviceId === kept.serviceId) ?? services[0];
    this.#form.querySelector("#services")?.replaceChildren(
      ...services.map((service) => {
        const input = make("input", { type: "radio", name: "serviceId", value: service.serviceId });
        Object.assign(input, { checked: service === chosen });
        const all = lengths(service);
        const [shortest] = all;
        const from = all.length > 1 ? `${service.durationDays ? shortest : writtenLength(service, shortest)} – ` : "";
        const lines = [from + writtenLength(service, all[all.length - 1]), isolated(service.description ?? "")];
        const words = make("span", {}, isolated(service.name), ...lines.map((line) => make("small", {}, line)));
        return make("label", {}, input, words);
      }),
    );
    this.#fitted = "";
    if (services.length) this.#fit(kept);
  }

  /** Shows the fields that the service has. @param {Record<string, any>} kept */
  #fit(kept) {
    const { service, resources } = this;
    const { resourceId, quantity, duration } = this.#fields;
    if (this.#fitted !== service.serviceId) {
      this.#fitted = service.serviceId;
      // A booking that is moved keeps its length.
      const offered = lengths(service, this.moved && Number(kept.duration));
      duration.replaceChildren(...offered.map((one) => new Option(writtenLength(service, one), String(one))));
      const named = resources.map((one) => new Option(isolated(one.name), one.resourceId));
      resourceId.replaceChildren(new Option(text("book.any"), ""), ...named);
      // What the service does not have is not chosen.
      duration.value = kept.duration;
      if (!duration.value) duration.value = service.durationMinutes ?? service.durationDays;
      resourceId.value = kept.resourceId;
      if (!resourceId.value) resourceId.value = "";
      quantity.value = kept.quantity ?? 1;
    }
    const seats = resources.find((one) => one.resourceId === resourceId.value)?.seats ?? service.maxQuantity;
    quantity.max = Math.min(seats, service.maxQuantity);
    // A smaller party than the guest wanted is not booked in silence.
    const isLess = service.maxQuantity > 1 && Number(quantity.value) > Number(quantity.max);
    $("#most").textContent = isLess ? text("book.most", { count: Number(quantity.max) }) : "";
    quantity.value = Math.max(1, Math.floor(Math.min(quantity.value, quantity.max)));
    const kind = resources[0]?.kind ?? "";
    for (const [field, isShown, name] of [
      [resourceId, resources.length > 1, kind.charAt(0).toLocaleUpperCase(locale) + kind.slice(1)],
      [quantity, service.maxQuantity > 1, text(kind ? "book.people" : "book.quantity")],
      [duration, duration.length > 1, text(isByNight(service) ? "book.stay" : "book.length")],
    ]) {
      const label = field.closest("label");
      label.hidden = !isShown;
      label.children[0].textContent = name;
    }
  }

  /** @returns {Service} */
  get service() {
    const { services } = this.#catalogue;
    return services.find(({ serviceId }) => serviceId === this.kept.serviceId) ?? services[0];
  }

  /** Those of the service. @returns {Resource[]} */
  get resources() {
    return this.#catalogue.resources.filter(({ resourceId }) => this.service.resourceIds.includes(resourceId));
  }

  /** The fields, to keep. @returns {Record<string, any>} */
  get kept() {
    return Object.fromEntries(new FormData(this.#form));
  }

  /** @returns {Wanted} */
  get wanted() {
    const { serviceId, durationDays, maxQuantity } = this.service;
    const { resourceId, quantity, duration } = this.#fields;
    return {
      serviceId,
      resourceId: resourceId.value || undefined,
      quantity: maxQuantity > 1 ? Number(quantity.value) : undefined,
      [durationDays ? "durationDays" : "durationMinutes"]: duration.length > 1 ? Number(duration.value) : undefined,
      moved: this.moved,
    };
  }
}
