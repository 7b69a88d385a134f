// The server's stream, and the latest word on each thing that came over it.

// How soon a stream that the server refused is tried again (ms); others come back by themselves.
const AGAIN = 3000;

const listeners = new Map();
const latest = new Map();
let source = null;
let again = 0;

/** Call `listener` with what is known of a kind of thing, now and whenever there is news. */
export function on(kind, listener) {
  listeners.set(kind, [...(listeners.get(kind) ?? []), listener]);
  if (latest.has(kind)) listener(latest.get(kind));
}

export const known = (kind) => latest.get(kind);

function put(kind, value) {
  latest.set(kind, value);
  for (const listener of listeners.get(kind) ?? []) listener(value);
}

function open() {
  clearTimeout(again);
  source?.close();
  source = new EventSource("/api/stream");
  source.onopen = () => put("connection", { open: true });
  source.onerror = () => {
    put("connection", { open: false });
    if (source?.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN);
  };
  for (const kind of ["live", "results", "broker", "letters", "journey"]) {
    source.addEventListener(kind, (event) => put(kind, JSON.parse(event.data)));
  }
}

// A browser has six connections to one server: a tab that nobody sees gives its stream back.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return open();
  clearTimeout(again);
  source?.close();
  source = null;
});

export function start() {
  if (!document.hidden) open();
}
