/** The elements of a page, found and made. */

/** @param {string} selector @returns {any} */
export const $ = (selector) => document.querySelector(selector);

/**
 * Makes an element. Attributes whose names begin with `--` are custom properties of its style.
 *
 * @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const kind = ["svg", "path"].includes(tag) ? "2000/svg" : "1999/xhtml";
  const made = /** @type {HTMLElement} */ (document.createElementNS(`http://www.w3.org/${kind}`, tag));
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) made.style.setProperty(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** @param {string} words @param {() => unknown} act @param {string} [label] @returns {HTMLElement} */
export function button(words, act, label = words) {
  const element = make("button", { type: "button", "aria-label": label }, words);
  element.addEventListener("click", act);
  return element;
}

/** Returns a typed key or token, without the characters that no header can have. @param {HTMLInputElement} field */
export const secretOf = ({ value }) => value.replace(/[^ -~]/g, "").trim();

/**
 * Shows the faults of a form at their fields, instead of those before, and focuses the first of these fields.
 *
 * @param {HTMLFormElement} form inside an element with an id, or with one itself.
 * @param {Record<string, string>} faults what is wrong, by the names of the fields.
 * @returns {boolean} whether a field of the form is at fault.
 */
export function showFaults(form, faults) {
  for (const fault of form.querySelectorAll(".fault")) fault.remove();
  let first;
  for (const field of /** @type {Iterable<HTMLInputElement>} */ (form.elements)) {
    const words = faults[field.name];
    field.ariaInvalid = words ? "true" : null;
    field.removeAttribute("aria-describedby");
    if (!words) continue;
    const fault = make("span", { class: "fault", id: `${form.closest("[id]")?.id}-${field.name}-fault` }, words);
    field.setAttribute("aria-describedby", fault.id);
    // Behind the label: inside of it, the words would be a part of the name of the field.
    field.closest("label")?.after(fault);
    first ??= field;
  }
  first?.focus();
  return Boolean(first);
}
