// What the page makes of a status, in words, for tests/words.rs: `node words.mjs DIR`, where DIR has the page's modules.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

globalThis.location = new URL("http://gitops.example/");
const from = (name) => import(pathToFileURL(`${process.argv[2]}/${name}`));
const words = await from("words.js");

const AT = "2026-11-29T12:00:00Z";

/** A project at rest, with these differences. */
const project = (more = {}) => ({
  name: "alpha", policy: "sync", converged: true, notConvergedBecause: null, lease: null, checkouts: null, suspendedUntil: null, suspendedBy: null,
  suspensions: [], held: null, holds: [], contested: [], undeclared: 0, waits: [], waitCounts: {}, problems: [], problemsTotal: 0, errorsTotal: 0,
  desired: { valid: true, revision: "abc", commit: null, loadedAt: AT, resources: 9, errors: [] },
  applied: { revision: "abc", commit: null, at: AT }, lastSuccessAt: AT, nextPassAt: AT, progress: null,
  lastPass: { trigger: "interval", startedAt: AT, finishedAt: AT, result: "noop", changes: 0 },
  counts: { inSync: 9, changing: 0, suspended: 0, retrying: 0, blocked: 0, parked: 0, held: 0, waiting: 0, unconfirmed: 0, unknown: 0 },
  drift: { total: 0, resources: [] }, kinds: [], ...more,
});
const status = (more = {}, rest = {}) => ({ projects: [project(more)], components: [], limiters: [], ...rest });

/** An entry of what somebody has to do, as text. */
const flat = (it) => [it].flat(Infinity).map((one) => (typeof one === "object" && one ? one.time || one.until || one.due : one ?? "")).join("");
const told = (of) => words.needs(of).map((it) => ({ tone: it.tone, what: it.what, why: flat(it.why), next: flat(it.next), command: it.command || null }));

const tests = [];
const test = (name, run) => tests.push([name, run]);

const drifted = (more = {}) => ({ kind: "roles", id: "Editor", since: AT, until: null, held: null, endsWith: null, isDeleted: false, fields: ["description"], actor: null, ...more });
const REPORTED = { held: "drift_reported", endsWith: "files that say what is live" };

test("drift that is never put back is not promised to be, suspended or not, and is told once, with what to do", () => {
  const wait = { kind: "roles", id: "Editor", why: "drift_reported: somebody else changed it, first seen 2026", since: AT, until: null };
  const hold = { reason: "drift_reported", since: AT, approvable: false, until: null, changes: 1, endsWith: REPORTED.endsWith };
  const of = { drift: { total: 1, resources: [drifted(REPORTED)] }, waits: [wait], holds: [hold] };

  for (const suspendedUntil of [null, AT]) {
    const [first, ...others] = told(status({ ...of, suspendedUntil })).filter((it) => !it.what.startsWith("Suspended"));

    assert.deepEqual(others, []);
    assert.equal(first.what, "1 resource changed in Descope though no file was");
    assert.ok(!/put back/.test(first.next), first.next);
    assert.ok(first.next.startsWith("It is left as it is; that ends with files that say what is live."), first.next);
    assert.equal(/suspension/.test(first.next), suspendedUntil !== null, first.next);
    assert.equal(first.tone, "warn");
    assert.equal(first.command, "descope-gitops plan --target roles/Editor --url http://gitops.example/");
  }
});

test("the verdict of several projects is of the one that needs somebody most, and names the others that are not as they should be", () => {
  const alpha = project({ suspendedUntil: AT });
  const gamma = project({ name: "gamma", converged: false, notConvergedBecause: "drift_reported", counts: { ...project().counts, inSync: 1, waiting: 2 } });
  const delta = project({ name: "delta", converged: false, counts: { ...project().counts, inSync: 1, changing: 8 } });
  const of = (...projects) => words.verdict({ projects, components: [], limiters: [] });

  const both = of(alpha, gamma);
  assert.equal(both.title, "Waiting: gamma (1 project of 2)");
  assert.ok(both.detail.includes("Suspended meanwhile: alpha."), both.detail.join(" "));
  const all = of(alpha, gamma, delta);
  assert.equal(all.title, "Applying: delta (1 project of 3)");
  assert.ok(all.detail.includes("Waiting: gamma (1 project of 3)."), all.detail.join(" "));
  assert.equal(of(alpha, project({ name: "beta" })).title, "Suspended: alpha (1 project of 2)");
  assert.deepEqual(of(project({ name: "beta" }), project()).detail, ["18 declared resources equal what is live."]);
});

