// The queue, the rate budget, 429 answers of the last hour, and drift with what was looked at when.

import { badge, byId, h, many, now, number, s, show, span, time } from "./dom.js";
import { link } from "./resource.js";
import { secondsLeft } from "./words.js";

export function showTraffic(status) {
  const { queue, limiters, projects } = status;
  const drains = projects.filter((project) => project.progress).map(({ name, progress }) => ({ name, progress }));
  show(byId("traffic"), [queue, limiters, drains, projects.map((it) => [it.name, it.nextPassAt])], () => [
    h("ul", { class: "counts", "aria-label": "Queue" },
      fact(queue.ready, "waiting for their turn"), fact(queue.inFlight, "being sent"), fact(queue.delayed, "tried again later"), fact(queue.blocked, "blocked"), fact(queue.parked, "refused")),
    drains.map(({ name, progress }) => h("p", {}, h("strong", {}, name), `: ${number(progress.total - progress.left)} of ${many(progress.total, "change")} done${eta(status, progress)}.`)),
    limiters.map(limiter),
    h("p", {}, "Next pass: ", projects.slice(0, 10).map((it, i) => [i ? "; " : "", projects.length > 1 ? `${it.name} ` : "", it.nextPassAt ? time(it.nextPassAt) : "not scheduled"]), projects.length > 10 ? " …" : ""),
  ]);
}

function eta(status, progress) {
  const left = secondsLeft(status, progress, now());
  return left === null ? "" : `, about ${span(left)} left`;
}

const fact = (n, words) => h("li", {}, h("strong", {}, number(n)), ` ${words}`);

function limiter(it) {
  const label = `Rate budget of ${it.host}`;
  const hasBudget = it.budget !== null;
  const pause = it.pausedUntil ? h("p", {}, badge("warn", "paused"), " Descope said 429: nothing is sent until ", h("strong", {}, new Date(it.pausedUntil).toLocaleTimeString()), " (", time(it.pausedUntil), "). Then one request finds out whether it is over. Nothing has to be done.") : null;
  return h("section", { class: "group", "aria-label": label },
    h("h3", {}, it.host),
    pause,
    hasBudget ? h("p", {}, h("meter", { min: 0, max: Math.max(it.budget, 1), value: Math.min(it.used, it.budget), "aria-label": label }), it.used >= it.budget ? ` all ${number(Math.floor(it.budget))} requests of the window in use` : ` ${number(it.used)} of ${number(Math.floor(it.budget))} requests of the window in use`, it.requestsPerSecond ? `, ${it.requestsPerSecond.toFixed(1)} a second on average` : "") : h("p", {}, it.requestsPerSecond ? `${it.requestsPerSecond.toFixed(1)} requests a second` : "No limit is known: free until the first 429."),
    chart(it.throttledByMinute || [], it.throttledTotal));
}

/** 429 answers by minute: a drawing for the eye, and a sentence for everybody. */
function chart(minutes, total) {
  const sum = minutes.reduce((a, b) => a + b, 0);
  const most = Math.max(1, ...minutes);
  const last = minutes.findLastIndex((n) => n > 0);
  const text = sum ? `${many(sum, "answer")} with 429 in the last hour, the newest ${last === minutes.length - 1 ? "in this minute" : `about ${minutes.length - 1 - last} min ago`}, at most ${number(most)} a minute` : "No 429 in the last hour";
  const bars = minutes.map((n, i) => (n ? s("rect", { x: i * 5, y: 40 - Math.max(3, (n / most) * 38), width: 4, height: Math.max(3, (n / most) * 38) }, s("title", {}, `${n}, ${minutes.length - 1 - i} min ago`)) : null));
  if (!sum) return h("p", {}, text, h("span", { class: "quiet" }, `; ${number(total)} since the daemon started.`));
  return h("figure", { class: "chart" },
    s("svg", { viewBox: "0 0 300 41", role: "img", "aria-label": text, preserveAspectRatio: "none" }, s("line", { x1: 0, y1: 40.5, x2: 300, y2: 40.5 }), bars),
    h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, "60 min ago"), h("span", {}, "now")),
    h("figcaption", {}, text, h("span", { class: "quiet" }, `; ${number(total)} since the daemon started.`)));
}

export function showDrift(status) {
  // Ages are shown to the minute, so that a look which shows nothing new changes nothing here.
  const projects = status.projects.map(({ name, drift, kinds }) => ({ name, drift, kinds }));
  show(byId("drift"), [projects, Math.floor(now() / 60000)], () => projects.map((project) => [
    projects.length > 1 ? h("h3", {}, project.name) : null,
    drifted(project),
    coverage(project.kinds),
  ]));
}

function drifted({ name, drift, kinds }) {
  if (!kinds.some((it) => it.observedAt)) return h("p", {}, badge("calm", "not known"), " Nothing could be looked at yet.");
  if (!drift.total) return h("p", {}, badge("good", "no drift"), " Nothing differs that the files did not change.");
  return [
    h("p", {}, badge("warn", `${number(drift.total)} drifted`), " Changed in Descope though no file was:"),
    h("ul", { class: "plain" }, drift.resources.map((it) => h("li", {}, link({ project: name, kind: it.kind, id: it.id }), " seen ", time(it.since), h("span", { class: "quiet" }, it.actor ? `, by ${it.actor}` : ", by whom is not known")))),
    drift.total > drift.resources.length ? h("p", { class: "quiet" }, `and ${number(drift.total - drift.resources.length)} more`) : null,
  ];
}

function coverage(kinds) {
  const managed = kinds.filter((it) => it.isManaged);
  const others = kinds.filter((it) => !it.isManaged);
  return [
    managed.length ? h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Kinds" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Kind", "Declared", "Looked at"].map((it) => h("th", { scope: "col" }, it)))),
      h("tbody", {}, managed.map((it) => h("tr", {}, h("th", { scope: "row" }, it.kind), h("td", { class: "number" }, number(it.resources)),
        h("td", {}, it.observedAt ? time(it.observedAt) : "not yet", it.error ? [" ", badge("bad", "failed"), ` ${it.error}`] : null, it.details ? h("span", { class: "quiet" }, details(it.details)) : null)))))) : null,
    others.length ? h("p", { class: "quiet" }, `Not managed, as no file mentions them: ${others.map((it) => it.kind).join(", ")}.`) : null,
  ];
}

/** What is looked at resource by resource, in rotation. */
function details({ parts, unread, oldestAt }) {
  const rest = unread ? [` ${number(unread)} of ${many(parts, "detail")} not looked at yet, since `, time(oldestAt)] : [` ${many(parts, "detail")}, the oldest looked at `, time(oldestAt)];
  return [h("br"), "one by one:", rest];
}
