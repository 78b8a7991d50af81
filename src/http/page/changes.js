// What differs, over all projects, and what of it is held. The plan is asked for in windows.

import { get } from "./api.js";
import { badge, byId, command, h, many, number, prose, say, show, time, until } from "./dom.js";
import { link } from "./resource.js";
import { HOLDS, WHOLE, daemonCommand, newerFiles, ofHold, ofOlderFiles, ofWait, whyHeld } from "./words.js";
import { approveButton, noOrders, noteListed } from "./actions.js";

const WINDOW = 20;
const SIGNS = { create: "+", update: "~", rename: "→", delete: "−" };
const TONES = { create: "good", update: "busy", rename: "busy", delete: "bad" };

const wanted = { project: "", kind: "", action: "", held: "", q: "", offset: 0 };
let newest = null;
let generation = 0;
let isAsked = false;
let again = () => {};

/** Asks for the window that the filters choose, and shows it. */
export async function refreshChanges(status, signal) {
  again = () => refreshChanges(status, signal).catch(() => {});
  const mine = ++generation;
  const [window, held] = await Promise.all([
    get("plan", { ...wanted, limit: WINDOW }, signal),
    get("plan", { held: "true", limit: WINDOW }, signal),
  ]);
  if (mine !== generation) return;
  if (!window.matching || wanted.offset < window.matching) {
    newest = window;
  } else {
    wanted.offset = 0;
    return again();
  }
  showDiffs(status);
  showHeld(status, held);
}

function showDiffs(status) {
  const place = byId("diffs");
  if (!place.dataset.made) {
    place.dataset.made = "yes";
    place.append(filters(status), h("div", { id: "diff-rows" }));
  }
  const rows = newest.projects.flatMap((project) => project.changes.map((change) => ({ project: project.name, change, wait: waitOf(project, change) })));
  const total = newest.projects.reduce((sum, project) => sum + project.changesTotal, 0);
  // Why one of these is held is said with it.
  const isSaid = (name, text) => rows.some(({ project, change }) => project === name && change.why && [`${change.kind}/${change.id}`, change.kind].some((key) => text.endsWith(`${key} ${change.why}`)));
  const warnings = newest.projects.flatMap(({ name, warnings: all }) => all.filter((text) => !isSaid(name, text)).map((text) => ({ project: name, text })));
  // Of an update by itself a screen reader says nothing; what was asked for is answered.
  if (isAsked) say(many(newest.matching, "difference"));
  isAsked = false;
  show(byId("diff-rows"), [rows, newest.matching, total, wanted, warnings, nothing(status)], () => [
    h("p", { class: "quiet" }, total === 0 ? nothing(status) : `${many(newest.matching, "difference")}${newest.matching === total ? "" : ` of ${number(total)}`}${pages()}`),
    warnings.length ? h("ul", { class: "plain" }, warnings.slice(0, 10).map(({ project, text }) => h("li", {}, badge("warn", "note"), ` ${project}: `, prose(text)))) : null,
    rows.length ? h("ul", { class: "rows" }, rows.map((row) => changeRow(row, status.projects.length > 1))) : null,
    newest.matching > WINDOW ? pager() : null,
  ]);
}

const nothing = (status) => (status.projects.some((project) => project.counts.unknown)
  ? "Nothing differs in what could be looked at; not everything could."
  : "Nothing differs that is not done already.");

const pages = () => (newest.matching > WINDOW ? `, ${number(wanted.offset + 1)} to ${number(Math.min(wanted.offset + WINDOW, newest.matching))}` : "");

function pager() {
  const go = (by) => { wanted.offset = Math.max(0, wanted.offset + by); again(); };
  return h("p", { class: "pager" },
    h("button", { type: "button", class: "plain", disabled: wanted.offset === 0, onclick: () => go(-WINDOW), "data-key": "diffs earlier" }, "← Earlier"),
    h("button", { type: "button", class: "plain", disabled: wanted.offset + WINDOW >= newest.matching, onclick: () => go(WINDOW), "data-key": "diffs later" }, "Later →"));
}

