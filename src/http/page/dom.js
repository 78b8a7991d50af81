// Builds elements. Text goes in as text and never as markup, so nothing that the API says can become any.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p", { class: "quiet", onclick: f }, "text", child, ...)`. Nothing is shown for null and false. */
export function h(name, attributes, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for drawings. */
export function s(name, attributes, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

function build(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : visible(String(child)))));
  return element;
}

// What would hide or turn text around, as names from outside may: joiners, fillers, marks of direction, control characters.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\uffa0]/gu;

/** The text with that written out. */
export const visible = (text) => text.replace(HIDDEN, (it) => (it === "\n" || it === "\t" ? it : `\\u{${it.codePointAt(0).toString(16)}}`));

export const byId = (id) => document.getElementById(id);

/**
 * Shows something new in a place, and only if it is new: what somebody has opened, chosen or focused stays.
 * `key` is all that it is made of.
 */
export function show(place, key, make) {
  const text = JSON.stringify(key);
  if (place.dataset.shown === text) return;
  place.dataset.shown = text;
  const open = new Set([...place.querySelectorAll("details[open][data-key]")].map((it) => it.dataset.key));
  const chosen = new Map([...place.querySelectorAll("select[data-key]")].map((it) => [it.dataset.key, it.value]));
  const focused = whereFocused(place);
  place.replaceChildren(...[make()].flat(Infinity).filter(Boolean));
  for (const it of place.querySelectorAll("details[data-key]")) {
    if (open.has(it.dataset.key)) it.open = true;
  }
  for (const it of place.querySelectorAll("select[data-key]")) {
    // What can be chosen no more is not.
    if ([...it.options].some(({ value }) => value === chosen.get(it.dataset.key))) it.value = chosen.get(it.dataset.key);
  }
  if (focused) focusAgain(place, focused);
}

/** The focused element of a place, in words that outlive an update: the row it is in, and which of its sort there. */
function whereFocused(place) {
  const it = document.activeElement;
  if (!it || it === place || !place.contains(it)) return null;
  const row = it.closest("[data-key]");
  const isOf = row && place.contains(row);
  const around = isOf ? row : place;
  return { key: isOf ? row.dataset.key : null, isRow: row === it, tag: it.localName, nth: [...around.querySelectorAll(it.localName)].indexOf(it) };
}

/** A keyboard goes on where it was; where its row is gone, at the place that had it. */
function focusAgain(place, { key, isRow, tag, nth }) {
  const row = key === null ? place : [...place.querySelectorAll("[data-key]")].find((it) => it.dataset.key === key);
  const again = isRow ? row : row?.querySelectorAll(tag)[nth];
  if (again && again !== place) again.focus({ preventScroll: true });
  if (place.contains(document.activeElement)) return;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
}

/** Tells a screen reader, and nobody else. */
export function say(text) {
  byId("said").textContent = text;
}

/** A command with a button that copies it. */
export function command(text) {
  const button = h("button", { type: "button", class: "plain copy", "aria-label": `Copy: ${text}`, "data-key": `copy ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https a browser has no clipboard for pages: the text is selected instead.
      done = false;
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
    button.textContent = done ? "Copied" : "Selected";
    say(done ? "Copied" : "The command is selected; copy it with the keyboard");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return h("span", { class: "command" }, h("code", { tabindex: 0, role: "textbox", "aria-readonly": "true", "aria-label": "Command" }, text), button);
}

/** State in a word with a sign of its own, so that colour says nothing alone. */
export function badge(tone, word) {
  const sign = { good: "✓", bad: "✕", warn: "!", busy: "↻", calm: "–", off: "❚❚" }[tone] || "";
  return h("span", { class: `badge ${tone}` }, h("span", { "aria-hidden": "true" }, sign), " ", word);
}

/** A point in time: how long ago, or in how long; the exact one on hover. Kept up to date by `tick`. */
export function time(at) {
  if (!at) return "never";
  return h("time", { datetime: at, title: local(at), "data-at": at }, relative(at));
}

/** A point in time at which something is to happen: once it has come, it is due or under way. */
export function due(at) {
  return h("time", { datetime: at, title: local(at), "data-at": at, "data-due": true }, dueText(at));
}

const dueText = (at) => (Date.parse(at) <= now() ? "now" : relative(at));

/** The same of something that ends then, after "until": the moment itself, and in how long it is. */
export const until = (at) => [h("time", { datetime: at }, local(at)), " (", time(at), ")"];

/** Words, and points in time among them: `{ time }`, `{ until }` (comes after that word) or, of what is to happen then, `{ due }`. */
export const phrase = (list) => [list].flat(Infinity).map((it) => (typeof it !== "object" || it === null ? prose(it || "") : it.until ? until(it.until) : it.due ? due(it.due) : time(it.time)));

/** Text of the daemon: what it puts in backticks is to be typed, and what it calls a moment is one. */
export const prose = (text) => String(text).split("`").map((part, n) => (n % 2 ? h("code", {}, part) : moments(part)));

// Behind a word that leads to one: what stands elsewhere, as in quotes, is a value.
const MOMENT = /\b(at|since|seen|until|on|from|to) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)/;

function moments(text) {
  const parts = text.split(MOMENT);
  return parts.map((part, n) => {
    if (n % 3 === 0) return part;
    if (n % 3 === 1) return part === "at" ? "" : `${part} `;
    return ["until", "on"].includes(parts[n - 1]) ? until(part) : time(part);
  });
}

let clockSkew = 0;

/** The daemon's clock is what its times are of. */
export function setClock(at) {
  clockSkew = Date.parse(at) - Date.now();
}

export const now = () => Date.now() + clockSkew;

export const local = (at) => new Date(at).toLocaleString();

export function relative(at) {
  const seconds = Math.round((Date.parse(at) - now()) / 1000);
  if (Math.abs(seconds) < 3) return seconds > 0 ? "now" : "just now";
  return seconds < 0 ? `${span(-seconds)} ago` : `in ${span(seconds)}`;
}

/** `2 h 5 min` */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d${hours ? ` ${hours} h` : ""}`;
  if (hours) return `${hours} h${minutes ? ` ${minutes} min` : ""}`;
  return whole < 600 && whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
}

export function tick() {
  for (const it of document.querySelectorAll("time[data-at]")) {
    const text = it.dataset.due === undefined ? relative(it.dataset.at) : dueText(it.dataset.at);
    if (it.textContent !== text) it.textContent = text;
  }
}

export const number = (n) => Number(n).toLocaleString("en");

/** `1 change`, `2 changes` */
export const many = (n, one, more = `${one}s`) => `${number(n)} ${n === 1 ? one : more}`;
