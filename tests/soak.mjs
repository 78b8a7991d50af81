// Twenty minutes of everything at once: commits, drift, faults, 429s, kills, restarts, a clock that is set, a log that nobody
// reads. `node tests/soak.mjs BINARY [SECONDS] [SEED]`; says what it saw, and ends with 1 where something does not hold:
// memory, descriptors and threads of each life stay flat, every pass and change is in metrics and history, nothing foreign is
// touched, and at the end, once what guards hold is approved, what lives is what the files say. The clock is set only where
// libfaketime is.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [binary, seconds = "1200", seed = "1"] = process.argv.slice(2);
const LIFE = Math.min(300, Number(seconds) / 3); // seconds until the next restart
const PROJECT = "P2abcdefghijklmnopqrstuvwxyz";
const SETTLED = 60; // seconds after which a life has all the memory it needs

let state = Number(seed);
const random = (below) => {
  // Numerical Recipes' generator: the same actions for the same seed.
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const failures = [];
const check = (holds, what) => holds || (failures.push(what), console.log(`FAILED: ${what}`));

const dir = mkdtempSync(join(tmpdir(), "soak-"));
const children = [];
["SIGINT", "SIGTERM"].forEach((signal) => process.on(signal, () => process.exit(1)));
process.on("exit", () => {
  children.forEach((child) => child.kill("SIGKILL"));
  rmSync(dir, { recursive: true, force: true });
});

function start(args, env, listening) {
  const child = spawn(binary, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  const address = new Promise((resolve, reject) => {
    let text = "";
    child.on("exit", (code, signal) => reject(new Error(`${args[0]} ended with ${code ?? signal}: ${text.slice(-2000)}`)));
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => {
        text = (text + data).slice(-100_000);
        const found = listening.exec(text);
        if (found) resolve(found[1]);
        if (/panicked at/.test(text)) check(false, `a panic: ${/panicked at.*\n?.*/.exec(text)[0]}`);
      });
    }
  });
  address.catch(() => {});
  return { child, address };
}

const simulator = start(["simulator", "--listen", "127.0.0.1:0", "--rate-limit", "none"], {}, /simulator listening on (\S+)/);
const api = await simulator.address;
const sim = async (method, path, body) => {
  const response = await fetch(`${api}/_sim/${path}`, { method, body: body && JSON.stringify(body), headers: { "content-type": "application/json" } });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.headers.get("content-type")?.includes("json") ? response.json() : null;
};

mkdirSync(join(dir, "repo"));
writeFileSync(join(dir, "config.yaml"), `
source: { path: ${dir}/repo, debounce: 50ms, interval: 500ms }
rateLimit: { limit: null }
retry: { initialBackoff: 20ms, maxBackoff: 200ms }
requestTimeout: 2s
http: { listen: 127.0.0.1:0, token: { env: TOKEN } }
state: { path: ${dir}/state }
log: { format: json, level: debug }
projects:
  - name: default
    projectId: ${PROJECT}
    managementKey: { env: KEY }
    baseUrl: ${api}
    firstContact: apply
    policy: sync
    prune: { grace: 0s }
    guards: { maxDeletes: 1000, maxMissing: 1000, weakening: off, lockout: off }
`.replace(/\n    prune:.*/, ""));

const KINDS = { permissions: 30, roles: 30, tenants: 30 };
const wanted = Object.fromEntries(Object.entries(KINDS).map(([kind, n]) => [kind, Object.fromEntries(Array.from({ length: n }, (_, i) => [`${kind[0]}${i}`, "one"]))]));
const entry = {
  permissions: (name, text) => ({ name, description: text }),
  roles: (name, text) => ({ name, description: text }),
  tenants: (id, text) => ({ id, name: `${id} ${text}` }),
};
function commit(kind) {
  const list = Object.entries(wanted[kind]).map(([name, text]) => entry[kind](name, text));
  const file = join(dir, "repo", `${kind}.yaml`);
  writeFileSync(`${file}.new`, JSON.stringify({ [kind]: list }));
  renameSync(`${file}.new`, file);
}
Object.keys(KINDS).forEach(commit);
await sim("PUT", `state/permissions/foreign?project=${PROJECT}`, { description: "nobody's" });

