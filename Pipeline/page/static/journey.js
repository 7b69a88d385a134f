// The way of one image: its five moments, what the model says, and what is waited for.

import { byId, el, picture, refresh } from "./dom.js";
import { between, duration, number, percent } from "./format.js";
import { known, on } from "./stream.js";

const STEPS = [
  ["published_at", "Published"],
  ["received_at", "Received by the model server"],
  ["predicted_at", "Predicted"],
  ["result_published_at", "Result published"],
  ["stored_at", "Stored"],
];
const LOST = ["dead_lettered_at", "Dead letter"];
const LATELY = 24;

const journeys = new Map();
let shown = null;
let drawn = "";  // what the whole way was drawn of: what stays can be selected, and is read out once

/** Show one image's way in full. */
export function show(id) {
  shown = id;
  draw();
}

export function start() {
  on("journey", (journey) => {
    journeys.delete(journey.id);
    journeys.set(journey.id, journey);
    while (journeys.size > 200) journeys.delete(journeys.keys().next().value);
    shown ??= journey.id;
    draw();
  });
  on("live", () => {
    if (journeys.has(shown) && !journeys.get(shown).done) draw();
  });
}

export const journeyOf = (id) => journeys.get(id);

function draw() {
  const journey = journeys.get(shown);
  const wanted = journey && JSON.stringify([journey, waits(journey)]);
  if (wanted && wanted !== drawn) {
    byId("journey").replaceChildren(...whole(journey));
    drawn = wanted;
  }
  const others = [...journeys.values()].reverse().slice(0, LATELY);
  refresh(byId("lately"), others, (each) => each.id, card);
}

const source = (journey, kind) => `/api/picture?${new URLSearchParams({ kind, id: journey.id })}`;

function whole(journey) {
  const { result } = journey;
  const label = result.label ?? (journey.state === "dead letter" ? "dead letter" : "…");
  const seen = result.label === undefined ? null : figure(picture(source(journey, "seen"), "the image as the model saw it", "not known here", "seen"), "as the model saw it");
  return [
    el("div", { class: "answer" },
      el("span", { class: "label", id: "label" }, label),
      el("div", {},
        result.confidence === undefined ? null : el("p", {}, percent(result.confidence), wrong(result)),
        el("p", { class: "quiet" }, journey.name),
        el("p", { class: "quiet mono" }, journey.id)),
      el("div", { class: "pictures" },
        figure(picture(source(journey, "small"), "the image as it was sent"), "as it was sent"),
        seen)),
    el("ol", { class: "steps" }, ...steps(journey)),
    el("p", { id: "waits", class: journey.why ? "bad" : "warn" }, journey.why ?? (journey.done ? "" : waits(journey))),
    shares(result.top ?? []),
    result.model ? el("p", { class: "quiet mono" }, result.model) : null,
  ].filter(Boolean);
}

const figure = (content, caption) => el("figure", {}, content, el("figcaption", {}, caption));
const wrong = ({ expected_label: expected, label }) =>
  expected === undefined || expected === label ? null : el("span", { class: "bad" }, ` but it shows ${expected}`);

function steps({ times, state }) {
  let before = null;
  const way = state === "dead letter" ? [...STEPS.filter(([name]) => times[name]), LOST] : STEPS;
  return way.map(([name, title]) => {
    const time = times[name];
    const reached = time !== undefined && !(name === "published_at" && state === "sent");
    const step = el("li", { class: name === LOST[0] ? "failed" : reached ? "done" : "", "data-step": name },
      el("span", { class: "dot" }),
      el("span", {}, title, el("span", { class: "visually-hidden" }, reached ? ": done" : ": not yet")),
      el("span", { class: "took" }, took(name, times, before)));
    if (time) before = time;
    return step;
  });
}

function took(name, times, before) {
  if (!times[name]) return "";
  if (before === null) return new Date(times[name]).toLocaleTimeString();
  const total = name === "stored_at" ? ` (${duration(between(times.published_at, times[name]))} in all)` : "";
  return `+${duration(Math.max(0, between(before, times[name])))}${total}`;
}

function waits({ state }) {
  const [script, where] = { sent: ["the broker", ""], published: ["model_server_sub", "its topic"], predicted: ["app_2", "the result's topic"] }[state] ?? [];
  if (state === "sent") return "waits for the broker, which has not confirmed it yet";
  if (!script) return "";
  const stages = (known("live")?.stages ?? []).filter((stage) => stage.script === script);
  if (!stages.length) return `waits in ${where}; ${script} is not seen anywhere`;
  const stage = stages.find((each) => each.ready) ?? stages[0];
  if (!stage.ready) return `waits in ${where}; ${script}: ${stage.state}`;
  return stage.waiting ? `${script} has ${number(stage.waiting)} to do` : `on its way to ${script}`;
}

function shares(top) {
  if (!Array.isArray(top) || !top.length) return null;
  return el("ul", { class: "shares", "aria-label": "Confidence of each class" }, ...top.map((each) => {
    const fill = el("span", { class: "fill" });
    fill.style.width = `${100 * each.probability}%`;
    return el("li", {}, el("span", {}, String(each.label)), el("span", { class: "track" }, fill), el("span", { class: "share" }, percent(each.probability)));
  }));
}

function card(journey) {
  const { result, times } = journey;
  const all = times.stored_at ? duration(between(times.published_at, times.stored_at)) : journey.state;
  return el("li", {},
    el("button", { type: "button", class: "card", title: journey.name, "data-name": journey.id, onclick: () => show(journey.id) },
      picture(source(journey, "small"), ""),
      el("p", { class: "label" }, result.label ?? (journey.done ? "–" : "…")),
      el("p", { class: "quiet" }, all),
      el("p", { class: "quiet" }, journey.name)));
}
