// What the status means, in words. Nothing here touches the page, so it can be tried alone.

import { local, many, number, span } from "./dom.js";

/** Who set what is there now, or took it away. Since when that differs says nothing of when they did so. */
export const byWhom = ({ isDeleted, actor }) => `${isDeleted ? "deleted" : "what is there now is"} by ${actor}`;

/** Why something is held, and what ends it. */
export const HOLDS = {
  first_contact: "the first contact with something that is live already: approve it once after reading the differences",
  max_deletes: "more deletes in 24 hours than guards.maxDeletes allows",
  max_delete_percent: "a larger share of deletes in 24 hours than guards.maxDeletePercent allows",
  max_change_percent: "a larger share of changes than guards.maxChangePercent allows",
  kind_emptied: "the files no longer have anything of this kind",
  maybe_rename: "a delete beside a create: it may be a rename, which would keep ids and assignments",
  observation_shrank: "the list from Descope lacks too much of what is owned to be believed",
  would_reset: "the call would reset a field that nobody declares and nobody can read",
  weakening: "it lowers protection compared with what is live",
  lockout: "it may lock people out",
  contested: "somebody reverts it again and again",
  still_referenced: "something that stays still refers to it",
  delete_after: "deletes wait for guards.deleteAfter, in case the file comes back",
  drift_reported: "drift that is only reported (drift.mode), or is younger than drift.minAge",
  policy: "the project's policy does not permit it",
  suspended: "it is suspended for now",
  stale_revision: "the files of a replica are put aside: they are older than those in force, or nobody knows that they are newer",
};

/** The same where it is known which of both it is: what has an end in time is young. */
const DRIFT = { true: "drift that is younger than drift.minAge, and put back when it is as old and not suspended", false: "drift that is only reported, as drift.mode says" };
export const ofHold = (reason, isTimed) => (reason === "drift_reported" ? DRIFT[Boolean(isTimed)] : HOLDS[reason]);

/** The same of a project as a whole, whatever differs. */
export const WHOLE = { first_contact: "the project as a whole, until somebody approves it once" };

/** Why something waits that no hold keeps back, where the status says no more than a word. */
const WAITS = {
  unconfirmed: "it was written a moment ago, and Descope does not show it yet",
  handover: "a call of the replica that held the project before may still be under way",
  rotation: "it is looked at in rotation, and its turn has not come yet",
  paused: "the project is paused",
  gate: "Descope's rate limit was reached",
  answer: "calls that Descope does not answer take every worker",
  budget: "it goes out as the rate limit allows",
};
/** The same before what the status says besides. */
const BEFORE = { unobserved: "cannot be looked at", parked: "refused", backoff: "failed for now", dependency: "something else goes first" };

/** What a wait is for, in words: the status has one of a closed set and after a colon what there is to say. */
function whyWaits(why, isTimed) {
  const colon = why.indexOf(":");
  const [word, what] = colon < 0 ? [why, ""] : [why.slice(0, colon), why.slice(colon + 1).trim()];
  const lead = ofHold(word, isTimed) || BEFORE[word];
  if (!lead) return what || WAITS[word] || word;
  return what ? `${lead}${what.startsWith("ends with ") ? ";" : ":"} ${what}` : lead;
}

/** By `held.reason`, which may name several. */
export const whyHeld = (reason, isTimed) => String(reason).split(",").map((one) => ofHold(one.trim(), isTimed) || one).join("; ");

const TRIGGERS = { startup: "at the start", watch: "a file changed", interval: "by itself", signal: "SIGHUP", api: "by request" };
export const trigger = (name) => TRIGGERS[name] || name;

export const short = (revision) => (revision ? String(revision).slice(0, 12) : "none");

/** What is held because files are put aside, the first what somebody can release. */
const putAside = (project) => (project.holds || []).filter((hold) => hold.reason === "stale_revision");

/** The replica that served this page, and what it knows of its own files. */
const here = (project) => project.checkouts?.replicas.find((it) => it.isMine);

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
/** A part of a project that is suspended by itself. */
const named = ({ kind, id }) => (id ? `${kind}/${id}` : kind);

const at = (problem) => (problem.file ? `${problem.file}:${problem.line}` : "");

const oneOfMany = (status, project) => status.projects.length > 1 && project;

/** Where a command that is given no address looks for the daemon. */
const DEFAULTS = ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"];

/** The option by which a command reaches the daemon of this page from any machine. */
function address(isNeeded) {
  const { protocol, host, origin, pathname } = globalThis.location || { pathname: "/" };
  if (!origin || (!isNeeded && protocol === "http:" && DEFAULTS.includes(host) && pathname === "/")) return "";
  return ` --url ${quoted(origin + pathname.slice(0, pathname.lastIndexOf("/") + 1))}`;
}

/** When the next pass comes, in items as of `why`; a look that takes long is part of one that is under way. */
export function nextPass({ look, nextPassAt }) {
  if (!look) return [nextPassAt ? { due: nextPassAt } : "not scheduled"];
  return ["one is under way, looking at Descope since ", { time: look.since }, ...(look.until ? ["; it waits for Descope's rate limit until ", { until: look.until }] : []), ...(look.freeAt ? ["; it waits for the rate budget, all of which is in use, until ", { until: look.freeAt }] : [])];
}

/** A command to copy that talks to this daemon: `daemonCommand("resume --kind roles", project)`; a project that is the only one need not be named. */
export const daemonCommand = (what, project) => `descope-gitops ${what}${project ? ` ${ofProjectNamed(project.name)}` : ""}${address()}`;

/** What begins with a dash would be taken for another option. */
const ofProjectNamed = (name) => (name.startsWith("-") ? `--project=${quoted(name)}` : `--project ${quoted(name)}`);