const faketime = existsSync("/usr/lib") && readdirSync("/usr/lib").map((name) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`).find(existsSync);
const setClock = (offset) => {
  writeFileSync(join(dir, "clock.new"), `${offset}\n`);
  renameSync(join(dir, "clock.new"), join(dir, "clock"));
};
setClock("+0");

let daemon, url, seen;
const lives = [];
const ask = (method, path) => fetch(url + path, { method, headers: { authorization: "Bearer soak" } });
const get = async (path) => (await ask("GET", path)).text();
const project = async () => JSON.parse(await get("/api/v1/status")).projects[0];
const metric = (text, name, counts = () => true) =>
  text.split("\n").filter((line) => (line.startsWith(`descope_gitops_${name}{`) || line.startsWith(`descope_gitops_${name} `)) && counts(line))
    .reduce((sum, line) => sum + Number(line.split(" ").pop()), 0);

async function begin() {
  const clock = faketime ? { LD_PRELOAD: faketime, FAKETIME_TIMESTAMP_FILE: join(dir, "clock"), FAKETIME_NO_CACHE: "1", FAKETIME_DONT_FAKE_MONOTONIC: "1", NO_FAKE_STAT: "1" } : {};
  daemon = start(["run", "--config", join(dir, "config.yaml")], { TOKEN: "soak", KEY: "K2key", MALLOC_ARENA_MAX: "1", ...clock }, /"address":"(127[^"]+)"/);
  url = `http://${await daemon.address}`;
  seen = { began: Date.now(), samples: [], passes: 0, changes: 0, orders: 0 };
  lives.push(seen);
  seen.before = await counted();
}

// What metrics and history say of this life, at a moment when neither moves.
async function counted() {
  const count = async () => {
    const text = await get("/metrics");
    // The number of the newest row, which is how many there were.
    const rows = async (of) => JSON.parse(await get(`/api/v1/history?of=${of}&limit=1`)).older ?? 0;
    // What was withdrawn before anything was sent has no row.
    const changes = metric(text, "changes_total", (line) => !line.includes('result="superseded"'));
    return { passes: metric(text, "passes_total"), changes, passRows: await rows("passes"), changeRows: await rows("changes") };
  };
  for (let found = await count(), tries = 0; ; tries += 1) {
    await pause(60);
    const again = await count();
    if (JSON.stringify(found) === JSON.stringify(again) || tries > 500) return found;
    found = again;
  }
}

// Lets go ahead what is held, as whoever looks at it does.
const approved = {};
async function approve() {
  const { held } = await project();
  if (held === null) return;
  const answer = await ask("POST", `/api/v1/approve?plan=${held.fingerprint}`);
  // Another pass may have planned something else meanwhile.
  check(answer.ok || answer.status === 409, `an approval was answered with ${answer.status}: ${await answer.text()}`);
  if (!answer.ok) return;
  approved[held.reason] = (approved[held.reason] ?? 0) + held.changes;
  seen.orders += 1;
}

async function look() {
  const proc = `/proc/${daemon.child.pid}`;
  const status = readFileSync(`${proc}/status`, "utf8");
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)[1]);
  const text = await get("/metrics");
  Object.assign(seen, { passes: metric(text, "passes_total"), changes: metric(text, "changes_total"), dropped: metric(text, "log_lines_dropped_total") });
  seen.samples.push({ at: (Date.now() - seen.began) / 1000, rss: field("VmRSS"), threads: field("Threads"), fds: readdirSync(`${proc}/fd`).length });
}