test("what is held of files that are not the newest is told as that, and only then", () => {
  const held = { fingerprint: "f", reason: "max_deletes", changes: 1, deletes: 1 };
  const of = (more) => told(status({ converged: false, held, plannedRevision: "older", ...more }))[0].why;
  const newer = " It is of older files: the newest (abc) are not compared with Descope yet, and what they do not want is not done.";

  assert.ok(of({}).endsWith(newer), of({}));
  assert.ok(of({ desired: { ...project().desired, commit: "c0ffee" } }).includes("(c0ffee)"));
  assert.ok(!of({ plannedRevision: "abc" }).includes("older files"));
  const aside = { reason: "stale_revision", stopsProject: true, since: AT, changes: 0, endsWith: "newer files", why: "put aside" };
  assert.equal(words.newerFiles(project({ plannedRevision: "older", holds: [aside] })), "", "that is told as a hold");
});

test("a look that waits for the budget says so", () => {
  const said = (look) => flat(words.nextPass({ look, nextPassAt: AT }));
  assert.equal(said({ since: AT, until: null, freeAt: null }), `one is under way, looking at Descope since ${AT}`);
  assert.equal(said({ since: AT, until: null, freeAt: "LATER" }), `one is under way, looking at Descope since ${AT}; it waits for the rate budget, all of which is in use, until LATER`);
});

test("a drain whose end was to be by now is done any moment", () => {
  const of = (seconds) => words.toGo({ endsAt: AT }, Date.parse(AT) - seconds * 1000);
  assert.equal(of(90), ", about 1 min 30 s left");
  assert.deepEqual([of(0), of(-5)], [", done any moment", ", done any moment"]);
  assert.equal(words.toGo({ endsAt: null }, 0), "");
});

test("drift of several fates is told by fate", () => {
  const soon = { held: "drift_reported", until: AT, endsWith: "time" };
  const wait = (until) => flat(words.ofWait({ kind: "roles", id: "A", why: "drift_reported", since: null, until })).split("; until")[0];
  assert.equal(wait(null), "drift that is only reported, as drift.mode says");
  assert.equal(wait(AT), "drift that is younger than drift.minAge, and put back when it is as old and not suspended");
  const resources = [drifted(), drifted({ id: "A", ...REPORTED }), drifted({ id: "B", ...REPORTED }), drifted({ id: "C", ...soon })];

  const found = told(status({ drift: { total: 4, resources } }));

  assert.deepEqual(found.map((it) => [it.tone, it.what, it.next]), [
    ["warn", "2 resources changed in Descope though no file was", "They are left as they are; that ends with files that say what is live."],
    ["calm", "1 resource changed in Descope though no file was", "It is put back. To keep it, change the files."],
    ["calm", "1 resource changed in Descope though no file was", `It is left as it is until ${AT}, and put back then. To keep it, change the files.`],
  ]);
  const suspended = told(status({ suspendedUntil: AT, drift: { total: 1, resources: [drifted()] } }));
  assert.equal(suspended[0].next, "It is put back when the suspension ends. To keep it, change the files.");
  assert.deepEqual([null, AT].map((suspendedUntil) => words.putBack({ suspendedUntil })), ["put back", "put back when the suspension ends"]);
});

test("what waits says why in words, not in the word of the status", () => {
  const wait = (why) => ({ kind: "roles", id: "A", why, since: null, until: null });
  for (const [why, expected] of [
    ["delete_after", "deletes wait for guards.deleteAfter, in case the file comes back"],
    ["unconfirmed: written a moment ago", "written a moment ago"],
    ["still_referenced: left the YAML, but", "something that stays still refers to it: left the YAML, but"],
  ]) {
    assert.equal(flat(words.ofWait(wait(why))), expected);
  }
});