const time = (text) => ({ time: text });
const soon = (text) => ({ due: text });
const ends = (text) => ({ until: text });

/** Why something waits, since when and until when; an item that is `{ time }` is a point in time, one that is `{ until }` comes after that word. */
export const ofWait = ({ why, since, until }) => [whyWaits(why, until), ...(since ? ["; since ", time(since)] : []), ...(until ? ["; until ", ends(until)] : [])];

/** `a, b and 3 more kinds` */
function listed(names, what, most = 3) {
  const more = names.length - most;
  if (more > 0) return `${names.slice(0, most).join(", ")} and ${many(more, `more ${what}`)}`;
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Who suspended something. */
const suspendedBy = (by) => `by ${by || "somebody with the token"}`;

/** As a shell takes it. */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// What the queue sees to, or a problem tells already.
const ON_THE_QUEUE = /^(gate|budget|backoff|parked|dependency|paused|suspended)\b/;

/**
 * What somebody has to do: `{ tone, project, what, why: [...], next, command, link, key }`, the worst first. Items of
 * `why` and `next` that are `{ time }`, `{ until }` or, of what is to happen then, `{ due }` are points in time.
 */
export function needs(status) {
  const items = [];
  for (const component of status.components || []) {
    if (component.status !== "failing" && component.status !== "degraded") continue;
    if (isToldOfReplica(status, component)) continue;
    const item = ofComponent(component, status.components);
    if (item) items.push({ ...item, why: [...refusalOf(component, status), ...item.why, ...waitingFor(component, status)] });
  }
  for (const project of status.projects) items.push(...ofProject(status, project));
  const rank = { bad: 0, warn: 1, calm: 2 };
  return items.sort((a, b) => rank[a.tone] - rank[b.tone]);
}

/** What Descope answers where it refuses a project as a whole. */
function refusalOf({ name, project }, status) {
  const refusal = name === "descope" && status.projects.find((it) => it.name === project)?.refusedBecause;
  return refusal ? [sentence(refusal), " "] : [];
}

/** Which changes wait for a state that can be written, the first of them. */
function waitingFor({ name }, status) {
  if (name !== "state" && name !== "lease") return [];
  const all = status.projects.flatMap((project) => project.problems.filter((it) => it.id && isForState(it)));
  if (!all.length) return [];
  const hidden = status.projects.filter((it) => it.problems.length && it.problems.every((one) => one.id && isForState(one))).reduce((sum, it) => sum + it.problemsTotal - it.problems.length, 0);
  return [` ${many(all.length + hidden, "change")} ${all.length + hidden === 1 ? "waits" : "wait"} for it: ${all.slice(0, 3).map(named).join(", ")}${all.length + hidden > 3 ? " and more" : ""}.`];
}

/** What this replica alone is refused is told with its name. */
const isToldOfReplica = (status, { name, project }) => name === "descope"
  && status.projects.some((it) => it.name === project && it.checkouts?.replicas.some((one) => one.isMine && one.refused));

/** What another key takes. */
const ANOTHER_KEY = "A changed key file is tried at once; a key from the environment takes a restart of the daemon.";

/** The same of one resource alone, of which these are all problems and planned changes. */
export function needsOf(status, { project: name, kind, id }, problems, changes) {
  const project = status.projects.find((it) => it.name === name);
  if (!project) return [];
  const isIt = (it) => it.kind === kind && it.id === id;
  const resources = project.drift.resources.filter(isIt);
  const reasons = String(project.held?.reason).split(",").map((it) => it.trim());
  const isHeld = changes.some((change) => change.held && reasons.includes(change.held));
  const part = { ...project, contested: (project.contested || []).filter(isIt), waits: (project.waits || []).filter(isIt), drift: { total: resources.length, resources }, held: isHeld ? project.held : null };
  const held = ofHeld(status, part).map((item) => {
    // A fight is told with the change that it holds.
    if (item.key.startsWith("contested ")) return { ...item, why: [] };
    if (!item.key.startsWith("held ")) return item;
    // What else is held is not listed beside this one.
    const all = "An approval counts for all that is held: read the rest under Everything, then approve it";
    const next = project.held.changes > 1 ? item.next.replace("Read what is held below, then approve it", all) : item.next;
    return { ...item, next, why: item.why.map((it) => it.replace(LISTED, "")) };
  });
  return [...problems.map((problem) => ofProblem(status, project, problem)), ...held, ...ofDrift(status, part)];
}

function ofComponent({ name, project, status, reason, since }, all) {
  const tone = status === "failing" ? "bad" : "warn";
  const key = `component ${name} ${project || ""}`;
  const base = { tone, project, key, why: ["Since ", time(since), "."] };
  if (name === "descope" && reason === "management key refused") {
    return { ...base, what: "Descope refuses the management key", next: `Check that the key is of this project and has not expired. ${ANOTHER_KEY}` };
  }
  if (name === "descope" && status === "failing" && reason !== "cannot be observed") {
    return { ...base, what: `Descope cannot be observed: ${reason}`, next: "Nothing is changed meanwhile; one request an interval asks again." };
  }
  const lease = all.find((it) => it.name === "lease");
  // Where replicas share the state it is a database, and one cause is told once.
  if (name === "state" && lease) {
    return lease.status === "ok" ? { ...base, tone: "bad", what: `The state: ${reason}`, next: "See that PostgreSQL runs and takes writes. Until then nothing is created, renamed or deleted." } : null;
  }
  if (name === "state") {
    return { ...base, tone: "bad", what: `The state: ${reason}`, next: "Make the state directory writable and see that its disk is not full. Until then nothing is created, renamed or deleted." };
  }
  if (name === "notifications") {
    return { ...base, what: "Notifications do not arrive", next: "A receiver is not told of what is held or failing. The log says which and why, and `notify-test` tries it; what is to be told is tried again by itself." };
  }
  if (name === "checkout") return null; // Each project says it in more words.
  if (name === "lease") {
    return { ...base, what: `The lease: ${reason}`, next: "See that PostgreSQL runs and that every replica reaches it. Nothing is written while no replica holds a project's lease." };
  }
  return null;
}

function ofProject(status, project) {
  const items = [];
  const { name, desired, problems } = project;
  items.push(...ofReplicas(project));
  if (!desired.valid && desired.errors.length) {
    const more = project.errorsTotal - 1;
    const [first] = desired.errors;
    items.push({
      tone: "bad", project: name, key: `desired ${name}`,
      what: desired.revision ? "The newest files cannot be used" : "The files cannot be used: there is no desired state",
      why: [`${first.file}${first.line ? `:${first.line}` : ""}: ${first.message}`, more > 0 ? ` (and ${many(more, "more error")})` : ""],
      next: `Mend the files. ${desired.revision ? "The last good revision stays in force meanwhile" : "Nothing is changed until then"}. To check them, in the project's directory of a checkout:`,
      command: "descope-gitops validate --source .",
    });
  }
  const lists = problems.filter((it) => !it.id);
  items.push(...ofLists(status, project, lists));
  const parked = alike(problems.filter((it) => it.id && it.state === "parked"));
  // What waits for the state is told with the state.
  const isUnsure = (status.components || []).some((it) => (it.name === "state" || it.name === "lease") && it.status !== "ok" && it.status !== "starting");
  const isTold = (it) => isUnsure && isForState(it);
  const others = alike(problems.filter((it) => it.id && it.state !== "parked" && !isTold(it)));
  const shown = [...parked.slice(0, 5), ...others.slice(0, parked.length ? 2 : 5)];
  for (const group of shown) items.push(ofProblems(status, project, group));
  const left = project.problemsTotal - lists.length - shown.flat().length - problems.filter(isTold).length;
  // Of more than the status names nothing is known but their number: where all it names wait for the state, so do they.
  if (left > 0 && !(problems.length && problems.every(isTold))) {
    items.push({ tone: "warn", project: name, key: `more ${name}`, what: `${many(left, "more problem")}`, why: [], next: "All of them:", command: daemonCommand("status", oneOfMany(status, project)) });
  }
  items.push(...ofHeld(status, project), ...ofDrift(status, project));
  if (project.suspendedUntil) {
    items.push({
      tone: "calm", project: name, key: `suspended ${name}`, what: "Suspended: it only observes",
      why: [`Suspended ${suspendedBy(project.suspendedBy)}. It goes on by itself `, time(project.suspendedUntil), "."], next: "To go on now:",
      command: daemonCommand("resume", oneOfMany(status, project)),
    });
  }
  for (const part of project.suspensions || []) {
    const what = named(part);
    items.push({
      tone: "calm", project: name, key: `suspended ${name} ${what}`, what: `Suspended: ${what} is only observed`,
      why: ["Since ", time(part.since), `, ${suspendedBy(part.by)}. It goes on by itself `, time(part.until), "."], next: "To go on now:",
      command: daemonCommand(`resume ${part.id ? "--target" : "--kind"} ${quoted(what)}`, oneOfMany(status, project)),
      link: part.id ? { project: name, kind: part.kind, id: part.id } : null,
    });
  }
  const isHeld = (wait) => (project.holds || []).some((hold) => hold.approvable && hold.reason === wait.why.split(":")[0]);
  const isDrift = (wait) => project.drift.resources.some((it) => it.kind === wait.kind && it.id === wait.id && it.held === wait.why.split(":")[0]);
  for (const wait of (project.waits || []).filter((wait) => wait.id && !ON_THE_QUEUE.test(wait.why) && !isHeld(wait) && !isDrift(wait)).slice(0, 5)) {
    items.push({ tone: "calm", project: name, key: `wait ${name} ${wait.kind} ${wait.id}`, what: `${wait.kind}/${wait.id} waits`, why: ofWait(wait), next: "", link: { project: name, kind: wait.kind, id: wait.id } });
  }
  return items;
}

/** The newest files, where plan and counts are of older ones; "" where they are compared with Descope. */
export const newerFiles = ({ desired, plannedRevision, holds }) => (plannedRevision && desired.revision && plannedRevision !== desired.revision && !(holds || []).some((it) => it.stopsProject && it.reason === "stale_revision") ? desired.commit || short(desired.revision) : "");

/** What is to be said of what is held then; "" else. */
export const ofOlderFiles = (newer) => (newer ? ` It is of older files: the newest (${newer}) are not compared with Descope yet, and what they do not want is not done.` : "");

/** Who had changed in Descope what a change overwrote; empty where nobody is known to have. */
export const before = ({ actor, fields }) => actor || ((fields || []).some((it) => it.drift) ? "somebody else" : "");

/** Who turned it back: the last time where that is known, else with who did so before. */
const fighter = ({ actor, formerActor }) => actor || `somebody else${formerActor ? ` (the last one known was ${formerActor})` : ""}`;

/** What waits for an approval, and what somebody turns back again and again: one cause is told once. */
function ofHeld(status, project) {
  const { name, held } = project;
  const contested = (project.contested || []).map((it) => ({
    tone: "warn", project: name, key: `contested ${name} ${it.kind} ${it.id}`, what: `${it.kind}/${it.id} is turned back again and again`,
    why: [`${it.path} was turned back ${it.times} times since `, time(it.since), `: the files say ${it.declared}, ${fighter(it)} sets ${it.live}. It is left alone until `, ends(it.until), "."],
    next: `${it.actor ? "Settle it" : "Find out who sets it, and settle it"} in the files or with them. Approving sets it once more.`,
    link: { project: name, kind: it.kind, id: it.id },
  }));
  if (!held) return contested;
  const release = { command: daemonCommand(`approve ${held.fingerprint}`, oneOfMany(status, project)), approve: held, ...(held.changes ? {} : { approves: "the held project" }) };
  if (contested.length === 1 && held.reason === "contested" && held.changes === 1) {
    return [{ ...contested[0], ...release, approves: "1 change that is turned back again and again" }];
  }
  const stopped = (project.holds || []).find((hold) => hold.stopsProject && hold.reason === "first_contact");
  // An approval counts for all of it.
  // A fight has an entry of its own.
  const isElsewhere = (reason) => (stopped && reason === "first_contact") || (contested.length && reason === "contested");
  const others = String(held.reason).split(",").filter((reason) => !isElsewhere(reason.trim())).join(",");
  const reasons = [...(stopped ? [stopped.why] : []), ...(others ? [whyHeld(others)] : [])];
  const deletes = held.deletes ? `, ${number(held.deletes)} of them ${held.deletes === 1 ? "a delete" : "deletes"}` : "";
  return [{
    tone: "warn", project: name, key: `held ${name}`,
    what: held.changes ? `${many(held.changes, "change")} held for approval${deletes}` : "The project is held for approval, though nothing differs",
    why: [`Why: ${[...reasons, ...(contested.length ? [`${contested.length === 1 ? "one" : number(contested.length)} of them ${contested.length === 1 ? "is" : "are"} turned back again and again, as told below`] : [])].join("; and ")}.${heldThings(project)}${ofOlderFiles(newerFiles(project))}`],
    next: stopped ? `If this is meant, ${held.changes ? "read what is held below, then approve it" : "approve it"}; else put back what the config said before.` : "Read what is held below, then approve it, or change the files.",
    ...release,
  }, ...contested.map((it) => ({ ...it, next: it.next.replace("Approving sets it once more.", "Approving what is held sets it once more, too. To see both values:"), command: planCommand(status, name, it.link) }))];
}

/** Where the rest of what is held is. */
const LISTED = ", listed below";

/** What an approval is about, with what it does, the first of it. */
function heldThings({ held, waits }) {
  const reasons = String(held.reason).split(",").map((it) => it.trim()).filter((it) => it !== "contested");
  const things = (waits || []).filter((it) => it.id && reasons.includes(it.why.split(":")[0]));
  const told = things.slice(0, 3).map(({ kind, id, why }) => {
    const what = why.includes(":") ? why.slice(why.indexOf(":") + 1).trim() : "";
    return `${kind}/${id}${what && !what.startsWith("ends with ") ? ` (${what})` : ""}`;
  });
  if (!told.length) return "";
  return ` It is about ${told.join(", ")}${held.changes > told.length ? ` and more${LISTED}` : ""}.`;
}

/** What was changed in Descope, but for what is contested: that is told already. What has another end is told apart. */
function ofDrift(status, project) {
  const { name, drift, policy } = project;
  const rest = drift.resources.filter((it) => it.held !== "contested");
  const hidden = drift.total - drift.resources.length;
  const fates = new Map();
  for (const it of rest) {
    const fate = JSON.stringify([it.held, it.until, it.endsWith]);
    fates.set(fate, [...(fates.get(fate) || []), it]);
  }
  return [...fates].map(([fate, all]) => {
    const [first] = all;
    const isOne = all.length === 1;
    // The status names the first of many alone.
    const count = fates.size === 1 ? all.length + hidden : all.length;
    const isAct = isLeft(first) && !first.until && first.held !== "suspended";
    return {
      tone: isAct || project.suspendedUntil || policy === "observe" ? "warn" : "calm", project: name, key: `drift ${name} ${fate}`,
      what: `${many(count, "resource")} changed in Descope though no file was`,
      why: [isOne ? "" : "Among them ", `${first.kind}/${first.id}, first seen `, time(first.since), first.actor ? `; ${byWhom(first)}.` : "."],
      next: fateOf(project, first, count === 1),
      command: isAct ? planCommand(status, name, isOne ? first : null) : null,
      link: isOne ? { project: name, kind: first.kind, id: first.id } : null,
    };
  });
}

/** Is it not put back by itself? */
const isLeft = ({ held }) => Boolean(held);

/** What can be said where no drift is known: `{ tone, word, text }`. What could not be looked at may have drifted, and so may what nobody holds, for that reason. */
export function noDrift({ kinds, unheld: why }) {
  if (why) return { tone: "calm", word: "not known", text: `${why}: what drifted since is not known.` };
  const managed = kinds.filter((it) => it.isManaged);
  const unseen = managed.filter((it) => it.error || !it.observedAt).map((it) => it.kind);
  const unread = managed.filter((it) => it.details?.unread && !unseen.includes(it.kind)).map((it) => it.kind);
  if (!kinds.some((it) => it.observedAt)) return { tone: "calm", word: "not known", text: "Nothing could be looked at yet." };
  if (unseen.length && unseen.length === managed.length) return { tone: "calm", word: "not known", text: "Nothing can be looked at for now." };
  const but = [unseen.length ? `${listed(unseen, "kind")} could not be looked at` : "", unread.length ? `some details of ${listed(unread, "kind")} were not looked at yet` : ""].filter(Boolean).join(", and ");
  if (but) return { tone: "calm", word: "none known", text: `Of what could be looked at nothing differs that the files did not change; ${but}.` };
  return { tone: "good", word: "no drift", text: "Nothing differs that the files did not change." };
}

/** What becomes of drift that nothing holds. */
export const putBack = ({ suspendedUntil }) => `put back${suspendedUntil ? " when the suspension ends" : ""}`;

/** What becomes of drift: the policy, what holds it and a suspension each have a say. */
function fateOf({ suspendedUntil, policy }, drifted, isOne) {
  const [it, is] = isOne ? ["It", "is"] : ["They", "are"];
  if (policy === "observe") return `${it} ${is} only shown, as the policy is observe.`;
  if (isLeft(drifted)) {
    const besides = suspendedUntil && drifted.held !== "suspended" ? " Until the suspension ends nothing is written at all." : "";
    if (drifted.held === "drift_reported" && drifted.until) {
      return [`${it} ${is} left as ${it.toLowerCase()} ${is} until `, ends(drifted.until), `, and put back then. To keep ${isOne ? "it" : "them"}, change the files.${besides}`];
    }
    return [`${it} ${is} left as ${it.toLowerCase()} ${is}`, ...(drifted.until ? [" until ", ends(drifted.until)] : []), `; that ends with ${drifted.endsWith}.${besides}`];
  }
  return `${it} ${is} ${putBack({ suspendedUntil })}. To keep ${isOne ? "it" : "them"}, change the files.`;
}

/** Shows both values, of one resource where it is one. Without an address `plan` would look at the files beside it. */
function planCommand(status, project, drifted) {
  const target = drifted ? ` --target ${quoted(`${drifted.kind}/${drifted.id}`)}` : "";
  const which = status.projects.length > 1 ? ` ${ofProjectNamed(project)}` : "";
  return `descope-gitops plan${target}${which}${address(true)}`;
}

/** What of the replicas does not go on by itself: files that are put aside, a key that one of them has wrong, nobody who writes. */
function ofReplicas(project) {
  const { name, checkouts, lease } = project;
  if (!checkouts) return [];
  const items = [];
  const isStuck = checkouts.needs === "act";
  if (isStuck && !lease?.holder) {
    items.push({
      tone: "bad", project: name, key: `unheld ${name}`, what: "No replica writes it",
      why: ["The last lease ended ", time(lease?.expires), ", and none took the project over."],
      next: "See to the log of each replica, and to PostgreSQL. Nothing of the project is written meanwhile.",
    });
  }
  for (const hold of checkouts.needs === "nobody" ? [] : putAside(project)) {
    // Where nothing is written, whichever of them is meant can be put in force.
    const isOrder = hold.approvable && isStuck;
    items.push({
      tone: isOrder ? "bad" : "warn", project: name, key: `aside ${name} ${hold.endsWith}`,
      what: hold.stopsProject ? "Nothing is written: the files are put aside" : "A checkout stands still",
      why: [sentence(hold.why), " Put aside since ", time(hold.since), "."],
      next: `See first whether the files come on at that replica: does git-sync run there, and does its log say why not? It ends with ${hold.endsWith}.${isOrder ? " To go back to the older ones instead:" : ""}`,
      command: isOrder ? daemonCommand(`approve ${ofProjectNamed(name)} ${hold.revision}`) : null,
      approve: isOrder ? { fingerprint: hold.revision, reason: "stale_revision" } : null,
      approves: `the older files ${short(hold.revision)}`,
    });
  }
  for (const it of checkouts.replicas.filter((one) => one.refused)) {
    items.push({
      tone: it.isHolder ? "bad" : "warn", project: name, key: `refused ${name} ${it.replica}`,
      what: `Descope refuses the replica ${it.replica}`,
      why: [`${sentence(it.refused)} Since `, time(it.refusedSince), it.isHolder ? ", and no replica is known to be better off." : "; another replica writes the project."],
      next: `Check the management key of that replica, and its way to Descope, which is asked once per interval. ${ANOTHER_KEY}`,
    });
  }
  return items;
}

/** Kinds whose list cannot be read, those of one cause together. */
function ofLists(status, project, lists) {
  const causes = new Map();
  // That the project is refused as a whole is told as that.
  const isTold = ({ message }) => project.refusedBecause && withoutCall(message) === withoutCall(project.refusedBecause);
  for (const it of lists.filter((one) => !isTold(one))) {
    const cause = causeOf(it);
    causes.set(cause, [...(causes.get(cause) || []), it]);
  }
  const { name } = project;
  const component = failing(status, project);
  const isOut = component?.reason === "cannot be observed";
  const whole = isOut && causes.size !== 1
    ? [{ tone: "bad", project: name, key: `unobserved ${name}`, what: "Descope cannot be observed", why: ["Since ", time(component.since), "."], next: "Nothing is changed meanwhile; it is asked again by itself." }]
    : [];
  return [...whole, ...[...causes].map(([cause, all]) => {
    const [{ state, message, nextAttemptAt }] = all;
    const kinds = listed(all.map((it) => it.kind), "kind");
    const isForNow = state === "retrying";
    const base = { tone: isForNow ? "warn" : "bad", project: name, key: `lists ${name} ${cause}`, nextAt: isForNow ? nextAttemptAt : null };
    const again = isForNow ? (nextAttemptAt ? "It is tried again by itself" : "It is being tried again.") : "It is asked for again with the next pass.";
    if (isOut && causes.size === 1) {
      return { ...base, tone: "bad", what: "Descope cannot be observed", why: [`${message} (${kinds}). Since `, time(component.since), "."], next: `Nothing is changed meanwhile. ${again}` };
    }
    return { ...base, what: `${kinds} cannot be read${isForNow ? " for now" : ""}`, why: [message], next: again };
  })];
}

/** What of the daemon's parts fails for a project. One that another replica writes is nothing that this one's own parts know of. */
function failing(status, project) {
  if (project.lease && !project.lease.isMine) return null;
  return (status.components || []).find((it) => it.project === project.name && it.status === "failing");
}

/** Those of one cause together: the path that was asked for is none. */
function alike(problems) {
  const groups = new Map();
  for (const it of problems) {
    const cause = causeOf(it);
    groups.set(cause, [...(groups.get(cause) || []), it]);
  }
  return [...groups.values()];
}

const withoutCall = (message) => message.replaceAll(/\b(GET|POST|PUT|DELETE|PATCH) \/\S+?(?=[\s:;,)]|$)/g, "");
const causeOf = ({ state, message }) => JSON.stringify([state, withoutCall(message)]);

