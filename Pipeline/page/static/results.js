// The DB: the newest results by whatever one looks for, the summary's figures, and who is taken for whom.

import { ask } from "./api.js";
import { byId, el } from "./dom.js";
import { duration, number, percent, rate } from "./format.js";
import { matrix } from "./matrix.js";
import { showResults } from "./result_card.js";

// How soon a summary that is being counted is asked for again (ms).
const AGAIN = 1000;
let waiting = 0;

export function start() {
  byId("results-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
}

export function shown(isShown) {
  clearTimeout(waiting);
  if (!isShown) return;
  look();
  summarise();
}

async function look() {
  const asked = Object.fromEntries(new FormData(byId("results-form")));
  try {
    const told = await ask("/api/results", asked);
    showResults(byId("results-list"), told.results);
    byId("results-said").textContent = told.found === undefined
      ? told.results.length ? "" : "no result has this id"
      : `${number(told.results.length)} of ${number(told.found)} found among the newest ${number(told.looked_through)} of ${told.db}`;
  } catch (error) {
    byId("results-said").textContent = error.message;
  }
}

async function summarise() {
  const told = await ask("/api/summary").catch((error) => ({ summary: { error: error.message } }));
  if (told.summary) byId("summary").replaceChildren(...figures(told.summary));
  else byId("summary").replaceChildren(el("p", { class: "quiet" }, "counting…"));
  if (told.counting) waiting = setTimeout(summarise, AGAIN);
}

function figures(summary) {
  if (summary.error) return [el("p", { class: "bad" }, summary.error)];
  const latency = summary.latency_seconds;
  const rows = [
    ["results", number(summary.rows)],
    ["corrupt lines", summary.corrupt_lines ? number(summary.corrupt_lines) : ""],
    ["accuracy", summary.accuracy === null ? "" : `${percent(summary.accuracy)} (${number(summary.correct)} of ${number(summary.expected_known)} right)`],
    ["latency", latency.p50 === null ? "" : `p50 ${duration(latency.p50)}, p95 ${duration(latency.p95)}, p99 ${duration(latency.p99)}`],
    ["throughput", summary.throughput_per_second === null ? "" : rate(summary.throughput_per_second)],
    ["stored", summary.first_stored_at ? `${when(summary.first_stored_at)} to ${when(summary.last_stored_at)}` : ""],
    ...Object.entries(summary.models).map(([model, count]) => ["model", `${model}: ${number(count)}`]),
    ...Object.entries(summary.labels).map(([label, count]) => [`label ${label}`, number(count)]),
  ].filter(([, text]) => text !== "");
  return [
    el("dl", { class: "figures panel" }, ...rows.flatMap(([title, text]) => [el("dt", {}, title), el("dd", {}, text)])),
    matrix(summary),
  ];
}

const when = (time) => new Date(time).toLocaleString();
