// The view on which one draws: the pad, and pictures that are chosen, dropped or pasted.

import { tell } from "./api.js";
import { byId } from "./dom.js";
import { show } from "./journey.js";
import { Pad } from "./pad.js";

// More at once are a task for app_1.
const MOST_FILES = 50;

export function start() {
  const pad = new Pad(byId("pad"), send);

  async function send() {
    if (pad.empty) return say("there is nothing on the pad yet");
    const blob = await pad.png();
    pad.clear();
    await publish(blob, "drawing.png");
  }

  byId("undo").addEventListener("click", () => pad.undo());
  byId("clear").addEventListener("click", () => pad.clear());
  byId("brush").addEventListener("input", (event) => (pad.width = Number(event.target.value)));
  byId("send").addEventListener("click", send);
  byId("files").addEventListener("change", async (event) => {
    await publishAll([...event.target.files]);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => publishAll([...event.clipboardData.files]));

  const drop = byId("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") publishAll([...event.dataTransfer.files]);
    });
  }
  // Beside the panel a dropped file must not replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
}

function say(problem) {
  byId("send-error").textContent = problem;
}

async function publishAll(files) {
  if (files.length > MOST_FILES) return say(`${files.length} files at once: app_1.py takes folders`);
  for (const file of files) await publish(file, file.name || "pasted.png");
}

async function publish(blob, name) {
  say("");
  const query = new URLSearchParams({ name, expected: byId("expected").value.trim() });
  try {
    const { id } = await tell(`/api/images?${query}`, blob, blob.type || "application/octet-stream");
    show(id);
  } catch (error) {
    say(`${name} was not sent: ${error.message}`);
  }
}