/** Several of one cause are one thing to do. */
function ofProblems(status, project, group) {
  const [first] = group;
  const item = ofProblem(status, project, first);
  if (group.length === 1) return item;
  const done = { parked: "were refused", blocked: "are blocked", retrying: "failed" }[first.state];
  return {
    ...item, key: `problems ${project.name} ${causeOf(first)}`, what: `${many(group.length, "resource")} ${done}`,
    why: [`${listed(group.map(named), "resource")}: ${first.message}`], where: "", link: null,
  };
}

function ofProblem(status, project, problem) {
  const where = at(problem);
  const isSuspended = Boolean(project.suspendedUntil) || (project.suspensions || []).some((it) => it.kind === problem.kind && (!it.id || it.id === problem.id));
  const isPutOff = problem.state === "retrying" && isSuspended;
  const isRefused = problem.state === "parked";
  const next = isPutOff ? "It is tried again when the suspension ends." : isRefused && isSuspended ? "Mend what the message names. It is tried again when the suspension has ended, and its file or the live resource has changed." : {
    parked: ["Mend what the message names: it is tried again when its file or the live resource changes", ...(problem.nextAttemptAt ? [", and by itself ", soon(problem.nextAttemptAt)] : []), ". To try it again as it is, with whatever else was refused:"],
    blocked: "It follows what it waits for.",
    retrying: problem.nextAttemptAt ? "It is tried again by itself" : "It is being tried again.",
  }[problem.state];
  const which = `${problem.kind}/${problem.id}`;
  const done = { parked: "was refused", blocked: "is blocked", retrying: "failed" }[problem.state];
  const attempts = problem.attempts > 1 ? ` (${number(problem.attempts)} tries)` : "";
  return {
    tone: problem.state === "parked" ? "bad" : "warn",
    project: project.name,
    key: `problem ${project.name} ${problem.kind} ${problem.id} ${problem.state}`,
    what: `${which} ${done}${attempts}`,
    why: [problem.message],
    where,
    next,
    command: isRefused && !isSuspended ? daemonCommand("reconcile --retry", oneOfMany(status, project)) : null,
    nextAt: isPutOff || isRefused ? null : problem.nextAttemptAt,
    link: { project: project.name, kind: problem.kind, id: problem.id },
  };
}