const list = (kind, more = {}) => ({ kind, id: "", state: "retrying", message: "cannot reach Descope", attempts: 3, nextAttemptAt: AT, file: null, line: null, ...more });

test("lists that cannot be read for one cause are one entry", () => {
  const failing = { components: [{ name: "descope", project: "alpha", status: "failing", reason: "cannot be observed", since: AT }] };
  const problems = ["lists", "passwordSettings", "roles", "tenants"].map((kind) => list(kind));
  const all = status({ problems, problemsTotal: 4, counts: { ...project().counts, inSync: 0, unknown: 9 } }, failing);

  const found = told(all);

  assert.equal(found.length, 1, JSON.stringify(found));
  assert.equal(found[0].what, "Descope cannot be observed");
  assert.equal(found[0].why, `cannot reach Descope (lists, passwordSettings, roles and 1 more kind). Since ${AT}.`);
  assert.ok(found[0].next.startsWith("Nothing is changed meanwhile. It is tried again by itself"), found[0].next);
  assert.equal(words.verdict(all).title, "Failing: Descope cannot be observed, and is tried again");

  const mixed = told(status({ problems: [list("lists"), list("roles", { message: "bad answer" })], problemsTotal: 2 }, failing));
  assert.deepEqual(mixed.map((it) => it.what), ["Descope cannot be observed", "lists cannot be read for now", "roles cannot be read for now"]);
  // Connections that break say during which call.
  const broken = (kind, path) => list(kind, { message: `the connection to Descope broke during GET ${path}: reset` });
  const dropped = told(status({ problems: [broken("lists", "/v1/mgmt/list/all"), broken("roles", "/v1/mgmt/role/all")], problemsTotal: 2 }, failing));
  assert.deepEqual(dropped.map((it) => it.what), ["Descope cannot be observed"]);
  const some = told(status({ problems: [list("lists"), list("roles"), list("theme", { state: "parked", message: "no licence" })], problemsTotal: 3 }));
  assert.deepEqual(some.map((it) => [it.what, it.why]), [
    ["theme cannot be read", "no licence"],
    ["lists and roles cannot be read for now", "cannot reach Descope"],
  ]);
});

test("no drift is claimed only of what could be looked at", () => {
  const kind = (more) => ({ kind: "roles", isManaged: true, resources: 1, observedAt: AT, error: null, details: null, ...more });
  for (const [kinds, tone, text] of [
    [[kind()], "good", "Nothing differs that the files did not change."],
    [[kind(), kind({ kind: "lists", isManaged: false, observedAt: null })], "good", "Nothing differs that the files did not change."],
    [[kind(), kind({ kind: "tenants", error: "403" })], "calm", "Of what could be looked at nothing differs that the files did not change; tenants could not be looked at."],
    [[kind({ error: "cannot reach Descope" })], "calm", "Nothing can be looked at for now."],
    [[kind({ details: { parts: 8, unread: 3, oldestAt: AT } })], "calm", "Of what could be looked at nothing differs that the files did not change; some details of roles were not looked at yet."],
    [[kind({ observedAt: null })], "calm", "Nothing could be looked at yet."],
  ]) {
    const said = words.noDrift({ kinds, drift: { total: 0, resources: [] } });
    assert.deepEqual([said.tone, said.text], [tone, text]);
  }
});

test("a key that is refused may come from the environment", () => {
  const found = told(status({}, { components: [{ name: "descope", project: "alpha", status: "failing", reason: "management key refused", since: AT }] }));

  assert.ok(/A changed key file is tried at once/.test(found[0].next) && /environment.*restart/.test(found[0].next), found[0].next);
});

