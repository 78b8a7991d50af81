// What happened: passes, and changes and orders from the audit trail. Asked for when it is looked at or something is new.

import { get, Refused } from "./api.js";
import { badge, byId, h, many, number, prose, show, span, time } from "./dom.js";
import { differences, select } from "./changes.js";
import { link } from "./resource.js";
import { before, short, stillGoing, trigger, unwritten } from "./words.js";

const wanted = { of: "passes", project: "", outcome: "", kind: "", revision: "", since: "" };
const PAGE = 25;
const TONES = { ok: "good", noop: "good", applied: "good", failed: "bad", partial: "warn", held: "warn", unknown: "warn", superseded: "calm" };
let limit = PAGE;
let generation = 0;
let again = () => {};

export async function refreshHistory(status, signal) {
  again = () => refreshHistory(status, signal).catch(() => {});
  const place = byId("history");
  if (!place.dataset.made) {
    place.dataset.made = "yes";
    place.append(filters(status), h("div", { id: "history-rows" }));
  }
  const mine = ++generation;
  const isPasses = wanted.of === "passes";
  const { kind, ...others } = wanted;
  const found = await get("history", { ...others, kind: isPasses ? "" : kind, limit }, signal).catch((error) => {
    if (mine === generation && error instanceof Refused) show(byId("history-rows"), error.message, () => h("p", { class: "bad" }, `${error.message}.`));
    throw error;
  });
  if (mine !== generation) return;
  const rows = isPasses ? found.passes : found.changes;
  const gaps = (isPasses && found.gaps) || [];
  const going = isPasses ? stillGoingOf(status, rows) : new Map();
  const lost = unwritten(status);
  show(byId("history-rows"), [wanted, rows, gaps, found.older, [...going.values()], lost], () => [
    lost ? h("p", {}, badge("bad", "not whole"), " What happened since ", time(lost), " could not be written down, as the state cannot be.") : null,
    rows.length || gaps.length ? (isPasses ? passRows(rows, gaps, going, status.projects.length > 1) : changeRows(rows, false, status.projects.length > 1)) : h("p", { class: "quiet" }, "Nothing matches."),
    found.older && limit < 200 ? h("p", {}, h("button", { type: "button", class: "plain", "data-key": "older", onclick: () => { limit = Math.min(200, limit * 2); again(); } }, "Show more")) : null,
  ]);
}

function filters(status) {
  const change = (name) => (event) => { wanted[name] = event.target.value.trim(); limit = PAGE; again(); };
  const outcome = (values) => select("Outcome", "history-outcome", values, change("outcome"));
  const passes = outcome(["", "noop", "applied", ["partial", "partial, or part failed"], "held", "failed"]);
  const changes = outcome(["", "ok", "failed", "unknown"]);
  const kinds = status.projects[0]?.kinds.map((it) => it.kind) || [];
  const kind = select("Kind", "history-kind", ["", ...kinds, ["operator", "orders"]], change("kind"));
  kind.hidden = true;
  const slot = h("span", { class: "slot" }, passes);
  const of = select("Show", "history-of", [["passes", "passes"], ["changes", "changes and orders"]], (event) => {
    wanted.of = event.target.value;
    wanted.outcome = "";
    limit = PAGE;
    const isPasses = wanted.of === "passes";
    slot.replaceChildren(isPasses ? passes : changes);
    slot.querySelector("select").value = "";
    kind.hidden = isPasses;
    again();
  });
  return h("form", { class: "filters", "aria-label": "Filter the history", onsubmit: (event) => event.preventDefault() },
    of,
    status.projects.length > 1 ? select("Project", "history-project", ["", ...status.projects.map((it) => it.name)], change("project")) : null,
    slot, kind,
    select("Since", "history-since", [["", "any time"], ["1h", "1 hour"], ["24h", "a day"], ["7d", "a week"]], change("since")),
    h("label", { for: "history-revision" }, "Revision or commit begins", h("input", { id: "history-revision", type: "search", autocomplete: "off", spellcheck: "false", onchange: change("revision") })));
}