/** Since when the state cannot be written, or null. */
export const unwritten = (status) => (status.components || []).find((it) => it.name === "state" && it.status !== "ok" && it.status !== "starting")?.since || null;

/** A full disk is no database that may be back in a moment: only a person ends it. */
const isStuck = (status) => Boolean(unwritten(status)) && !status.components.some((it) => it.name === "lease");

/** Does it wait for a state that can be written, and for nothing else? */
const isForState = (problem) => problem.state === "retrying" && /\bnothing is (created, renamed or deleted|sent) meanwhile: /.test(problem.message);

/** How the newest pass went: what it set off may still be going out. */
export function passSaid({ lastPass, progress }) {
  const togo = stillGoing(lastPass, progress);
  if (!togo) return lastPass.result;
  return lastPass.result === "applied" ? togo : `${lastPass.result}, ${togo}`;
}

/** What of a pass is not sent yet, in words; "" where all is. */
export const stillGoing = (lastPass, progress) => (lastPass && progress?.left ? `${number(progress.left)} of ${many(progress.total, "change")} still to go` : "");

/** What is applied, beside files that are others: those come to be in force after it, or are put aside. */
export function appliedIs({ applied, notConvergedBecause }) {
  if (notConvergedBecause !== "stale_revision") return "an earlier one";
  return applied.isNewer ? "newer than the files of this replica" : "not the files of this replica";
}

