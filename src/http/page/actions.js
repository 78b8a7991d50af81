// What can be ordered, always with the token; each order leaves a row in the audit trail.

import { Refused, hasToken, post } from "./api.js";
import { badge, byId, h, many, say, time, until } from "./dom.js";

let askForToken = () => {};

/** What to call when an order needs the token first: with what to do once it is there. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

function tell(text, isBad) {
  const place = byId("notice");
  place.hidden = false;
  place.className = isBad ? "notice bad" : "notice";
  place.replaceChildren(text, " ", h("button", { type: "button", class: "plain", onclick: () => { place.hidden = true; } }, "Dismiss"));
}

async function order(what, parameters, done) {
  if (!hasToken()) return askForToken(() => order(what, parameters, done));
  try {
    const answer = await post(what, parameters);
    const text = done(answer);
    tell(answer.warning ? `${text} ${answer.warning}` : text, Boolean(answer.warning));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return askForToken(() => order(what, parameters, done), "The daemon does not know this token.");
    tell(`Not done: ${error.message}`, true);
  }
}

/**
 * First presses that wait for a second, by the place of their button: what exactly was asked for, and until when. An update
 * of the page must not undo that, and must not put something else under the second press.
 */
const armed = new Map();
/** By the same: the button that is there now, and what paints it. */
const placed = new Map();
/** By project: the fingerprint of the held changes that are listed under "Held back". */
const listed = new Map();
/** By place: how long to suspend it. By project: which kind. */
const lengths = new Map();
const chosenKinds = new Map();

function disarm(place) {
  clearTimeout(armed.get(place)?.timer);
  armed.delete(place);
  placed.get(place)?.paint();
}

/** Takes a first press back, and says so. */
function withdraw(place) {
  const { what } = armed.get(place);
  disarm(place);
  tell(`Not done. “${what}” is no longer what you were asked about. Look again before you press.`, true);
}

/** Takes back what lost its button: the cause is over, or another one stands there. Call it after each update. */
export function withdrawGone() {
  for (const place of [...armed.keys()]) {
    if (!placed.get(place)?.element.isConnected) withdraw(place);
  }
}

/**
 * A button in its place, which outlives updates. `subject` is all that the order does; with `confirm` it asks once more, and
 * the second press counts for that subject alone. `of` is said to a screen reader after the label, where several of them have the
 * same. `notYet()` says why it cannot be pressed at the moment.
 */
function button({ place, subject, label, hint, confirm, of, notYet = () => "", act }) {
  const element = h("button", { type: "button", title: hint, "data-key": place });
  const about = JSON.stringify(subject);
  const isArmed = () => armed.get(place)?.about === about;
  const paint = () => {
    element.textContent = isArmed() ? confirm : label;
    element.removeAttribute("aria-label");
    if (of && !element.textContent.includes(of)) element.setAttribute("aria-label", `${element.textContent} ${of}`);
    element.classList.toggle("armed", isArmed());
    element.toggleAttribute("aria-disabled", false);
    if (notYet()) element.setAttribute("aria-disabled", "true");
  };
  placed.set(place, { element, paint });
  if (armed.has(place) && !isArmed()) withdraw(place);
  paint();
  element.addEventListener("click", () => {
    const why = notYet();
    if (why) {
      if (armed.has(place)) disarm(place);
      tell(`Not done: ${why}`, true);
      return;
    }
    if (!confirm || isArmed()) {
      disarm(place);
      act();
      return;
    }
    armed.set(place, { about, what: hint, timer: setTimeout(() => disarm(place), 15_000) });
    paint();
    say(`${confirm} Press again to go ahead.`);
  });
  return element;
}

/** The fingerprint that the list of held changes shows; null where nothing is held. What is not listed cannot be approved. */
export function noteListed(project, fingerprint) {
  listed.set(project, fingerprint);
  for (const { element, paint } of placed.values()) if (element.isConnected) paint();
}

/** `key` names the place; `held` is what the status or the plan says of it: `{ fingerprint, reason, ... }`. */
export function approveButton(key, project, held, what, isOneOfMany) {
  const { fingerprint, reason } = held;
  const which = isOneOfMany ? `${what} of ${project}` : what;
  const isListed = () => reason === "stale_revision" || listed.get(project) === fingerprint;
  return button({
    place: `approve ${key}`,
    subject: ["approve", project, held],
    label: "Approve",
    hint: `Approve ${what} of ${project}`,
    confirm: `Really approve ${which}${reason === "stale_revision" ? "" : ` (${fingerprint})`}?`,
    notYet: () => (isListed() ? "" : "what is held has just changed. Read it under Held back first."),
    act: () => order("approve", { plan: fingerprint, project }, (answer) => (answer.approved ? `Approved in ${project}: ${many(answer.approved, "held change goes", "held changes go")} ahead${putOff(answer)}${asWanted(answer)}.` : `Approved in ${project}.`)),
  });
}

/** What is put off in part is told by the warning. */
const putOff = ({ waitsUntil, warning }) => (waitsUntil && !warning ? ` when the suspension ends, ${new Date(waitsUntil).toLocaleString()}` : "");

/** What is held of older files goes ahead as far as the newer ones want it. */
const asWanted = ({ newerFiles }) => (newerFiles ? `, as far as the newer files (${newerFiles}), which are not compared with Descope yet, want it` : "");

