/**
 * The texts of a page in the visitor's language, and dates and numbers by the visitor's locale. Each language is one
 * file, such as `en.json`; `?lang=de` in the address decides over the browser's languages.
 */

/** The languages that have a file; the first is the default. */
export const LANGUAGES = ["en", "de"];

/** The locale of dates and numbers. */
export const locale = wantedLocales().find((tag) => LANGUAGES.includes(languageOf(tag))) ?? LANGUAGES[0];

// Its date is that of now: in history, a browser takes a file that it keeps without asking whether it is still the same.
const answer = await fetch(new URL(`${languageOf(locale)}.json`, import.meta.url), { cache: "no-cache" });
// Without them the page says that it did not load completely.
if (!answer.ok) throw new Error(`no texts, status ${answer.status}`);
const texts = await answer.json();
const skew = Date.parse(answer.headers.get("Date") ?? "") - Date.now() || 0;
const plural = new Intl.PluralRules(locale);

/** The time by the clock of the service: that of the visitor may be years away. */
export const now = () => Date.now() + skew;

/** @returns {string[]} */
function wantedLocales() {
  const chosen = new URLSearchParams(location.search).get("lang");
  return [...(isTag(chosen) ? [chosen] : []), ...navigator.languages];
}

/** @param {string | null} tag @returns {tag is string} whether it is well-formed: `de-` is not. */
function isTag(tag) {
  try {
    return Intl.getCanonicalLocales(tag ?? []).length > 0;
  } catch {
    return false;
  }
}

/** @param {string} tag @returns {string} */
function languageOf(tag) {
  return tag.toLowerCase().split("-")[0];
}

/**
 * Returns a text, with its parameters filled in.
 *
 * @param {string} key such as `book.title`; a text with forms, by `count`, is an object in the file.
 * @param {Record<string, string | number>} [parameters] for the names in braces.
 * @returns {string}
 */
export function text(key, parameters = {}) {
  const [section, name] = key.split(".");
  const found = texts[section]?.[name];
  const form = typeof found === "object" ? (found[plural.select(Number(parameters.count))] ?? found.other) : found;
  if (form === undefined) throw new Error(`no text ${key}`);
  return form.replace(/{(\w+)}/g, (/** @type {string} */ _, /** @type {string} */ parameter) => {
    const value = parameters[parameter];
    return typeof value === "number" ? value.toLocaleString(locale) : isolated(String(value));
  });
}

// Letters of Hebrew, Arabic and their relatives.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/**
 * Keeps the words of others, such as a name, in their own direction: otherwise the punctuation and the numbers around
 * words from right to left would move to their other side.
 *
 * @param {string} words @returns {string} in an isolate of Unicode where it matters.
 */
export const isolated = (words) => (RIGHT_TO_LEFT.test(words) ? `\u2068${words}\u2069` : words);

/** @param {string} key @returns {boolean} whether there is such a text. */
export function hasText(key) {
  const [section, name] = key.split(".");
  return texts[section]?.[name] !== undefined;
}

/**
 * Fills in the texts of an element's descendants: `data-text` names the text of an element, and `data-label` its
 * `aria-label`.
 *
 * @param {ParentNode} root
 */
export function fillTexts(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = text(/** @type {string} */ (element.getAttribute("data-text")));
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(/** @type {string} */ (element.getAttribute("data-label"))));
  }
}

/** Sets the language and the writing direction of the document, and fills in its texts: it has loaded. */
export function startPage() {
  document.documentElement.dataset.started = "";
  document.documentElement.lang = locale;
  const { textInfo, getTextInfo } = /** @type {any} */ (new Intl.Locale(locale));
  document.documentElement.dir = (getTextInfo?.call(new Intl.Locale(locale)) ?? textInfo)?.direction ?? "ltr";
  fillTexts(document);
}
