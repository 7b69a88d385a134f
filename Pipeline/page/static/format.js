// Numbers and times in words.

import { el } from "./dom.js";

export const number = (value) => (value ?? 0).toLocaleString("en");
export const percent = (value) => `${(100 * value).toFixed(value > 0.9995 || value < 0.0995 ? 2 : 1)} %`;

/** Seconds in the unit that fits. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Number((1000 * seconds).toPrecision(seconds < 0.01 ? 1 : 3))} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export const rate = (value) => `${value >= 10 ? number(Math.round(value)) : Number(value.toPrecision(2))}/s`;

/** Seconds from one RFC 3339 time to another; null where one is missing. */
export function between(start, end) {
  const seconds = (Date.parse(end) - Date.parse(start)) / 1000;
  return Number.isFinite(seconds) ? seconds : null;
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (!Number.isFinite(seconds)) return "";
  return seconds < 1 ? "just now" : `${duration(seconds)} ago`;
}

/** When something was, in a list: `main` keeps it true. */
export const agoElement = (time) => el("time", { class: "ago", datetime: time ?? "" }, ago(time));

export function bytes(count) {
  if (count < 1024) return `${count} bytes`;
  return count < 1 << 20 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / (1 << 20)).toFixed(1)} MiB`;
}
