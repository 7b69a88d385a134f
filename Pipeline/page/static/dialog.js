// The one dialog: it keeps the focus until it is closed, and then gives it back.

import { byId, el } from "./dom.js";

/** Show elements under a title; resolves, when it is closed, to what its last button said. */
export function dialog(title, content, buttons = [["Close", ""]]) {
  const box = byId("dialog");
  const made = buttons.map(([text, value, kind = ""]) =>
    el("button", { type: "button", class: kind, onclick: () => box.close(value) }, text));
  box.replaceChildren(el("h2", { id: "dialog-title" }, title), ...content, el("div", { class: "bar" }, ...made));
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => box.addEventListener("close", () => resolve(box.returnValue), { once: true }));
}

export async function confirmed(title, text, action) {
  const kind = action === "Purge" ? "danger" : "main";
  return (await dialog(title, [el("p", {}, text)], [["Leave it", ""], [action, "yes", kind]])) === "yes";
}