const LENGTHS = [["30m", "30 min"], ["2h", "2 hours"], ["8h", "8 hours"], ["1d", "1 day"], ["7d", "7 days"]];

const isMany = (status) => status.projects.length > 1;

/** Where no token is configured, orders are taken from nobody, wherever they come from. */
export const noOrders = () => h("span", { class: "quiet" }, "The daemon takes no orders, as http.token is not set: set it and restart the daemon.");

export function projectActions(status, project) {
  if (!status.canOrder) return h("p", { class: "quiet" }, "To reconcile, suspend or approve, from here or by command, set http.token.");
  const { name } = project;
  return h("div", { class: "actions", role: "group", "aria-label": `Actions on ${name}` },
    button({
      place: `reconcile ${name}`, subject: ["reconcile", name], label: "Reconcile now", hint: `Reconcile ${name} now`,
      act: () => order("reconcile", { project: name }, () => `A full pass over ${name} is on its way.`),
    }),
    project.suspendedUntil ? resume({ project: name, until: project.suspendedUntil, isOneOfMany: isMany(status) }) : suspend({ project: name, isOneOfMany: isMany(status) }));
}

/** Under the kinds of a project: one of them is only observed for a while. */
export function kindActions(status, project, kinds) {
  if (!status.canOrder || !kinds.length) return null;
  const kind = kinds.includes(chosenKinds.get(project)) ? chosenKinds.get(project) : kinds[0];
  const slot = h("span", { class: "slot" });
  const ask = (value) => slot.replaceChildren(suspend({ project, kind: value, where: "kinds", place: `${project} kinds`, isOneOfMany: isMany(status) }));
  ask(kind);
  const onchange = (event) => {
    chosenKinds.set(project, event.target.value);
    ask(event.target.value);
  };
  return h("div", { class: "actions", role: "group", "aria-label": `Suspend one kind of ${project}` },
    h("select", { "aria-label": `Which kind of ${project} to suspend`, "data-key": `kind ${project}`, onchange }, kinds.map((it) => h("option", { value: it, selected: it === kind }, it))),
    slot);
}

/** On the page of a resource: it is only observed for a while. `parts`: what of it, or of its kind, is so already. */
export function resourceActions(status, { project, kind, id }, parts) {
  const own = parts.some((it) => it.id);
  const told = parts.map((part) => h("p", {}, partSuspended(status, project, part, "resource")));
  return [told, status.canOrder && !own ? h("div", { class: "actions", role: "group", "aria-label": `Actions on ${kind}/${id}` }, suspend({ project, kind, id, where: "resource", isOneOfMany: isMany(status) })) : null];
}

/** A part of a project that is only observed, by whom and until when, with what ends that. `where` on the page it is shown. */
export function partSuspended(status, project, part, where) {
  const { kind, id, by } = part;
  return [badge("off", "suspended"), ` ${named(part)} since `, time(part.since), ", until ", until(part.until), by ? `, by ${by}` : "", " ", status.canOrder ? resume({ project, kind, id, until: part.until, where, isOneOfMany: isMany(status) }) : null];
}

const named = ({ project, kind, id }) => (kind ? (id ? `${kind}/${id}` : kind) : project);

/** The same among the parts of several projects. */
const whole = (what) => (what.kind && what.isOneOfMany ? `${named(what)} of ${what.project}` : named(what));

/** The second press names what it is for, unless there is nothing else that it could be for. */
const which = (what) => (what.isOneOfMany ? ` ${whole(what)}` : "");

/** Of an order: the project, a kind of it, or one resource. */
const scope = ({ project, kind, id }) => (id ? { project, target: `${kind}/${id}` } : kind ? { project, kind } : { project });

/** One place for suspending and resuming the same thing: a press that was meant for one never counts for the other. */
const placeOf = (what) => `suspension ${what.place || (what.kind ? `${what.where} ${what.project} ${named(what)}` : what.project)}`;

function resume(what) {
  const name = whole(what);
  return button({
    place: placeOf(what), subject: ["resume", scope(what), what.until], label: "Resume", hint: `Resume ${name}`, confirm: `Really resume${which(what)}?`, of: what.kind && name,
    act: () => order("resume", scope(what), () => `${name} goes on.`),
  });
}

function suspend(what) {
  const name = whole(what);
  const place = placeOf(what);
  const chosen = lengths.get(place) || "2h";
  const slot = h("span", { class: "slot" });
  const ask = (value) => button({
    place, subject: ["suspend", scope(what), value], label: "Suspend for", hint: `Suspend ${name}`, confirm: `Really suspend${which(what)} for`, of: what.kind && name,
    act: () => order("suspend", { ...scope(what), for: value }, (answer) => `${name} ${what.kind ? "is only observed" : "only observes"} until ${new Date(answer.suspendedUntil).toLocaleString()}.`),
  });
  slot.append(ask(chosen));
  const onchange = (event) => {
    lengths.set(place, event.target.value);
    slot.replaceChildren(ask(event.target.value));
  };
  const key = what.kind ? `for ${place}` : `for ${what.project}`;
  return h("span", { class: "pair" }, slot,
    h("select", { "aria-label": `How long to suspend ${name}`, "data-key": key, onchange }, LENGTHS.map(([value, word]) => h("option", { value, selected: value === chosen }, word))));
}