test("what was refused and is tried again by itself says when before what to copy", () => {
  const problem = list("roles", { id: "A", state: "parked", message: "no such permission" });

  const [found] = told(status({ problems: [problem], problemsTotal: 1 }));

  assert.ok(found.next.endsWith(`, and by itself ${AT}. To try it again as it is, with whatever else was refused:`), found.next);
  assert.equal(words.needs(status({ problems: [problem], problemsTotal: 1 }))[0].nextAt, null);
});

test("a database that does not answer is told once, and not as a directory", () => {
  const of = (name, state) => ({ name, project: null, status: state, reason: "cannot be written", since: AT });
  const found = (...components) => told(status({}, { components })).map((it) => [it.tone, it.what.split(":")[0], /PostgreSQL/.test(it.next)]);

  assert.deepEqual(found(of("state", "degraded")), [["bad", "The state", false]]);
  const verdict = (...components) => words.verdict(status({}, { components })).title;
  assert.equal(verdict(of("state", "degraded")), "The state cannot be written: somebody has to act");
  assert.equal(verdict(of("state", "degraded"), of("lease", "degraded")), "In sync when last looked at");
  assert.deepEqual(found(of("state", "degraded"), of("lease", "failing")), [["bad", "The lease", true]]);
  assert.deepEqual(found(of("state", "degraded"), of("lease", "ok")), [["bad", "The state", true]]);
});

test("a database that is gone is one cause in the verdict, too", () => {
  const of = (name, reason) => ({ name, project: null, status: "degraded", reason, since: AT });
  const { detail } = words.verdict(status({}, { components: [of("state", "cannot be written"), of("lease", "the database of state.url does not answer")] }));

  assert.ok(!detail.join(" ").includes("cannot be written") && detail.at(-1) === "Nothing is written: the database of state.url does not answer.", detail.join(" "));
});

test("of a project that no replica is known to hold nothing is in sync, whatever was known before", () => {
  const lease = { isMine: false, holder: null, statusOf: null, unknownSince: null };
  const silent = [{ name: "lease", project: null, status: "degraded", reason: "the database of state.url does not answer", since: AT }];
  for (const [of, components, word, title] of [
    [lease, [], "No replica writes it", "No replica writes it: not everything goes ahead"],
    [{ ...lease, unknownSince: AT }, silent, "Not known", "Not known: the database of state.url does not answer"],
    [{ ...lease, unknownSince: AT, statusOf: "a/1" }, silent, "Not known", "Not known: the database of state.url does not answer"],
  ]) {
    const all = status({ lease: of }, { components });
    assert.deepEqual([words.standing(all, all.projects[0]).tone, words.standing(all, all.projects[0]).word], ["warn", word]);
    const said = words.verdict(all);
    assert.deepEqual([said.tone, said.title], ["warn", title]);
    assert.ok(!/in sync|equal/i.test(said.detail.join(" ")), said.detail.join(" "));
    const none = words.noDrift({ kinds: [{ kind: "roles", isManaged: true, observedAt: AT }], unheld: words.unheld(all.projects[0]) });
    assert.equal(none.word, "not known");
  }
  assert.equal(words.unheld(project()), "");
  assert.equal(words.unheld(project({ lease: { ...lease, holder: "a/1" } })), "");
});

test("what waits for a state that cannot be written is told with the state alone", () => {
  const components = [{ name: "state", project: null, status: "degraded", reason: "cannot be written", since: AT }];
  const waits = (id) => list("permissions", { id, message: "did not send POST /v1/mgmt/permission/create: nothing is created, renamed or deleted meanwhile: the disk of the state directory is full" });
  const problems = Array.from({ length: 50 }, (_, n) => waits(`p${n}`));
  const all = status({ problems, problemsTotal: 130, converged: false, counts: { ...project().counts, retrying: 130 } }, { components });

  const found = told(all);

  assert.deepEqual(found.map((it) => [it.what, it.why]), [["The state: cannot be written", `Since ${AT}. 130 changes wait for it: permissions/p0, permissions/p1, permissions/p2 and more.`]]);
  assert.deepEqual([words.standing(all, all.projects[0]).tone, words.verdict(all).title], ["bad", "The state cannot be written: somebody has to act"]);
  // Anything else is told, those of one cause together.
  const other = [list("roles", { id: "A", message: "status 503" }), list("roles", { id: "B", message: "status 503" })];
  const mixed = told(status({ problems: [...problems, ...other], problemsTotal: 52 }, { components }));
  assert.deepEqual(mixed.map((it) => [it.what, it.why]).slice(1), [["2 resources failed", "roles/A and roles/B: status 503"]]);
});

