// The last minutes of one script: its rate as an area, what waits as a line above it.

import { svg } from "./dom.js";
import { number, rate } from "./format.js";

const WIDTH = 180;
const HEIGHT = 44;

export function sparkline(points) {
  const rates = points.map((point) => point.rate ?? 0);
  const waiting = points.map((point) => point.waiting ?? 0);
  const top = Math.max(...rates, 1);
  const most = Math.max(...waiting, 1);
  const title = svg("title");
  title.textContent = `the last minutes: at most ${rate(top)}, and ${number(Math.max(...waiting, 0))} waiting`;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, title);
  if (points.length < 2) return drawing;
  const line = path(rates, top);
  drawing.append(
    svg("path", { class: "area", d: `${line}L${WIDTH} ${HEIGHT}L${x(0, rates)} ${HEIGHT}Z` }),
    svg("path", { d: line }));
  if (Math.max(...waiting) > 0) drawing.append(svg("path", { class: "second", d: path(waiting, most) }));
  return drawing;
}

// The newest point stands at the right, however few there are.
const x = (i, values) => WIDTH - values.length + 1 + i;
const path = (values, top) =>
  values.map((value, i) => `${i ? "L" : "M"}${x(i, values)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`).join("");
