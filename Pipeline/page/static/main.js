// Puts the views together, shows the one that the address names, and says how all stands.

import { byId } from "./dom.js";
import * as draw from "./draw.js";
import { ago } from "./format.js";
import * as journey from "./journey.js";
import * as letters from "./letters.js";
import * as live from "./live.js";
import * as results from "./results.js";
import { known, on, start } from "./stream.js";

const VIEWS = { draw: null, live: null, letters: letters.shown, results: results.shown };
// What is older than this is told to be old (s).
const FRESH = 3;

function view() {
  const name = location.hash.slice(1);
  if (name === "main") return;
  const chosen = name in VIEWS ? name : "draw";
  for (const [each, shown] of Object.entries(VIEWS)) {
    byId(`view-${each}`).hidden = each !== chosen;
    const link = document.querySelector(`nav a[href="#${each}"]`);
    if (each === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    shown?.(each === chosen);
  }
  document.title = `${byId(`${chosen}-title`).textContent} · Event-driven model serving`;
}

function status() {
  const [connection, broker, seen] = ["connection", "broker", "live"].map(known);
  const old = seen ? Date.now() / 1000 - seen.at : 0;
  const said = connection?.open === false ? ["the page's server is away; it is tried again", "bad"]
    : broker?.trouble ? [broker.trouble, "bad"]
    : broker?.refusals.length ? [broker.refusals.join("; "), "warn"]
    : old > FRESH ? [`what you see is ${Math.round(old)} s old`, "warn"]
    : seen ? [seen.well ? `all is well, on ${broker?.name ?? "?"}` : `${seen.problems.length} to look at`, seen.well ? "good" : "warn"]
    : ["connecting…", "quiet"];
  const element = byId("status");
  if (element.textContent !== said[0]) element.textContent = said[0];
  element.className = said[1];
}

draw.start();
journey.start();
letters.start();
results.start();
live.start();
for (const kind of ["connection", "broker", "live"]) on(kind, status);
setInterval(status, 1000);
setInterval(() => {
  for (const each of document.querySelectorAll("time.ago")) each.textContent = ago(each.dateTime);
}, 5000);
addEventListener("hashchange", view);
view();
start();