test("a fight beside what else is held is told once, and has a command", () => {
  const contested = [{ kind: "roles", id: "Editor", path: "description", declared: "1", live: "2", times: 5, since: AT, until: AT, actor: null }];
  const held = { fingerprint: "f00d", reason: "contested,lockout", changes: 2, deletes: 0 };
  const waits = [{ kind: "roles", id: "Editor", why: "contested: description was turned back 5 times", since: AT, until: AT }, { kind: "tenants", id: "globex", why: "lockout: disabled is turned on", since: AT, until: null }];

  const [all, fight, ...others] = told(status({ contested, held, waits, holds: ["contested", "lockout"].map((reason) => ({ reason, approvable: true, changes: 1, endsWith: "an approval" })) }));

  assert.deepEqual(others, []);
  assert.ok(!/roles.Editor|turned back 5/.test(all.why) && all.why.includes("one of them is turned back again and again, as told below"), all.why);
  assert.ok(all.why.endsWith("It is about tenants/globex (disabled is turned on) and more, listed below."), all.why);
  assert.equal(fight.what, "roles/Editor is turned back again and again");
  assert.equal(fight.command, "descope-gitops plan --target roles/Editor --url http://gitops.example/");
  assert.ok(fight.next.endsWith("Approving what is held sets it once more, too. To see both values:"), fight.next);
});

test("what is held for approval is named with what it does", () => {
  const wait = (id, why) => ({ kind: "tenants", id, why, since: null, until: null });
  const held = { fingerprint: "f00d", reason: "lockout,max_deletes", changes: 4, deletes: 1 };
  const waits = [wait("globex", "lockout: disabled is turned on"), wait("a", "max_deletes: ends with an approval"), wait("b", "delete_after")];

  const [found] = told(status({ held, waits }));

  assert.ok(found.why.endsWith(" It is about tenants/globex (disabled is turned on), tenants/a and more, listed below."), found.why);
});

test("a key that is refused is one thing to see to, and so are other lists that fail", () => {
  const refusal = (path) => `Descope does not permit GET ${path} with this management key or plan: no`;
  const components = [{ name: "descope", project: "alpha", status: "failing", reason: "management key refused", since: AT }];
  const parked = (kind, message) => list(kind, { state: "parked", message, nextAttemptAt: null });
  const problems = ["/v1/a", "/v1/b"].map((path, i) => parked(`kind${i}`, refusal(path)));
  const found = (more) => told(status({ refusedBecause: refusal("/v1/a"), problems, problemsTotal: problems.length, ...more }, { components }));

  const [whole, ...others] = found({});

  assert.deepEqual(others, []);
  assert.equal(whole.what, "Descope refuses the management key");
  assert.ok(whole.why.startsWith(`${refusal("/v1/a")}. Since `), whole.why);
  const other = parked("theme", "Descope rejected GET /v1/c with status 400: no");
  assert.deepEqual(found({ problems: [...problems, other], problemsTotal: 3 }).map((it) => it.what), [whole.what, "theme cannot be read"]);
});

test("while a look takes long, the next pass is the one that it is of", () => {
  const said = (more) => flat(words.nextPass({ look: null, nextPassAt: null, ...more }));
  assert.equal(said({}), "not scheduled");
  assert.equal(said({ nextPassAt: AT }), AT);
  const look = { since: "SINCE", until: null };
  assert.equal(said({ nextPassAt: AT, look }), "one is under way, looking at Descope since SINCE");
  assert.equal(said({ nextPassAt: AT, look: { ...look, until: AT } }), `one is under way, looking at Descope since SINCE; it waits for Descope's rate limit until ${AT}`);
});

