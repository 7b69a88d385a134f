// The pipeline as it is now: a card for each script, its last minutes as a curve, the last results.

import { ask } from "./api.js";
import { byId, el, refresh } from "./dom.js";
import { duration, number, rate } from "./format.js";
import { showResults } from "./result_card.js";
import { sparkline } from "./sparkline.js";
import { on } from "./stream.js";

// Points of a curve: three minutes.
const POINTS = 180;
const curves = new Map();

export async function start() {
  const told = await ask("/api/curves").catch(() => ({ curves: {} }));
  for (const [target, points] of Object.entries(told.curves)) curves.set(target, points);
  on("live", (live) => {
    for (const stage of live.stages) {
      const curve = curves.get(stage.target) ?? [];
      if (!(curve.at(-1)?.at >= live.at)) curve.push({ at: live.at, ...stage });
      curves.set(stage.target, curve.slice(-POINTS));
    }
    refresh(byId("stages"), live.stages, (stage) => stage.target, card);
    const problems = live.problems.length ? live.problems : ["all is well"];
    refresh(byId("problems"), problems, (each) => each, (text) => el("li", { class: live.well ? "well" : "" }, text));
  });
  on("results", ({ results }) => showResults(byId("last-results"), results));
}

function card(stage) {
  const state = stage.ready ? "good" : stage.standby || stage.script === "app_1" || (stage.script === "?" && !stage.named) ? "quiet" : "bad";
  const points = curves.get(stage.target) ?? [];
  const rows = [
    ["waiting", stage.waiting === null ? "" : number(stage.waiting)],
    ["oldest", stage.waiting ? duration(stage.waiting_seconds) : ""],
    ["waits for", stage.waits_for.join(", ")],
    ["p50, p99", stage.p50 === null ? "" : `${duration(stage.p50)}, ${duration(stage.p99)}`],
    ["batch", stage.batch === null ? "" : number(Math.round(stage.batch))],
    ["done", number(stage.total)],
    ["model", stage.model ?? ""],
    ...Object.entries(stage.faults).map(([fault, count]) => [fault, number(count)]),
  ].filter(([, text]) => text !== "");
  return el("li", { class: "panel stage", "data-script": stage.script },
    el("h3", {}, stage.script === "?" ? "not seen" : stage.script),
    el("p", { class: state }, stage.ready ? "ready" : stage.state, el("span", { class: "quiet" }, ` ${stage.target}`)),
    el("span", { class: "rate" }, stage.script === "?" ? "" : rate(stage.rate)),
    el("dl", {}, ...rows.flatMap(([title, text]) => [el("dt", {}, title), el("dd", {}, text)])),
    sparkline(points));
}