async function end(signal) {
  const ended = new Promise((resolve) => daemon.child.on("exit", (code) => resolve(code)));
  daemon.child.stderr.resume();
  await look();
  const [{ before }, after] = [seen, await counted()];
  Object.assign(seen, { passes: after.passes, changes: after.changes, after });
  // A change whose answer was lost is one row, and none to two tries: the one that nobody knew of, maybe in the life before, and
  // the look that found it done, maybe that of a pass.
  const doubt = await lost(before.changeRows);
  for (const [name, rows, orders, most] of [["passes", "passRows", 0, 0], ["changes", "changeRows", seen.orders, doubt]]) {
    const [metrics, history] = [after[name] - before[name], after[rows] - before[rows] - orders];
    check(Math.abs(metrics - history) <= most, `${name} of life ${lives.length}: ${metrics} in metrics, ${history} in the history, and ${most} in doubt`);
  }
  daemon.child.kill(signal);
  const code = await ended;
  check(signal === "SIGKILL" || code === 0, `a stop ended with ${code}`);
}

async function history(of, counts = () => true, since = 0) {
  let [rows, before] = [0, ""];
  for (;;) {
    const page = JSON.parse(await get(`/api/v1/history?of=${of}&limit=200${before}`));
    rows += page[of].filter((row) => row.number > since && counts(row)).length;
    if (page.older === null || page.older <= since) return rows;
    before = `&before=${page.older}`;
  }
}

const lost = (since) => history("changes", (row) => row.message.startsWith("its answer was lost"), since);

const pick = (list) => list[random(list.length)];
const counts = {};
const actions = {
  async commit() {
    const kind = pick(Object.keys(KINDS));
    const name = `${kind[0]}${random(KINDS[kind] + 20)}`;
    if (random(4) === 0) delete wanted[kind][name];
    else wanted[kind][name] = `text ${random(1000)}`;
    commit(kind);
  },
  async broken() {
    writeFileSync(join(dir, "repo", "broken.yaml"), pick(["roles: [{", "roles: [{ nam: x }]", "\u0000", "a: &a [*a]"]));
    await pause(300);
    rmSync(join(dir, "repo", "broken.yaml"));
  },
  async drift() {
    const kind = pick(["permissions", "roles"]);
    const name = pick(Object.keys(wanted[kind]));
    const known = (await sim("GET", `state?project=${PROJECT}`))?.[kind]?.some?.((one) => one.name === name) ?? true;
    if (known) await sim("PUT", `state/${kind}/${name}?project=${PROJECT}`, { description: `drift ${random(1000)}` }).catch(() => {});
  },
  async gone() {
    const kind = pick(["permissions", "roles"]);
    await sim("DELETE", `state/${kind}/${pick(Object.keys(wanted[kind]))}?project=${PROJECT}`).catch(() => {});
  },
  async faults() {
    const fault = pick([{ fault: "reset_before" }, { fault: "reset_after", effect: true }, { fault: "status", status: 503 }, { fault: "malformed_json" }, { fault: "delay", delay: "300ms" }]);
    await sim("PUT", "faults", [{ match: {}, rate: 0.2, ...fault }]);
    await pause(1500);
    await sim("PUT", "faults", []);
  },
  async throttle() {
    await sim("PUT", "rate-limit", { n: 5, window: "1s", lockout: "1s" });
    await pause(2000);
    await sim("PUT", "rate-limit", { n: 100000, window: "1s", lockout: "0s" });
  },
  async clock() {
    if (faketime) setClock(pick(["+0", "+1h", "-1h", "+2d", "-2d", "+30s"]));
  },
  async stall() {
    daemon.child.stderr.pause();
    await pause(3000);
    daemon.child.stderr.resume();
  },
  approve,
};
const mix = ["commit", "commit", "commit", "commit", "drift", "drift", "gone", "broken", "faults", "throttle", "clock", "stall", "approve"];

await begin();
const over = Date.now() + Number(seconds) * 1000;
let lastLook = 0;
while (Date.now() < over) {
  const action = pick(mix);
  counts[action] = (counts[action] ?? 0) + 1;
  await actions[action]();
  await pause(50 + random(400));
  if (daemon.child.exitCode !== null || daemon.child.signalCode !== null) {
    check(false, `the daemon ended by itself with ${daemon.child.exitCode ?? daemon.child.signalCode}`);
    await begin();
  }
  if (Date.now() - lastLook > 5000) {
    await look();
    lastLook = Date.now();
  }
  if (Date.now() - seen.began > LIFE * 1000) {
    await end(pick(["SIGTERM", "SIGKILL"]));
    await begin();
  }
}