function filters(status) {
  const change = (name) => (event) => { wanted[name] = event.target.value; wanted.offset = 0; isAsked = true; again(); };
  const kinds = [...new Set(status.projects.flatMap((project) => project.kinds.map((it) => it.kind)))];
  return h("form", { class: "filters", "aria-label": "Filter the differences", onsubmit: (event) => event.preventDefault() },
    status.projects.length > 1 ? select("Project", "diff-project", ["", ...status.projects.map((it) => it.name)], change("project")) : null,
    select("Kind", "diff-kind", ["", ...kinds], change("kind")),
    select("Action", "diff-action", ["", "create", "update", "rename", "delete"], change("action")),
    select("Held", "diff-held", [["", "any"], ["true", "held"], ["false", "not held"]], change("held")),
    h("label", { for: "diff-q" }, "Name contains", h("input", { id: "diff-q", type: "search", autocomplete: "off", oninput: change("q") })));
}

/** A labelled choice; an option is a word, or a value with a word. */
export function select(label, id, options, onchange) {
  const pairs = options.map((it) => (Array.isArray(it) ? it : [it, it || "any"]));
  return h("label", { for: id }, label, h("select", { id, onchange }, pairs.map(([value, word]) => h("option", { value }, word))));
}

/** What the plan says that a change waits for. */
export const waitOf = (project, { kind, id }) => (project.waits || []).find((wait) => wait.kind === kind && wait.id === id);

/** The same in a sentence. */
export const waiting = (wait) => h("p", {}, "Waits: ", ofWait(wait).map((it) => (it.time ? time(it.time) : it.until ? until(it.until) : prose(it))));

/** Is that what holds the change? */
export const isOf = (wait, { kind, id, held }) => wait.kind === kind && wait.id === id && wait.why.split(":")[0] === held;

/** Why a change is held, since when and until when, all of it once. */
export function holding(change, wait) {
  const { since, until: end } = wait && isOf(wait, change) ? wait : { until: change.until };
  return [whyHeld(change.held, end), change.why ? ["; ", prose(change.why)] : null, since ? ["; since ", time(since)] : null, end ? ["; until ", until(end)] : null];
}

function changeRow({ project, change, wait }, showsProject) {
  return h("li", {},
    h("details", { "data-key": `${project} ${change.kind} ${change.id} ${change.action}` },
      h("summary", {},
        h("span", { class: `action ${TONES[change.action]}` }, h("span", { "aria-hidden": "true" }, SIGNS[change.action], " "), change.action), " ",
        h("strong", {}, `${change.kind}/${change.id}`),
        showsProject ? h("span", { class: "quiet" }, ` ${project}`) : null,
        change.held ? [" ", badge("warn", `held: ${change.held}`)] : wait ? [" ", badge("calm", `waits: ${wait.why.split(":")[0]}`)] : null,
        h("span", { class: "quiet" }, ` ${fieldNames(change)}`)),
      h("p", {}, link({ project, kind: change.kind, id: change.id }, "Its own page"), change.file ? h("span", { class: "where" }, ` ${change.file}:${change.line}`) : null, change.held ? [" Held: ", holding(change, wait), "."] : null),
      wait && !isOf(wait, change) ? waiting(wait) : null,
      differences(change)));
}

const fieldNames = ({ fields }) => (fields.length > 3 ? `${fields.slice(0, 3).map((it) => it.path).join(", ")} and ${fields.length - 3} more` : fields.map((it) => it.path).join(", "));

/** The fields of a change, from and to. */
export function differences({ fields, action }) {
  if (!fields.length) return h("p", { class: "quiet" }, action === "delete" ? "All of it goes." : "No field is named.");
  const isCreate = action === "create";
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Fields" }, h("table", { class: "diff" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Field"), isCreate ? null : h("th", { scope: "col" }, "Is"), h("th", { scope: "col" }, isCreate ? "Becomes" : "Shall be"))),
    h("tbody", {}, fields.map(({ path, from, to }) => h("tr", {}, h("th", { scope: "row" }, path),
      isCreate ? null : h("td", { class: "from" }, h("del", {}, value(from))), h("td", { class: "to" }, h("ins", {}, value(to))))))));
}

function value(it) {
  if (it === null || it === undefined) return "(nothing)";
  if (it === "") return "(empty)";
  return typeof it === "string" ? it : JSON.stringify(it, null, 1);
}

