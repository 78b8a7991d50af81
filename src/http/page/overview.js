// The verdict, what needs somebody, and a card for each project.

import { badge, byId, command, due, h, many, now, number, phrase, say, show, span, time } from "./dom.js";
import { COUNTS, appliedIs, isUnheld, lookedAt, needs, nextPass, passSaid, short, standing, toGo, trigger, unheld, verdict } from "./words.js";
import { approveButton, noOrders, projectActions } from "./actions.js";
import { link } from "./resource.js";

const SIGNS = { good: "✓", bad: "✕", warn: "!", busy: "↻", calm: "–", off: "❚❚" };

let saidLast = "";

export function showVerdict(status, link) {
  const place = byId("verdict");
  const said = link.isLive ? verdict(status) : {
    tone: "calm",
    title: "Not connected: this is what was known last",
    detail: [`The last word was: ${verdict(status).title}.`],
  };
  place.hidden = false;
  place.className = `verdict ${said.tone}`;
  const looked = lookedAt(status);
  const seen = link.isLive ? "" : status.at;
  show(place, [said, looked, seen], () => [
    h("p", { class: "sign", "aria-hidden": "true" }, SIGNS[said.tone]),
    h("div", {},
      h("h1", {}, said.title),
      h("p", {}, said.detail.join(" ")),
      h("p", { class: "quiet" },
        looked ? [status.projects.length > 1 ? "Every project was looked at " : "Descope was looked at ", time(looked), status.projects.length > 1 ? " or later" : ""] : "Not everything could be looked at yet",
        seen ? [". The daemon last said something ", time(seen), "."] : ".")),
  ]);
  // Only its words are news: the age beside them moves every second, and counts with every change of a drain.
  if (saidLast && said.title !== saidLast) say(said.title);
  saidLast = said.title;
  document.title = `${SIGNS[said.tone]} ${said.title} – descope-gitops`;
}

export function showNeeds(status) {
  const items = needs(status);
  show(byId("needs"), [items, status.canOrder], () => {
    if (!items.length) return h("p", { class: "quiet" }, "Nothing. What differs is being worked on, or there is nothing to do.");
    return h("ul", { class: "needs" }, items.map((item) => need(item, status)));
  });
}

/** One of them. */
export function need(item, status) {
  const words = { bad: "act", warn: "look", calm: "wait" };
  return h("li", { class: item.tone },
    h("p", { class: "what" }, badge(item.tone, words[item.tone]), " ",
      status.projects.length > 1 && item.project ? h("span", { class: "quiet" }, item.project, ": ") : null,
      item.link ? link(item.link, item.what) : h("strong", {}, item.what)),
    item.why.length ? h("p", { class: "why" }, phrase(item.why), item.where ? h("span", { class: "where" }, " ", item.where) : null) : null,
    h("p", { class: "next" }, phrase(item.next), item.nextAt ? [", ", due(item.nextAt), "."] : null),
    item.command || item.approve ? h("p", { class: "do" }, item.command ? (isOrder(item.command) && !status.canOrder ? noOrders() : command(item.command)) : null,
      item.approve && status.canOrder ? approveButton(item.key, item.project, item.approve, item.approves || item.what, status.projects.length > 1) : null) : null);
}

const isOrder = (text) => /^descope-gitops (approve|reconcile|resume|suspend) /.test(text);

export function showProjects(status) {
  show(byId("projects"), [status.projects.map(({ problems, waits, ...rest }) => rest), status.components, status.canOrder], () =>
    status.projects.map((project) => card(status, project)));
}

function card(status, project) {
  const { tone, word } = standing(status, project);
  const { desired, applied, lastPass, lastSuccessAt, progress } = project;
  const isApplied = applied && applied.revision === desired.revision;
  return h("article", { class: "project", "aria-label": `Project ${project.name}` },
    h("h3", {}, project.name, " ", badge(tone, word)),
    elsewhere(project),
    checkouts(project),
    project.suspendedUntil ? h("p", {}, "Only observes: suspended until ", h("strong", {}, new Date(project.suspendedUntil).toLocaleString()), " (", time(project.suspendedUntil), ")", project.suspendedBy ? `, by ${project.suspendedBy}.` : ".") : null,
    progress ? drain(project, progress) : null,
    bar(project),
    h("dl", {},
      h("dt", {}, "Wanted"), h("dd", {}, revision(desired.revision, desired.commit), desired.valid ? null : h("span", { class: "bad" }, " the newest files are not in force"), project.notConvergedBecause === "stale_revision" ? h("span", { class: "warn" }, " put aside") : null, desired.loadedAt ? h("span", { class: "quiet" }, " these files since ", time(desired.loadedAt)) : null),
      h("dt", {}, "Applied"), h("dd", {}, applied ? [revision(applied.revision, applied.commit), isApplied ? " the same files" : h("span", { class: "warn" }, ` ${appliedIs(project)}`), h("span", { class: "quiet" }, " since ", time(applied.at))] : "not known yet"),
      h("dt", {}, "Last attempt"), h("dd", {}, lastPass ? [`${passSaid(project)}, ${progress ? "planned " : ""}`, time(lastPass.finishedAt), h("span", { class: "quiet" }, ` (${trigger(lastPass.trigger)}, ${many(lastPass.changes, "change")} planned)`)] : "none yet"),
      h("dt", {}, "Last success"), h("dd", {}, time(lastSuccessAt)),
      h("dt", {}, "Next pass"), h("dd", {}, phrase(nextPass(project))),
      h("dt", {}, "Policy"), h("dd", {}, project.policy, project.undeclared ? h("span", { class: "quiet" }, `; ${number(project.undeclared)} live and declared nowhere, left alone`) : null)),
    projectActions(status, project));
}