// Quiet again: all comes to rest, once somebody has approved what guards hold. That is a third of the permissions, at least.
await sim("PUT", "faults", []);
setClock("+0");
Object.keys(wanted.permissions).filter((_, n) => n % 3 === 0).forEach((name) => delete wanted.permissions[name]);
Object.keys(KINDS).forEach(commit);
// What left the files right after its create is believed to be gone two minutes after that, at the latest.
const patience = Date.now() + 180_000;
await pause(3000);
while (!(await project()).converged && Date.now() < patience) {
  await approve();
  await pause(200);
}
const status = await project();
check(Object.keys(approved).length > 0, "nothing was held, though a third of a kind left the files");
check(status.converged, `not converged: ${JSON.stringify(status).slice(0, 3000)}`);
const live = await sim("GET", `state?project=${PROJECT}`);
for (const kind of Object.keys(KINDS)) {
  const [key, text] = kind === "tenants" ? ["id", "name"] : ["name", "description"];
  const found = live[kind].filter((one) => !one.systemDefault && new RegExp(`^${kind[0]}\\d+$`).test(one[key])).map((one) => [one[key], one[text]]);
  const declared = Object.entries(wanted[kind]).map(([name, value]) => [name, kind === "tenants" ? `${name} ${value}` : value]);
  check(JSON.stringify(found.sort()) === JSON.stringify(declared.sort()), `${kind} are not what the files say: ${JSON.stringify(found)} and ${JSON.stringify(declared)}`);
}
check(live.permissions.some((one) => one.name === "foreign" && one.description === "nobody's"), "what nobody declares is not as it was");

await look();
const [passes, changes] = [await history("passes"), await history("changes")];
const numbers = await counted();
// The newest 10,000 are kept.
check(passes >= Math.min(seen.passes, 10_000) && (numbers.passRows > 10_000 || Math.abs(numbers.passRows - passes) <= 3), `${passes} rows of passes, and the last has the number ${numbers.passRows}`);
check(numbers.changeRows > 10_000 || Math.abs(numbers.changeRows - changes) <= 3, `${changes} rows of changes, and the last has the number ${numbers.changeRows}`);
await end("SIGTERM");

for (const [index, life] of lives.entries()) {
  const settled = life.samples.filter((sample) => sample.at > SETTLED);
  if (settled.length < 10) continue;
  const half = Math.floor(settled.length / 2);
  const most = (samples, name) => Math.max(...samples.map((sample) => sample[name]));
  const row = ["rss", "threads", "fds"].map((name) => [name, most(settled.slice(0, half), name), most(settled.slice(half), name)]);
  console.log(`life ${index + 1}: ${life.passes} passes, ${life.changes} changes; first half and second half, the most: ${row.map(([name, a, b]) => `${name} ${a} ${b}`).join(", ")}`);
  check(row[0][2] <= row[0][1] * 1.15 + 1024, `memory of life ${index + 1} grows`);
  check(row[1][2] <= row[1][1] + 2, `threads of life ${index + 1} grow`);
  check(row[2][2] <= row[2][1] + 10, `descriptors of life ${index + 1} grow`);
}
const sum = (name) => lives.reduce((total, life) => total + life[name], 0);
const size = readdirSync(join(dir, "state")).reduce((total, name) => total + statSync(join(dir, "state", name)).size, 0);
console.log(`${seconds} s, seed ${seed}: ${JSON.stringify(counts)}; ${lives.length} lives; approved by reason ${JSON.stringify(approved)}`);
console.log(`passes ${sum("passes")} in metrics, ${passes} in the history; changes ${sum("changes")} and ${changes}, orders among the latter; state ${size} bytes; converged: ${status.converged}${faketime ? "" : "; no libfaketime: the clock was not set"}`);
console.log(failures.length === 0 ? "held" : `${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);