function showHeld(status, window) {
  const groups = [];
  for (const project of window.projects) {
    if (!project.heldTotal && !(project.holds || []).length) continue;
    groups.push(project);
  }
  const newer = new Map(status.projects.map((project) => [project.name, newerFiles(project)]));
  show(byId("held"), [groups, status.canOrder, [...newer]], () => {
    if (!groups.length) return h("p", { class: "quiet" }, "Nothing is held back.");
    return groups.map((project) => heldGroup(project, status.projects.length > 1, status.canOrder, newer.get(project.name)));
  });
  for (const { name, held } of window.projects) noteListed(name, held?.fingerprint || null);
}

function heldGroup(project, isOneOfMany, canOrder, newer) {
  const reasons = new Map();
  for (const change of project.changes) {
    if (!reasons.has(change.held)) reasons.set(change.held, []);
    reasons.get(change.held).push(change);
  }
  const holds = project.holds || [];
  for (const { reason } of holds) if (!reasons.has(reason)) reasons.set(reason, []);
  const approve = project.held ? h("div", { class: "do" },
    h("p", {}, project.held.changes === 0 ? "To let this entry of the config have the project, once:" : `To let ${many(project.held.changes, "change")} go ahead${project.held.deletes ? ` (${many(project.held.deletes, "delete")})` : ""}, once and only as shown here:`, newer ? h("span", { class: "warn" }, ofOlderFiles(newer)) : null),
    canOrder ? command(daemonCommand(`approve ${project.held.fingerprint}`, isOneOfMany && project)) : noOrders(),
    canOrder && approveButton(`listed ${project.name}`, project.name, project.held, project.held.changes === 0 ? "the held project" : many(project.held.changes, "held change"), isOneOfMany)) : null;
  return h("section", { class: "group", "aria-label": `Held in ${project.name}` },
    h("h3", {}, project.name, project.heldTotal ? h("span", { class: "quiet" }, ` ${many(project.heldTotal, "change")}`) : null),
    h("ul", { class: "rows" }, [...reasons].map(([reason, changes]) => heldReason(project, reason, changes, holds.filter((hold) => hold.reason === reason)))),
    project.heldTotal > project.changes.length ? h("p", { class: "quiet" }, `and ${number(project.heldTotal - project.changes.length)} more; choose Held above to see all`) : null,
    approve);
}

function heldReason(project, reason, changes, holds) {
  // All of the project is held, whether anything differs or not.
  const isWhole = holds.some((hold) => hold.stopsProject && !hold.changes);
  const count = holds.length ? holds.reduce((sum, hold) => sum + hold.changes, 0) : changes.length;
  return h("li", {}, h("details", { "data-key": `held ${project.name} ${reason}` },
    h("summary", {}, badge("warn", reason), holds.some((hold) => hold.why && !hold.changes) ? "" : ` ${many(count, "change")}`, h("span", { class: "quiet" }, ` ${isWhole ? WHOLE[reason] || "" : meaning(reason, holds)}`)),
    (holds.length ? holds : [null]).map((hold) => h("p", {}, prose(hold?.why ? `${hold.why[0].toUpperCase()}${hold.why.slice(1)}. ` : ""), prose(release(reason, hold)))),
    h("ul", { class: "plain" }, changes.map((change) => h("li", {}, `${change.action} `, link({ project: project.name, kind: change.kind, id: change.id }), change.why ? [": ", prose(change.why)] : null)))));
}

/** What a rule means; of several of one word, of which time ends some, both. */
function meaning(reason, holds) {
  const timed = new Set(holds.map((hold) => Boolean(hold.until)));
  return (timed.size === 1 ? ofHold(reason, timed.has(true)) : HOLDS[reason]) || "";
}

/** What ends a hold. */
function release(reason, hold) {
  const since = hold?.since ? `Since ${new Date(hold.since).toLocaleString()}. ` : "";
  const until = hold?.until ? `Until ${new Date(hold.until).toLocaleString()}. ` : "";
  const ends = {
    delete_after: "It goes ahead by itself when guards.deleteAfter has passed; put the lines back to keep the resource.",
    policy: "It goes ahead when the project's policy permits it.",
    drift_reported: "It ends with time (drift.minAge), with a commit, or when drift.mode is heal.",
    still_referenced: "Remove the reference first; the plan names the file.",
  }[reason];
  if (hold?.endsWith) return `${since}${until}Ends with ${hold.endsWith}.`;
  return since + until + (ends || (hold?.approvable === false ? "No approval releases it: its cause has to end." : "An approval releases it, or its cause ends."));
}
