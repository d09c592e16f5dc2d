/**
 * The slots of a day, as buttons. Changes by others are shown in place: no button moves or loses the focus, and slots
 * that were not listed wait until the guest asks for them.
 *
 * @import { Slot } from "../holdfast.js"
 */

import { make } from "../dom.js";
import { text } from "../texts.js";

// From this number on, slots are grouped by the part of the day.
const MANY = 10;

export class Slots {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} more has the button that shows the slots which were not listed.
   * @param {{ lines: (slot: Slot) => string[], part: (slot: Slot) => string, choose: (slot: Slot) => void }} calls
   *   those for the lines of a button, for the name of its part of the day, and for the chosen slot.
   */
  constructor(root, more, { lines, part, choose }) {
    this.#root = root;
    this.#more = more;
    this.#lines = lines;
    this.#part = part;
    root.addEventListener("click", (event) => {
      const button = /** @type {Element} */ (event.target).closest("button");
      const slot = this.#slots.get(button?.dataset.start ?? "");
      if (slot && button?.ariaDisabled === "false") choose(slot);
    });
    more.addEventListener("click", () => {
      this.show(this.#latest);
      root.querySelector("button")?.focus();
    });
  }

  #root;
  #more;
  #lines;
  #part;
  /** @type {Map<string, Slot>} by start, those that have a button. */
  #slots = new Map();
  /** @type {Slot[]} */
  #latest = [];

  /** Lists slots anew. @param {Slot[]} slots */
  show(slots) {
    this.#slots = new Map(slots.map((slot) => [slot.slotStart, slot]));
    this.#root.replaceChildren();
    let [part, list] = ["", make("div")];
    for (const slot of slots) {
      const itsPart = slots.length >= MANY ? this.#part(slot) : "";
      if (itsPart !== part || !this.#root.childElementCount) {
        part = itsPart;
        list = make("div", { class: "slots" });
        this.#root.append(...(part ? [make("h3", {}, part)] : []), list);
      }
      list.append(make("button", { type: "button", "data-start": slot.slotStart }));
    }
    this.update(slots);
  }

  /** Marks the slots that are free now, in place. @param {Slot[]} slots */
  update(slots) {
    if (!this.#slots.size && slots.length) return this.show(slots);
    this.#latest = slots;
    const free = new Map(slots.map((slot) => [slot.slotStart, slot]));
    for (const button of this.#root.querySelectorAll("button")) {
      const start = String(button.dataset.start);
      const slot = free.get(start) ?? /** @type {Slot} */ (this.#slots.get(start));
      const [first, ...others] = this.#lines(slot);
      const lines = others.map((line) => Object.assign(make("small", {}, line), { hidden: !line }));
      const last = lines[lines.length - 1];
      if (!free.has(start)) {
        // Where there is no line, a word would make the button higher.
        if (last.hidden) last.className = "visually-hidden";
        Object.assign(last, { textContent: text("book.taken"), hidden: false });
      }
      this.#slots.set(start, slot);
      button.ariaDisabled = String(!free.has(start));
      button.replaceChildren(first, ...lines);
    }
    this.#more.classList.toggle("shown", slots.some(({ slotStart }) => !this.#slots.has(slotStart)));
  }
}