const table = (label, names, rows) => h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label },
  h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)));

const took = (ms) => (ms < 1000 ? `${number(ms)} ms` : span(ms / 1000));

/** By row: what of it still goes out. */
function stillGoingOf(status, rows) {
  const found = new Map();
  for (const { name, lastPass, progress } of status.projects) {
    // The same moment, rounded by two clocks.
    const row = rows.find((it) => it.project === name && Math.abs(Date.parse(it.startedAt) - Date.parse(lastPass?.startedAt)) < 2000);
    const togo = row && stillGoing(lastPass, progress);
    if (togo) found.set(row, togo);
  }
  return found;
}

function passRows(rows, gaps, going, showsProject) {
  const names = ["When", showsProject ? "Project" : null, "Outcome", "Why", "Took", "Planned", "Writes", "Revision"].filter(Boolean);
  const gap = (it) => h("tr", {},
    h("td", {}, time(it.until)),
    showsProject ? h("td", {}, it.project) : null,
    h("td", {}, badge("warn", "not whole")),
    h("td", { colspan: 5 }, "From ", time(it.since), " until then not everything could be written down: passes and writes may be missing here."));
  const at = (it) => Date.parse(it.finishedAt || it.until);
  const all = [...rows, ...gaps].sort((a, b) => at(b) - at(a));
  return table("Passes", names, all.map((row) => (row.until ? gap(row) : h("tr", {},
    h("td", {}, time(row.finishedAt)),
    showsProject ? h("td", {}, row.project) : null,
    h("td", {}, going.has(row) && row.result === "applied" ? null : badge(TONES[row.result] || "calm", row.result), going.has(row) ? [" ", badge("busy", going.get(row))] : null),
    h("td", {}, trigger(row.trigger)),
    h("td", { class: "number" }, took(row.durationMs)),
    h("td", { class: "number" }, number(row.changes)),
    h("td", { class: "number" }, number(row.writes), row.failedWrites ? h("span", { class: "bad" }, ` (${number(row.failedWrites)} failed)`) : null),
    h("td", {}, h("code", { title: row.revision }, short(row.revision)), row.newestInvalid ? h("span", { class: "bad" }, " newer files are invalid") : null)))));
}

/** Rows of the audit trail. `ofOne`: of one resource, which need not be named again. */
export function changeRows(rows, ofOne, showsProject) {
  return h("ul", { class: "rows" }, rows.map((row) => h("li", {}, h("details", { "data-key": `audit ${row.number}` },
    h("summary", {}, badge(TONES[row.outcome] || "calm", row.outcome), " ", h("strong", {}, row.kind === "operator" ? `${row.action}, ${row.id === "time" ? "by itself" : "by the token"}` : row.action), " ",
      ofOne || row.kind === "operator" ? null : `${row.kind}/${row.id} `, showsProject ? h("span", { class: "quiet" }, `${row.project} `) : null,
      h("span", { class: "quiet" }, time(row.at), row.attempt > 1 ? `, try ${row.attempt}` : "", row.kind === "operator" && row.message ? [", ", prose(row.message)] : "")),
    row.message ? h("p", {}, prose(row.message)) : null,
    before(row) ? h("p", {}, row.fields?.some((it) => it.drift) ? [badge("warn", "drift"), " "] : null, `Before it, ${before(row)} had changed it in Descope.`) : null,
    row.kind === "operator" ? null : h("p", { class: "quiet" }, `${trigger(row.trigger)}, revision ${row.commit || short(row.revision)}, ${took(row.durationMs)}`, row.file ? h("span", { class: "where" }, ` ${row.file}:${row.line}`) : null, " ", ofOne ? null : link(row, "Its own page")),
    row.kind !== "operator" && row.fields?.length ? differences(row) : null))));
}