/** Does no replica hold it, as far as is known? What was known of it may have passed. */
export const isUnheld = ({ lease }) => Boolean(lease && !lease.holder);

/** The same in words; "" where one does. */
export function unheld({ lease }) {
  if (!lease || lease.holder) return "";
  return lease.unknownSince ? "Not known which replica holds it, as the database of state.url does not answer" : "No replica holds it at the moment";
}

/** Where one project stands: `{ tone, word }`, what is worst first. A suspension never hides a failure. */
export function standing(status, project) {
  const { counts, desired } = project;
  const isElsewhere = project.lease && !project.lease.isMine;
  const component = failing(status, project);
  const isPartly = (project.suspensions || []).length > 0;
  const suspended = project.suspendedUntil ? ", suspended" : isPartly ? ", partly suspended" : "";
  // A kind as a whole has no resource that could be counted.
  const isRefused = counts.parked || project.problems.some((it) => it.state === "parked");
  // Nobody has to act where the way to Descope is tried again by itself.
  const isOut = component?.reason === "cannot be observed" && !isRefused && desired.valid;
  if (isOut) return { tone: "bad", word: `Failing${suspended}`, title: `Failing${suspended}: Descope cannot be observed, and is tried again` };
  if (component?.name === "descope" || isRefused) return { tone: "bad", word: `Failing${suspended}` };
  if (!desired.valid && desired.errors.length) return { tone: "bad", word: `Files invalid${suspended}` };
  if (isUnheld(project)) {
    const isForDatabase = Boolean(project.lease.unknownSince);
    const title = isForDatabase ? { title: `Not known${suspended}: the database of state.url does not answer` } : {};
    return { tone: project.checkouts?.needs === "act" ? "bad" : "warn", word: `${isForDatabase ? "Not known" : "No replica writes it"}${suspended}`, ...title };
  }
  if (project.notConvergedBecause === "stale_revision" && project.checkouts?.needs === "nobody") return { tone: "busy", word: `Following newer files${suspended}` };
  if (project.notConvergedBecause === "stale_revision") return { tone: project.checkouts?.needs === "act" ? "bad" : "warn", word: `Files put aside${suspended}` };
  if (!project.lastPass) return { tone: "busy", word: isElsewhere && !project.lease.statusOf ? `Waiting for word of ${project.lease.holder}` : "Starting" };
  if (counts.retrying && isStuck(status)) return { tone: "bad", word: `Not written${suspended}`, title: `The state cannot be written${suspended}: somebody has to act` };
  if (counts.retrying || counts.blocked || counts.unknown) return { tone: "warn", word: `Retrying${suspended}` };
  if (project.held) return { tone: "warn", word: `Held${suspended}` };
  if (project.suspendedUntil) return { tone: "off", word: "Suspended" };
  if (counts.changing || project.progress) return { tone: "busy", word: "Applying" };
  if (counts.suspended) return { tone: "off", word: "Partly suspended" };
  if (counts.waiting) return { tone: "calm", word: `${project.policy === "observe" ? "Differs, only observed" : "Waiting"}${suspended}` };
  const lag = project.converged && lagging(project);
  if (lag) return { tone: "warn", word: `In sync, but ${lag}${suspended}`, title: `In sync, but ${lag}` };
  if (project.converged) return { tone: "good", word: `In sync${suspended}` };
  if (project.lastPass.result === "failed") return { tone: "bad", word: `Failing${suspended}` };
  if (counts.unconfirmed) return { tone: "busy", word: "Confirming" };
  return { tone: "busy", word: "Checking" };
}

