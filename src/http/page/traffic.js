// The queue, the rate budget, 429 answers of the last hour, and drift with what was looked at when.

import { badge, byId, h, many, now, number, phrase, prose, s, show, span, time, until } from "./dom.js";
import { kindActions, partSuspended } from "./actions.js";
import { link } from "./resource.js";
import { byWhom, nextPass, noDrift, putBack, toGo, unheld } from "./words.js";

export function showTraffic(status) {
  const { queue, limiters, projects, startedAt } = status;
  const drains = projects.filter((project) => project.progress).map(({ name, progress }) => ({ name, progress }));
  show(byId("traffic"), [queue, limiters, drains, startedAt, projects.map((it) => [it.name, it.nextPassAt, it.look])], () => [
    h("ul", { class: "counts", "aria-label": "Queue" },
      fact(queue.ready, "waiting for their turn"), fact(queue.inFlight, "being sent"), fact(queue.delayed, "tried again later"), fact(queue.blocked, "blocked"), fact(queue.parked, "refused by Descope")),
    drains.map(({ name, progress }) => h("p", {}, h("strong", {}, name), `: ${number(progress.total - progress.left)} of ${many(progress.total, "change")} done${toGo(progress, now())}.`)),
    limiters.map((it) => limiter(it, startedAt)),
    h("p", {}, "Next pass: ", projects.slice(0, 10).map((it, i) => [i ? "; " : "", projects.length > 1 ? `${it.name} ` : "", phrase(nextPass(it))]), projects.length > 10 ? " …" : ""),
  ]);
}

const fact = (n, words) => h("li", {}, h("strong", {}, number(n)), ` ${words}`);

function limiter(it, startedAt) {
  const label = `Rate budget of ${it.host}`;
  const hasBudget = it.budget !== null;
  const pause = it.pausedUntil ? h("p", {}, badge("warn", "paused"), " Descope said 429: nothing is sent until ", h("strong", {}, new Date(it.pausedUntil).toLocaleTimeString()), " (", time(it.pausedUntil), "). Then one request finds out whether it is over. Nothing has to be done.") : null;
  return h("section", { class: "group", "aria-label": label },
    h("h3", {}, it.host),
    pause,
    it.wayBack ? h("p", {}, `After a refusal less is sent for a while: ${number(Math.floor(it.wayBack.budget))} requests a window again by `, until(it.wayBack.at), ", unless one is refused before.") : null,
    hasBudget ? h("p", {}, h("meter", { min: 0, max: Math.max(it.budget, 1), value: Math.min(it.used, it.budget), "aria-label": label }), it.used >= it.budget ? ` all ${number(Math.floor(it.budget))} requests of the window in use` : ` ${number(it.used)} of ${number(Math.floor(it.budget))} requests of the window in use`, it.requestsPerSecond ? `, ${it.requestsPerSecond.toFixed(1)} a second at most on average` : "") : h("p", {}, it.requestsPerSecond ? `${it.requestsPerSecond.toFixed(1)} requests a second` : "No limit is known: free until the first 429."),
    chart(it, startedAt));
}

/** Requests and 429 answers by minute, beside what a minute of the budget holds: a drawing for the eye, and sentences for everybody. */
function chart(it, startedAt) {
  const refused = it.throttledByMinute || [];
  const sent = it.requestsByMinute || [];
  const count = refused.length;
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const budget = it.requestsPerSecond ? it.requestsPerSecond * 60 : 0;
  const most = Math.max(1, ...sent, ...refused);
  // A budget far above what was sent would press the bars to the ground.
  const top = budget && budget <= most * 3 ? Math.max(most, budget) : most;
  const height = (n) => Math.max(2, (n / top) * 38);
  const bar = (n, i, name) => (n ? s("rect", { x: i * 5, y: 40 - height(n), width: 4, height: height(n), class: name }) : null);
  const last = refused.findLastIndex((n) => n > 0);
  const when = last === count - 1 ? "in this minute" : `about ${count - 1 - last} min ago`;
  // Before that nobody counted.
  const since = now() - Date.parse(startedAt) < count * 60_000 ? "since the daemon started, less than an hour ago" : "in the last hour";
  const busiest = Math.max(0, ...sent);
  const words = [
    last < 0 ? `No 429 ${since}` : `${many(sum(refused), "answer")} with 429 ${since}, the newest ${when}, at most ${number(Math.max(...refused))} a minute`,
    `${many(sum(sent), "request")}${busiest ? `, at most ${number(busiest)} a minute` : ""}`,
    budget ? `the budget is ${number(Math.round(budget))} a minute` : "no budget is known",
  ].join("; ");
  const caption = [words, h("span", { class: "quiet" }, `; ${number(it.throttledTotal)} with 429 since the daemon started.`)];
  if (!sum(sent) && last < 0) return h("p", {}, caption);
  return h("figure", { class: "chart" },
    s("svg", { viewBox: "0 0 300 41", role: "img", "aria-label": words, preserveAspectRatio: "none" },
      s("line", { x1: 0, y1: 40.5, x2: 300, y2: 40.5 }),
      budget && budget <= top ? s("line", { x1: 0, y1: 40 - height(budget), x2: 300, y2: 40 - height(budget), class: "budget" }) : null,
      sent.map((n, i) => bar(n, i, "sent")), refused.map((n, i) => bar(n, i, "refused"))),
    h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, "60 min ago"), h("span", {}, "now")),
    h("p", { class: "quiet", "aria-hidden": "true" }, h("span", { class: "key sent" }), " requests ", h("span", { class: "key refused" }), " of them 429", budget && budget <= top ? [" ", h("span", { class: "key budget" }), " budget"] : null),
    h("figcaption", {}, caption));
}

