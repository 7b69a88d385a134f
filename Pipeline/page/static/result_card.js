// One result as a small card: its picture, label, confidence, and how long it took.

import { el, picture, refresh } from "./dom.js";
import { between, duration, percent } from "./format.js";

/** Bring a list of results up to date. */
export function showResults(list, results) {
  // The model is named where there are several: else it tells nothing.
  const withModel = new Set(results.map((each) => each.model)).size > 1;
  refresh(list, results.map((each) => ({ ...each, withModel })), (each) => String(each.id), resultCard);
}

function resultCard(result) {
  const wrong = result.expected_label !== undefined && result.expected_label !== result.label;
  const took = between(result.published_at, result.stored_at);
  const image = `/api/picture?${new URLSearchParams({ id: result.id })}`;
  return el("li", { class: "card", title: [result.source, result.id, result.model].filter(Boolean).join(" ") },
    result.has_picture ? picture(image, "") : el("span", { class: "no-picture picture" }, "no picture here"),
    el("p", { class: `label ${wrong ? "bad" : ""}` }, wrong ? `${result.label} for ${result.expected_label}` : String(result.label ?? "–")),
    el("p", {}, result.confidence === undefined ? "" : percent(result.confidence)),
    el("p", { class: "quiet" }, [took === null ? "" : duration(took), result.source ?? ""].filter(Boolean).join(" · ")),
    result.withModel ? el("p", { class: "quiet mono" }, result.model ?? "") : null);
}
