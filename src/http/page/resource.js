// One resource by its link: `#/PROJECT/KIND/ID`. All of it is asked for anew, so the link survives a reload.

import { Refused, get } from "./api.js";
import { badge, byId, h, prose, show, time } from "./dom.js";
import { resourceActions } from "./actions.js";
import { differences, holding, isOf, waitOf, waiting } from "./changes.js";
import { changeRows } from "./history.js";
import { need } from "./overview.js";
import { details } from "./traffic.js";
import { isUnheld, needsOf, short, unheld } from "./words.js";

const part = encodeURIComponent;

/** A link to a resource. */
export function link({ project, kind, id }, text) {
  return h("a", { href: `#/${part(project)}/${part(kind)}/${part(id)}`, "data-key": `link ${project} ${kind} ${id} ${text || ""}` }, text || `${kind}/${id}`);
}

/** The resource that the address names, or nothing. */
export function named() {
  const parts = location.hash.startsWith("#/") ? location.hash.slice(2).split("/") : [];
  if (parts.length !== 3 || parts.some((it) => !it)) return null;
  try {
    const [project, kind, id] = parts.map(decodeURIComponent);
    return { project, kind, id };
  } catch {
    return null;
  }
}

let generation = 0;

/** Shows what the address names, above everything but the verdict. */
export async function showResource(status) {
  const place = byId("resource");
  const resource = named();
  const mine = ++generation;
  if (!resource) {
    place.hidden = true;
    delete place.dataset.shown;
    place.replaceChildren();
    return;
  }
  const { project, kind, id } = resource;
  let found;
  try {
    const [plan, problems, history] = await Promise.all([
      get("plan", { project, kind, id, limit: 20 }),
      get("problems", { project, kind, id }),
      get("history", { of: "changes", project, kind, id, limit: 50 }),
    ]);
    found = { plan: plan.projects[0], problems: problems.problems, history: history.changes };
  } catch (error) {
    if (mine !== generation) return;
    if (!(error instanceof Refused)) throw error;
    found = { error: error.status === 404 ? `There is no project ${project} here.` : error.message };
  }
  if (mine !== generation) return;
  const isNew = place.hidden || place.dataset.of !== location.hash;
  place.hidden = false;
  place.dataset.of = location.hash;
  const of = status.projects.find((it) => it.name === project);
  const looked = of?.kinds.find((it) => it.kind === kind);
  const suspensions = of?.suspensions || [];
  const parts = suspensions.filter((it) => it.kind === kind && (!it.id || it.id === id));
  const needs = found.error ? [] : needsOf(status, resource, found.problems, found.plan?.changes || []);
  show(place, [resource, found, needs, parts, looked, of?.lease?.isMine, status.canOrder], () => [
    h("h2", { id: "resource-title", tabindex: -1 }, `${kind}/${id}`, h("span", { class: "quiet" }, ` in ${project}`)),
    h("p", {}, h("a", { href: "#", "data-key": "everything" }, "← Everything")),
    needs.length ? h("ul", { class: "needs", "aria-label": "What it needs" }, needs.map((item) => need({ ...item, link: null, key: `its ${item.key}` }, status))) : null,
    found.error ? h("p", { class: "bad" }, found.error) : [view(found, resource, looked, of), resourceActions(status, resource, parts)],
  ]);
  if (isNew) byId("resource-title").focus();
}

