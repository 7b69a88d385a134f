// The confusion matrix: expected labels down, given ones across.

import { el } from "./dom.js";
import { number } from "./format.js";

// More labels than this make no matrix that anybody reads.
const MOST = 30;

export function matrix({ correct_by_label: right, confusions, expected_known: known }) {
  if (!known) return el("p", { class: "quiet" }, "No result says what was expected of it.");
  const labels = [...new Set([...Object.keys(right), ...confusions.flatMap((each) => [each.expected, each.label])])].sort();
  if (labels.length > MOST) return el("p", { class: "quiet" }, `${labels.length} labels: python -m DB summary lists the confusions.`);
  const counts = new Map(confusions.map((each) => [JSON.stringify([each.expected, each.label]), each.count]));
  const cell = (expected, label) => {
    const count = expected === label ? right[label] ?? 0 : counts.get(JSON.stringify([expected, label])) ?? 0;
    return el("td", { class: count ? (expected === label ? "hit" : "miss") : "" }, count ? number(count) : "");
  };
  return el("div", { class: "panel scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    el("table", { class: "matrix" },
      el("caption", {}, "Expected (down) and given (across)"),
      el("thead", {}, el("tr", {}, el("td", {}), ...labels.map((each) => el("th", { scope: "col" }, each)))),
      el("tbody", {}, ...labels.map((expected) =>
        el("tr", {}, el("th", { scope: "row" }, expected), ...labels.map((label) => cell(expected, label)))))));
}