/** What is wrong with a replica that does not write the project, in words; "" where nothing is. */
function lagging({ checkouts }) {
  if (!checkouts || checkouts.needs === "nobody") return "";
  if (checkouts.replicas.some((it) => it.putAsideSince && it.lags)) return "a checkout stands still";
  return checkouts.replicas.some((it) => it.refused) ? "Descope refuses a replica" : "";
}

/** Parts that are suspended by themselves, and until when. */
function partsOff([first, ...more]) {
  return more.length ? `${first.what} and ${many(more.length, "more part")} are suspended` : `${first.what} is suspended until ${local(first.until)}`;
}

/** Those of these projects, of which several are not told apart by the part alone. */
const partsOf = (projects, isAlone) => projects.flatMap(({ name, suspensions }) => (suspensions || []).map((part) => ({ what: isAlone ? named(part) : `${named(part)} of ${name}`, until: part.until })));

/** What of projects at rest is suspended. */
function butFor(projects) {
  const parts = partsOf(projects, projects.length === 1);
  return parts.length ? `, but ${partsOff(parts)}` : "";
}

function offTitle(of, total) {
  const isAlone = total === 1;
  const all = of.map((it) => it.project);
  const parts = partsOf(all, isAlone);
  if (all.every((it) => it.suspendedUntil)) return isAlone ? "Suspended: nothing is changed" : whichOf("Suspended", of, total);
  if (all.some((it) => it.suspendedUntil)) return whichOf("Suspended or partly suspended", of, total);
  if (!parts.length) return isAlone ? "Partly suspended: the rest is in sync" : whichOf("Partly suspended", of, total);
  return isAlone ? `${partsOff(parts)}: the rest is in sync` : partsOff(parts);
}

