// One dead letter, looked at: its picture, or what its bytes are, and all that it says of itself.

import { ask } from "./api.js";
import { dialog } from "./dialog.js";
import { el, picture } from "./dom.js";
import { bytes } from "./format.js";

export async function lookAt(id) {
  const query = new URLSearchParams({ id });
  let letter;
  try {
    letter = await ask("/api/letters/one", { id });
  } catch (error) {
    return dialog("This letter is not here", [el("p", {}, error.message)]);
  }
  const image = picture(`/api/letters/picture?whole=1&${query}`, "what the letter holds", "It is no picture that can be decoded.", "whole");
  const facts = { Error: letter.error, From: letter.source_topic, When: letter.time, Attempts: letter.attempts, Size: bytes(letter.bytes), Subject: letter.subject, "Message id": letter.message_id, "Event id": letter.event_id, Key: letter.key, Place: letter.place };
  const known = Object.entries(facts).filter(([, value]) => value);
  return dialog(letter.reason || "Dead letter", [
    image,
    el("p", {}, el("a", { class: "button", href: `/api/letters/body?${query}`, download: `dead-letter-${id.replace(/[^\w.-]/g, "-")}.bin` }, "Save the original bytes")),
    el("table", {}, el("tbody", {}, ...known.map(row))),
    letter.text === null ? null : el("h3", {}, "As text"),
    letter.text === null ? null : pre(letter.text),
    el("h3", {}, "As bytes"),
    pre(letter.hex.join("\n") || "none"),
    el("h3", {}, "Attributes"),
    el("table", {}, el("tbody", {}, ...Object.entries(letter.attributes).map(row))),
  ].filter(Boolean));
}

const row = ([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(value)));
const pre = (text) => el("pre", { class: "hex", tabindex: "0" }, text);
