// Dead letters: the list with its filters, and what is done with one, some or all.

import { ask, tell } from "./api.js";
import { confirmed } from "./dialog.js";
import { byId, el, picture, refresh } from "./dom.js";
import { agoElement, bytes, number } from "./format.js";
import { journeyOf } from "./journey.js";
import { lookAt } from "./letter.js";
import { on } from "./stream.js";

const PAGE = 50;
let offset = 0;
let listing = null;
let outcomes = [];
let visible = false;
let desk = { doing: null, read_at: null };

export function start() {
  byId("letters-read").addEventListener("click", () => command("/api/letters/read", {}));
  for (const id of ["letters-reason", "letters-since"]) byId(id).addEventListener("change", () => load(0));
  byId("letters-before").addEventListener("click", () => load(Math.max(0, offset - PAGE)));
  byId("letters-after").addEventListener("click", () => load(offset + PAGE));
  byId("letters-replay").addEventListener("click", () => settleShown("replay"));
  byId("letters-purge").addEventListener("click", () => settleShown("purge"));
  on("letters", (told) => {
    const isNew = told.read_at !== desk.read_at || told.said !== desk.said;
    desk = told;
    const badge = byId("letters-badge");
    badge.hidden = !(told.count + told.arrived);
    badge.textContent = `${number(told.count + told.arrived)}${told.more ? "+" : ""}`;
    say();
    if (visible && isNew) load(offset);
  });
  on("journey", () => visible && drawOutcomes());
}

/** Called when the view is shown: what was never read is read. */
export function shown(isShown) {
  visible = isShown;
  if (!isShown) return;
  if (desk.read_at === null || desk.arrived) command("/api/letters/read", {});
  if (desk.read_at !== null) load(0);
}

const query = () => ({ reason: byId("letters-reason").value, minutes: byId("letters-since").value });

async function load(from) {
  try {
    listing = await ask("/api/letters", { ...query(), offset: from });
    outcomes = (await ask("/api/letters/outcomes")).outcomes;
    offset = from;
    draw();
    drawOutcomes();
  } catch (error) {
    byId("letters-said").textContent = error.message;
  }
}

function draw() {
  const reasons = byId("letters-reason");
  const chosen = reasons.value;
  reasons.replaceChildren(el("option", { value: "" }, "any"), ...listing.reasons.map((each) =>
    el("option", { value: each.reason }, `${each.shown} (${number(each.count)})`)));
  reasons.value = chosen;
  if (reasons.selectedIndex < 0) {
    reasons.value = "";  // the last of this reason is gone: the others are shown
    return load(0);
  }
  refresh(byId("letters-list"), listing.letters, (each) => each.id, row);
  byId("letters-before").disabled = offset === 0;
  byId("letters-after").disabled = offset + PAGE >= listing.shown;
  for (const [id, verb] of [["letters-replay", "Replay"], ["letters-purge", "Purge"]]) {
    byId(id).disabled = listing.shown === 0;
    byId(id).textContent = `${verb} ${scope()}`;
  }
  say();
}

function say() {
  const parts = [];
  if (desk.doing) parts.push(`${desk.doing}…`);
  if (desk.error) parts.push(desk.error);
  if (desk.said) parts.push(desk.said);
  if (listing?.read_at) {
    const of = listing.more ? ` of ${listing.waiting === null ? "more" : number(listing.waiting)}: there are more than are read at once` : "";
    parts.push(`${number(listing.shown)} shown, ${number(listing.read)} read${of} at ${new Date(listing.read_at).toLocaleTimeString()}`);
    if (!listing.read) parts.push("nothing has failed");
  }
  if (desk.arrived && !desk.doing) parts.push(`${number(desk.arrived)} new since then`);
  byId("letters-said").textContent = parts.join(" · ");
  byId("letters-said").className = desk.error ? "bad" : "";
}

function drawOutcomes() {
  const told = outcomes.map((each) => ({ ...each, became: became(each) }));
  byId("letters-settled").hidden = !told.length;
  refresh(byId("letters-outcomes"), told, (each) => each.id, (each) =>
    el("li", {}, `${each.what || each.id} `, el("span", { class: "quiet" }, agoElement(each.at)), ` ${each.became}`));
}

/** What happened to a letter that was settled, and then to its image. */
function became(outcome) {
  const journey = outcome.image && journeyOf(outcome.image);
  const then = !journey || outcome.done !== "replayed" ? ""
    : journey.state === "stored" ? ` → stored as ${journey.result.label}`
    : journey.state === "dead letter" ? ` → a dead letter again: ${journey.why}` : ` → ${journey.state}`;
  return `${outcome.done ?? "under way"}${outcome.why ? `: ${outcome.why}` : ""}${then}`;
}

function row(letter) {
  const settle = (action) => () => command("/api/letters/settle", { action, ids: [letter.id] });
  return el("li", { class: "letter" },
    picture(`/api/letters/picture?${new URLSearchParams({ id: letter.id })}`, "", letter.bytes ? "no picture" : "no body"),
    el("div", {},
      el("p", {}, el("strong", {}, letter.reason || "(no reason)"), ` ${letter.error}`),
      el("p", { class: "quiet" }, agoElement(letter.time), ` · ${letter.source_topic} · attempt ${letter.attempts || "?"} · ${bytes(letter.bytes)}${letter.subject ? ` · ${letter.subject}` : ""}`),
      letter.outcome ? el("p", { class: "warn" }, became(letter.outcome)) : null),
    el("div", { class: "bar" },
      el("button", { type: "button", "data-name": "look", onclick: () => lookAt(letter.id) }, "Look"),
      el("button", { type: "button", "data-name": "replay", onclick: settle("replay") }, "Replay"),
      el("button", { type: "button", class: "danger", "data-name": "purge", onclick: async () => {
        if (await confirmed("Throw this letter away?", "Nothing keeps it then.", "Purge")) settle("purge")();
      } }, "Purge")));
}

/** What the two buttons mean: not only those that are shown, unless a time says which. */
function scope() {
  const { reason, minutes } = query();
  return minutes ? "those shown" : reason ? "all of this reason" : "all";
}

async function settleShown(action) {
  const { reason, minutes } = query();
  const which = reason && !minutes ? `all with the reason “${reason}”` : reason || minutes ? `the ${number(listing.shown)} shown` : "all there are";
  const sure = action === "replay" ? "They go to the topics from which they came." : "Nothing keeps them then.";
  if (!(await confirmed(`${action === "replay" ? "Replay" : "Purge"} ${which}?`, sure, action === "replay" ? "Replay" : "Purge"))) return;
  command("/api/letters/settle", reason || minutes ? { action, reason, minutes: minutes || null } : { action, all: true });
}

async function command(path, body) {
  try {
    await tell(path, body);
  } catch (error) {
    byId("letters-said").textContent = error.message;
  }
}