export function showDrift(status) {
  // Ages are shown to the minute, so that a look which shows nothing new changes nothing here.
  const projects = status.projects.map(({ name, drift, kinds, desired, suspensions, suspendedUntil, lease }) => ({ name, drift, suspendedUntil, kinds, unheld: unheld({ lease }), suspensions: suspensions || [], isKnown: Boolean(desired.revision) }));
  show(byId("drift"), [projects, status.canOrder, Math.floor(now() / 60000)], () => projects.map((project) => [
    projects.length > 1 ? h("h3", {}, project.name) : null,
    drifted(project),
    coverage(status, project),
  ]));
}

function drifted({ name, drift, kinds, suspendedUntil, unheld: isUnheld }) {
  const none = noDrift({ kinds, unheld: isUnheld });
  if (!drift.total) return h("p", {}, badge(none.tone, none.word), ` ${none.text}`);
  return [
    h("p", {}, badge("warn", `${number(drift.total)} drifted`), " Changed in Descope though no file was:"),
    h("ul", { class: "plain" }, drift.resources.map((it) => h("li", {}, link({ project: name, kind: it.kind, id: it.id }), it.isDeleted ? " was deleted," : it.fields.length ? ` (${it.fields.slice(0, 5).join(", ")}${it.fields.length > 5 ? ", …" : ""})` : "", " first seen ", time(it.since), it.held ? ["; ", badge("warn", it.held), it.until ? [" until ", until(it.until), it.held === "drift_reported" ? ", and put back then" : ""] : [" ends with ", prose(it.endsWith)]] : `; it is ${putBack({ suspendedUntil })}`, h("span", { class: "quiet" }, it.actor ? ["; ", prose(byWhom(it))] : "; by whom is not known")))),
    drift.total > drift.resources.length ? h("p", { class: "quiet" }, `and ${number(drift.total - drift.resources.length)} more`) : null,
  ];
}

function coverage(status, { name, kinds, suspensions, isKnown }) {
  const managed = kinds.filter((it) => it.isManaged);
  const others = kinds.filter((it) => !it.isManaged);
  if (!isKnown && !managed.length) return h("p", { class: "quiet" }, "Which kinds the files mention is not known, as no files are in force.");
  return [
    managed.length ? h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Kinds" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Kind", "Declared", "Looked at"].map((it) => h("th", { scope: "col" }, it)))),
      h("tbody", {}, managed.map((it) => h("tr", {}, h("th", { scope: "row" }, it.kind), h("td", { class: "number" }, number(it.resources)),
        h("td", { class: "words" }, it.observedAt ? time(it.observedAt) : "not yet", it.error ? [" ", badge("bad", "failed"), ` ${it.error}`] : null, it.details ? h("span", { class: "quiet" }, h("br"), details(it.details)) : null)))))) : null,
    suspensions.length ? h("ul", { class: "plain", "aria-label": `Suspended parts of ${name}` }, suspensions.map((part) => h("li", {}, partSuspended(status, name, part, "kinds")))) : null,
    managed.length ? kindActions(status, name, managed.map((it) => it.kind).filter((kind) => !suspensions.some((one) => one.kind === kind && !one.id))) : null,
    others.length ? h("p", { class: "quiet" }, `Not managed, as no file mentions them: ${others.map((it) => it.kind).join(", ")}.`) : null,
  ];
}

/** What is looked at resource by resource, in rotation. */
export function details({ parts, unread, oldestAt }) {
  const rest = unread ? [` ${number(unread)} of ${many(parts, "detail")} not looked at yet, since `, time(oldestAt)] : [` ${many(parts, "detail")}, the oldest looked at `, time(oldestAt)];
  return ["one by one:", rest];
}