const few = (of) => {
  const names = of.map((it) => it.project.name);
  return names.length <= 3 ? names.join(", ") : `${names.slice(0, 3).join(", ")} and ${names.length - 3} more`;
};

/** Of several projects: how they stand, which they are, and how many. */
function whichOf(word, of, total) {
  const words = new Set(of.map((it) => it.title || it.word));
  return `${words.size === 1 ? [...words][0] : word}: ${few(of)} (${many(of.length, "project")} of ${total})`;
}

// Who suspends something knows of it: that hides nothing.
const ORDER = ["bad", "warn", "busy", "calm", "off", "good"];

/** Several projects of one tone that stand in different ways. */
const TOGETHER = { bad: "Failing", warn: "Not going ahead", busy: "At work", calm: "Differs, only shown" };

/** All projects in one sentence: `{ tone, title, detail: [...] }`. */
export function verdict(status) {
  const all = status.projects.map((project) => ({ project, ...standing(status, project) }));
  const worst = ORDER.find((tone) => all.some((it) => it.tone === tone)) || "calm";
  const of = all.filter((it) => it.tone === worst);
  const unsure = (status.components || []).filter((it) => (it.name === "state" || it.name === "lease") && it.status !== "ok");
  const paused = status.limiters.some((limiter) => limiter.pausedUntil);
  const alone = status.projects.length === 1;
  const title = {
    bad: () => (alone ? of[0].title || `${of[0].word}: somebody has to act` : whichOf(TOGETHER.bad, of, all.length)),
    warn: () => (alone ? of[0].title || `${of[0].word}: not everything goes ahead` : whichOf(TOGETHER.warn, of, all.length)),
    off: () => offTitle(of, all.length),
    busy: () => (paused ? "Waiting for Descope's rate limit" : alone ? `${of[0].word} …` : whichOf(TOGETHER.busy, of, all.length)),
    calm: () => (alone ? of[0].word : of.length ? whichOf(TOGETHER.calm, of, all.length) : "No projects"),
    good: () => `${alone ? "In sync" : `All ${all.length} projects in sync`}${unsure.length ? " when last looked at" : ""}${butFor(status.projects)}`,
  }[worst]();
  const detail = [];
  if (worst === "good") {
    const resources = status.projects.reduce((sum, project) => sum + project.counts.inSync, 0);
    detail.push(`${many(resources, "declared resource")} ${resources === 1 ? "equals" : "equal"} what is live.`);
  } else {
    const facts = of.map((it) => [it.project.name, fact(it.project, it)]).filter(([, told]) => told).slice(0, 3);
    detail.push(...facts.map(([name, told]) => (of.length === 1 ? told : `${name}: ${told}`)));
  }
  for (const tone of ORDER.slice(ORDER.indexOf(worst) + 1).filter((tone) => tone in TOGETHER)) {
    const others = all.filter((it) => it.tone === tone);
    if (others.length) detail.push(`${whichOf(TOGETHER[tone], others, all.length)}.`);
  }
  const aside = all.filter((it) => putAside(it.project).length);
  for (const { project } of aside) {
    const own = here(project);
    const isHere = own?.putAsideSince && (own.lags || own.isHolder);
    if (isHere) detail.push(`${alone ? "" : `${project.name}: `}The files of this replica (${short(own.revision)}) are put aside; in force: ${short(project.checkouts.inForce)}.`);
    else detail.push(`${alone ? "" : `${project.name}: `}Files of ${many(new Set(project.checkouts.replicas.filter((it) => it.putAsideSince).map((it) => it.replica)).size, "replica")} are put aside.`);
  }
  const suspended = all.filter((it) => it.project.suspendedUntil);
  const parts = partsOf(status.projects, alone).map((it) => it.what);
  if (parts.length) detail.push(`Only observed for now: ${parts.slice(0, 3).join(", ")}${parts.length > 3 ? ` and ${parts.length - 3} more` : ""}.`);
  if (suspended.length && worst !== "off" && !alone) detail.push(`Suspended meanwhile: ${suspended.map((it) => it.project.name).join(", ")}.`);
  // Where replicas share the state it is a database, and one cause is told once.
  const isShared = unsure.some((it) => it.name === "lease");
  for (const { name, reason } of unsure.filter((it) => it.name === "lease" || !isShared)) detail.push(name === "state" ? `The state cannot be trusted: ${reason}.` : `Nothing is written: ${reason}.`);
  if (paused) detail.push("Descope's rate limit is reached: nothing is sent until the pause is over.");
  if (worst !== "bad" && isStuck(status)) return { tone: "bad", title: "The state cannot be written: somebody has to act", detail };
  return { tone: (unsure.length || aside.length) && worst !== "bad" ? "warn" : worst, title, detail };
}