/** Who writes it, where that is another replica than the one that serves this page; orders reach it from here. */
function elsewhere({ lease, lastPass }) {
  if (!lease || lease.isMine) return null;
  const who = lease.holder ? ["Written by the replica ", h("strong", {}, lease.holder)] : h("strong", { class: "warn" }, unheld({ lease }));
  const said = lease.statusOf ? ["; this is what ", lease.statusOf, " said ", time(lease.statusAt), "."] : lastPass ? "; this is what was known here last." : "; nothing is known of it here yet.";
  return h("p", { class: "quiet" }, who, said);
}

/** Whose files are in force, where not all replicas have them. */
function checkouts({ name, checkouts: all }) {
  if (!all || !all.replicas.some((it) => it.putAsideSince || it.refused)) return null;
  const word = (it) => (it.putAsideSince ? [it.lags || it.isHolder ? h("span", { class: "warn" }, "put aside") : "follows", h("span", { class: "quiet" }, " since ", time(it.putAsideSince))] : it.revision ? "in force" : "none that can be used");
  return h("details", { class: "checkouts", "data-key": `checkouts ${name}` },
    h("summary", {}, `Files of ${many(all.replicas.length, "replica")}`, h("span", { class: "quiet" }, all.inForce ? [", in force ", h("code", { title: all.inForce }, short(all.inForce))] : null)),
    h("ul", { class: "plain" }, all.replicas.map((it) => h("li", {}, h("strong", {}, it.replica), it.isHolder ? " (holds it)" : "", it.isMine ? " (this page)" : "", ": ", revision(it.revision, null), " ", word(it), it.refused ? h("span", { class: "bad" }, ` ${it.refused}`) : null))));
}

const revision = (digest, commit) => (digest
  ? [commit ? h("strong", {}, commit, " ") : null, h("code", { title: digest }, short(digest))]
  : "none");

function drain(project, progress) {
  const done = progress.total - progress.left;
  const id = `drain-${project.name}`;
  return h("div", { class: "drain" },
    h("p", { id }, h("strong", {}, `${number(done)} of ${many(progress.total, "change")} done`), toGo(progress, now()), h("span", { class: "quiet" }, ", since ", time(progress.since))),
    h("progress", { max: progress.total, value: done, "aria-labelledby": id }));
}

/** One bar, and the same in words. */
function bar(project) {
  const { counts, name, desired } = project;
  // How many are in sync was so before.
  if (isUnheld(project)) return h("p", { class: "quiet" }, `How ${many(desired.resources, "declared resource")} stand${desired.resources === 1 ? "s" : ""} is not known.`);
  const present = COUNTS.filter(([key]) => counts[key] > 0);
  if (!present.length) return h("p", { class: "quiet" }, desired.revision ? "Nothing is declared." : desired.errors.length ? "What is declared is not known, as the files cannot be used." : "What is declared is not known yet.");
  const total = present.reduce((sum, [key]) => sum + counts[key], 0);
  return h("div", {},
    h("div", { class: "bar", "aria-hidden": "true" }, present.map(([key, , tone]) => part(counts[key] / total, tone))),
    h("ul", { class: "counts", "aria-label": `Resources of ${name}` }, present.map(([key, word, tone, hint]) =>
      h("li", { title: hint }, h("span", { class: `dot ${tone}`, "aria-hidden": "true" }), h("strong", {}, number(counts[key])), ` ${word}`))));
}

function part(share, tone) {
  const it = h("span", { class: tone });
  it.style.flexGrow = String(Math.max(share, 0.01));
  return it;
}