test("the page of a resource says what it needs, with the command", () => {
  const of = { project: "alpha", kind: "roles", id: "Editor" };
  const problem = list("roles", { id: "Editor", state: "parked", message: "no such permission", nextAttemptAt: null });
  const held = { fingerprint: "f00d", reason: "lockout,max_deletes", changes: 4, deletes: 1 };
  const all = status({ drift: { total: 2, resources: [drifted({ actor: "ops" }), drifted({ id: "Other" })] }, held, problems: [problem, list("roles", { id: "Other" })], problemsTotal: 2 });
  const found = (problems, changes) => words.needsOf(all, of, problems, changes).map((it) => [it.what, it.command || null]);
  const changed = ["1 resource changed in Descope though no file was", null];

  assert.deepEqual(found([], []), [changed]);
  assert.deepEqual(found([problem], []), [["roles/Editor was refused (3 tries)", "descope-gitops reconcile --retry --url http://gitops.example/"], changed]);
  assert.deepEqual(found([], [{ held: "lockout" }])[0], ["4 changes held for approval, 1 of them a delete", "descope-gitops approve f00d --url http://gitops.example/"]);
  const waits = [{ kind: "roles", id: "Editor", why: "lockout: disabled is turned on", since: null, until: null }];
  const [one] = words.needsOf({ ...all, projects: [{ ...all.projects[0], waits }] }, of, [], [{ held: "lockout" }]);
  assert.ok(flat(one.why).endsWith(" It is about roles/Editor (disabled is turned on) and more."), flat(one.why));
  assert.ok(one.next.startsWith("An approval counts for all that is held: read the rest under Everything"), one.next);
  assert.deepEqual(found([], [{ held: "policy" }]), [changed]);
  assert.equal(words.byWhom({ isDeleted: true, actor: "ops" }), "deleted by ops");
  assert.ok(/what is there now is by ops\./.test(flat(words.needsOf(all, of, [], [])[0].why)));
  assert.deepEqual(words.needsOf(all, { ...of, project: "gone" }, [problem], []), []);
  const contested = [{ kind: "roles", id: "Editor", path: "description", declared: "1", live: "2", times: 5, since: AT, until: AT, actor: null }];
  const fight = words.needsOf(status({ contested, held: { fingerprint: "f00d", reason: "contested", changes: 1, deletes: 0 } }), of, [], [{ held: "contested" }]);
  assert.deepEqual(fight.map((it) => [it.what, it.why, Boolean(it.command)]), [["roles/Editor is turned back again and again", [], true]]);
});

test("what a change of the history overwrote is told with who had set it", () => {
  assert.equal(words.before({ actor: "ops", fields: [] }), "ops");
  assert.equal(words.before({ actor: null, fields: [{ path: "a" }, { path: "b", drift: true }] }), "somebody else");
  assert.equal(words.before({ actor: null, fields: [{ path: "a" }] }), "");
  assert.equal(words.before({ actor: null }), "");
});

test("a pass whose changes still go out is not told as applied", () => {
  const lastPass = { ...project().lastPass, result: "applied", changes: 400 };
  const progress = { since: AT, total: 400, left: 341, secondsLeft: 60, endsAt: AT };

  assert.equal(words.passSaid(project({ lastPass, progress })), "341 of 400 changes still to go");
  assert.equal(words.passSaid(project({ lastPass })), "applied");
  assert.equal(words.passSaid(project({ lastPass: { ...lastPass, result: "held" }, progress })), "held, 341 of 400 changes still to go");
});

test("what is applied is not called older where the files of a replica are", () => {
  const of = (notConvergedBecause, isNewer) => words.appliedIs(project({ notConvergedBecause, applied: { revision: "new", commit: null, at: AT, isNewer } }));

  assert.equal(of("held", false), "an earlier one");
  assert.equal(of("stale_revision", true), "newer than the files of this replica");
  assert.equal(of("stale_revision", false), "not the files of this replica");
});

let failed = 0;
for (const [name, run] of tests) {
  try {
    run();
  } catch (error) {
    failed += 1;
    console.error(`${name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