function fact(project, { tone, word }) {
  const { counts, desired, problems, held, converged, notConvergedBecause } = project;
  if (notConvergedBecause === "stale_revision") return "";
  // Its counts are of before.
  if (isUnheld(project)) return project.lease.unknownSince ? "" : `${unheld(project)}.`;
  if (newerFiles(project)) return `Newer files are not compared with Descope yet; of the ones before, ${number(counts.inSync)} in sync.`;
  const parts = [];
  if (tone === "bad" && !desired.valid && desired.errors.length) parts.push("the newest files cannot be used");
  if (counts.parked) parts.push(`${many(counts.parked, "resource")} refused`);
  if (counts.retrying) parts.push(`${number(counts.retrying)} failed for now`);
  if (counts.blocked) parts.push(`${number(counts.blocked)} blocked`);
  if (counts.unknown && problems.length) parts.push(`${number(counts.unknown)} could not be looked at`);
  if (held) parts.push(held.changes ? `${many(held.changes, "change")} held` : "held for approval");
  if (counts.changing) parts.push(`${number(counts.changing)} on the way`);
  if (counts.suspended) parts.push(`${many(counts.suspended, "change")} put off until the suspension ends`);
  if (counts.waiting) parts.push(`${many(counts.waiting, "change")} kept back by time or policy`);
  if (counts.unconfirmed) parts.push(`${number(counts.unconfirmed)} written a moment ago, which Descope does not show yet`);
  if (!parts.length) return converged || word === "Starting" || word === "Checking" ? "" : `${number(counts.inSync)} in sync.`;
  const text = parts.join(", ");
  return `${text[0].toUpperCase()}${text.slice(1)}; ${number(counts.inSync)} in sync.`;
}

/** About how many seconds a drain still takes, or null where nobody can tell. */
function secondsLeft({ endsAt }, nowMs) {
  return endsAt ? Math.max(0, (Date.parse(endsAt) - nowMs) / 1000) : null;
}

/** The same in words after what is done; "" where nobody can tell. */
export function toGo(progress, nowMs) {
  const left = secondsLeft(progress, nowMs);
  if (left === null) return "";
  return left < 1 ? ", done any moment" : `, about ${span(left)} left`;
}

/** When everything was last looked at: the oldest look at a kind that counts, or null where one is still missing. */
export function lookedAt(status) {
  const looks = status.projects.flatMap((project) => project.kinds.filter((it) => it.isManaged).map((it) => it.observedAt));
  return looks.length && looks.every(Boolean) ? looks.sort()[0] : null;
}

/** Counts in which each resource occurs once, in the order of the bar. */
export const COUNTS = [
  ["inSync", "in sync", "good", "Declared, and equal to what is live."],
  ["changing", "changing", "busy", "On the queue or being sent."],
  ["retrying", "retrying", "warn", "Failed for now; another try is scheduled."],
  ["blocked", "blocked", "warn", "What they depend on failed."],
  ["parked", "refused", "bad", "Refused until something changes."],
  ["held", "held", "warn", "Wait for an approval."],
  ["waiting", "waiting", "calm", "Wait for time, or the policy does not permit them."],
  ["suspended", "suspended", "off", "Wait for the end of the suspension; they have not failed."],
  ["unconfirmed", "not confirmed", "calm", "Written a moment ago, and Descope's lists do not show it yet."],
  ["unknown", "not seen", "calm", "Declared, but nobody could look."],
];