/** Nothing is to be done. A name that nobody knows looks the same as one that was always right, and is not praised. */
function quiet({ plan, history }, { kind, id }, looked, project) {
  const last = history.find((row) => row.outcome === "ok" && row.kind !== "operator");
  // The newest first.
  const lost = history.slice(0, last ? history.indexOf(last) : undefined).find((row) => row.kind === "operator" && row.action === "gap");
  const known = plan?.resource;
  if (known?.declared) {
    return [
      project && isUnheld(project) ? h("p", {}, badge("calm", "not known"), ` ${unheld(project)}.${known.inSync ? " As declared when last looked at." : ""}`)
        : known.inSync ? h("p", {}, badge("good", "in sync"), " As declared when last looked at.") : h("p", {}, badge("good", "nothing to do"), " No difference is planned and no problem is known. The last look did not show it as declared, and what was written since is seen by the next one."),
      h("dl", {},
        h("dt", {}, "Kind"), h("dd", {}, kind),
        h("dt", {}, "Identity"), h("dd", {}, id),
        h("dt", {}, "Declared in"), h("dd", { class: "where" }, `${known.file}:${known.line}`),
        h("dt", {}, "Last look"), h("dd", {}, looked?.observedAt ? [`at ${kind} `, time(looked.observedAt)] : "none yet", looked?.details ? h("span", { class: "quiet" }, "; ", details(looked.details)) : null),
        h("dt", {}, "Last change"), h("dd", {}, last ? [`${last.action} `, time(last.at), h("span", { class: "quiet" }, ` revision ${last.commit || short(last.revision)}`)] : "none that the audit trail still has", lost ? ["; a newer one may be missing: not everything could be written down until ", time(lost.at)] : null)),
    ];
  }
  if (last?.action === "delete") return h("p", {}, badge("calm", "deleted"), " It was deleted, and no file declares it.");
  if (last) return h("p", {}, badge("good", "nothing to do"), " No difference is planned and no problem is known.");
  if (known && !looked) return h("p", {}, badge("calm", "not known"), ` There is no kind ${kind}. Is the address right?`);
  if (known && !looked.isManaged) return h("p", {}, badge("calm", "not managed"), ` No file declares anything of ${kind}, so nobody looks at them.`);
  if (known) return h("p", {}, badge("calm", "not declared"), ` No file declares it, and the last look at ${kind} did not show it. Is the name right?`);
  if (project?.lease && !project.lease.isMine) return h("p", {}, badge("calm", "nothing known"), ` Nothing is planned for it and no problem is known. This replica does not write the project${project.lease.holder ? `: ask ${project.lease.holder}, which does` : ""}.`);
  return h("p", {}, badge("calm", "nothing known"), " Nothing was planned yet.");
}

/** What waits for the same as a problem of the resource. */
const OF_PROBLEMS = /^(parked|backoff|dependency|unobserved)\b/;

/** What ends the hold of a change. */
function ends({ holds }, { held }) {
  const hold = (holds || []).find((it) => it.reason === held);
  return hold?.endsWith ? ["Ends with ", prose(hold.endsWith), "."] : null;
}

function view(found, resource, looked, project) {
  const { plan, problems, history } = found;
  const changes = plan?.changes || [];
  const refused = plan?.refused || [];
  const undeclared = plan?.undeclared || [];
  const isQuiet = !changes.length && !(plan?.waits || []).length && !refused.length && !undeclared.length && !problems.length;
  return [
    isQuiet ? quiet(found, resource, looked, project) : null,
    refused.filter((it) => !problems.length).map((it) => h("p", {}, badge("bad", "refused"), " ", prose(it.message), h("span", { class: "where" }, ` ${it.file}:${it.line}`))),
    undeclared.map(() => h("p", {}, badge("calm", "undeclared"), " It is live and no file declares it; it is left alone.")),
    // What holds a change is said with it, and what a problem waits for above.
    (plan?.waits || []).filter((wait) => !changes.some((change) => isOf(wait, change)) && !(problems.length && OF_PROBLEMS.test(wait.why))).map(waiting),
    changes.map((change) => h("div", {}, h("h3", {}, `To be done: ${change.action}`), change.held ? h("p", {}, badge("warn", "held"), " ", holding(change, waitOf(plan, change)), ". ", ends(plan, change)) : null, differences(change))),
    h("h3", {}, "What was done to it"),
    history.length ? changeRows(history, true) : h("p", { class: "quiet" }, "Nothing that the audit trail still has."),
  ];
}
