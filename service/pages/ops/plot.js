/** Plots of lines over time, read by pointer, by arrow keys or as a table; and tables. */

import { make } from "../dom.js";
import { locale, text } from "../texts.js";

/** Makes a table that keeps its place when it is filled again. @param {string} title */
export function makeTable(title) {
  const table = make("table", { "aria-label": title });
  const row = (/** @type {string} */ cell, /** @type {(string | number)[]} */ values) =>
    make("tr", {}, ...values.map((value) => make(cell, {}, value.toLocaleString(locale))));
  return {
    title,
    element: make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": title }, table),
    /** @param {string[]} head @param {(string | number)[][]} rows */
    fill: (head, rows) =>
      table.replaceChildren(
        ...(rows.length ? [row("th", head)] : []),
        ...(rows.length ? rows : [[text("ops.nothing")]]).map((values) => row("td", values)),
      ),
  };
}

/** @param {number} highest @returns {number} the next of 1, 2, 5, 10, 20 … */
function scaleOf(highest) {
  const ten = 10 ** Math.floor(Math.log10(highest || 1));
  return [1, 2, 5, 10].map((step) => step * ten).find((top) => top >= highest) ?? highest;
}

/**
 * Makes a plot of all times, or of the `least` milliseconds up to the latest one if that is longer.
 *
 * @param {{title: string, format: (value: number) => string, least: number, limit?: number}} options
 */
export function makePlot({ title, format, least, limit = Infinity }) {
  let times = /** @type {number[]} */ ([]);
  let lines = /** @type {Record<string, (number | null)[]>} */ ({});
  /** The time that is read; null for the latest. @type {number | null} */
  let readAt = null;
  const drawing = make("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none" });
  const cursor = make("path", { class: "cursor" });
  const scale = make("div", { class: "scale" });
  const ends = make("div", { class: "ends" });
  const slider = { class: "plot", role: "slider", tabindex: "0", "aria-label": title, "aria-valuemin": "0" };
  const area = make("div", slider, scale, drawing, ends);
  const legend = make("ul", { class: "legend" });
  const table = makeTable(title);
  const details = make("details", {}, make("summary", {}, text("ops.numbers")), table.element);

  const last = () => times.at(-1) ?? 0;
  const first = () => Math.min(times[0] ?? 0, last() - least);
  const x = (/** @type {number} */ time) => (last() > first() ? (100 * (time - first())) / (last() - first()) : 100);
  const timeOf = (/** @type {number} */ time) =>
    new Date(time).toLocaleTimeString(locale, { timeStyle: least ? "medium" : "short" });
  const written = (/** @type {number | null | undefined} */ value) => (typeof value === "number" ? format(value) : "–");
  const index = () => {
    const apart = times.map((time) => Math.abs(time - (readAt ?? last())));
    return apart.indexOf(Math.min(...apart));
  };

  /** Shows the values at a time. @param {number | null} at */
  function read(at) {
    readAt = at;
    const i = index();
    const time = times.length ? timeOf(times[i]) : text("ops.nothing");
    const values = Object.entries(lines).map(([name, line]) => [name, written(line[i])]);
    cursor.setAttribute("d", at === null ? "" : `M${x(times[i])} 0V100`);
    area.setAttribute("aria-valuenow", String(Math.max(0, i)));
    area.setAttribute("aria-valuetext", [time, ...values.map((pair) => pair.join(" "))].join(", "));
    const items = values.map(([name, value], number) => {
      const line = make("path", { class: `line s${number}`, d: "M0 2H24" });
      const swatch = make("svg", { viewBox: "0 0 24 4", "aria-hidden": "true" }, line);
      return make("li", {}, swatch, name, " ", make("b", {}, value));
    });
    legend.replaceChildren(make("li", { class: "muted" }, time), ...items);
  }

  function fillTable() {
    if (!details.hasAttribute("open")) return;
    const rows = times.map((time, i) => [timeOf(time), ...Object.values(lines).map((line) => written(line[i]))]);
    table.fill([text("ops.time"), ...Object.keys(lines)], rows.reverse());
  }

  details.addEventListener("toggle", fillTable);
  area.addEventListener("pointermove", ({ clientX }) => {
    const { left, width } = drawing.getBoundingClientRect();
    if (times.length) read(first() + ((clientX - left) / width) * (last() - first()));
  });
  for (const left of ["pointerleave", "blur"]) area.addEventListener(left, () => read(null));
  area.addEventListener("keydown", (event) => {
    const end = times.length - 1;
    const to = { ArrowLeft: index() - 1, ArrowRight: index() + 1, Home: 0, End: end }[event.key];
    if (to === undefined || end < 0) return;
    event.preventDefault();
    read(times[Math.min(end, Math.max(0, to))]);
  });

  return {
    title,
    element: make("div", {}, legend, area, details),
    /** @param {number[]} newTimes in milliseconds @param {Record<string, (number | null)[]>} newLines by their names */
    draw(newTimes, newLines) {
      [times, lines] = [newTimes, newLines];
      const highest = Math.max(0, ...Object.values(lines).flatMap((line) => line.map((value) => value ?? 0)));
      const top = scaleOf(highest >= limit / 2 ? Math.max(highest, limit) : highest);
      const y = (/** @type {number} */ value) => 100 - (100 * value) / top;
      const drawn = Object.values(lines).map((line, number) => {
        const points = line.map((value, i) => {
          if (value === null) return "";
          const isApart = (line[i - 1] ?? null) === null;
          return `${isApart ? "M" : "L"}${x(times[i])} ${y(value)}${isApart ? "h.1" : ""}`;
        });
        return make("path", { class: `line s${number}`, d: points.join("") });
      });
      const grid = ["M0 0H100", "M0 50H100", "M0 100H100"].map((d) => make("path", { class: "grid", d }));
      if (limit <= top) grid.push(make("path", { class: "limit", d: `M0 ${y(limit)}H100` }));
      drawing.replaceChildren(...grid, ...drawn, cursor);
      scale.replaceChildren(...[top, top / 2, 0].map((value) => make("span", {}, format(value))));
      ends.replaceChildren(...(times.length ? [first(), last()] : []).map((at) => make("span", {}, timeOf(at))));
      area.setAttribute("aria-valuemax", String(Math.max(0, times.length - 1)));
      read(readAt);
      fillTable();
    },
  };
}
