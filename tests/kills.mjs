// How soon a replica takes over, with the defaults: two of them on a PostgreSQL of its own, whoever holds the project is killed in the
// middle of a drain, again and again, and replaced. `node tests/kills.mjs BINARY [SIGKILLS] [SIGTERMS] [SEED]` says in seconds from each
// signal when the lease was taken, when the first write came and when all was done, and ends with 1 where something does
// not hold: a SIGKILL within 30 s, a SIGTERM within 3 s; what had a call open within `requestTimeout` more; nothing lost or doubled.
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [binary, kills = "10", terms = "5", seed = "1"] = process.argv.slice(2);
const PROJECT = "P2abcdefghijklmnopqrstuvwxyz";
const EACH = 60; // tenants that one drain creates
const MOST = { SIGKILL: 30, SIGTERM: 3 }; // seconds until the lease is taken
const REQUEST_TIMEOUT = 30; // seconds; the default
const LONGEST = 120; // seconds that a drain may take whatever happens

let state = Number(seed);
const random = () => {
  // Numerical Recipes' generator: the same pauses for the same seed.
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const failures = [];
const check = (holds, what) => holds || (failures.push(what), console.log(`FAILED: ${what}`));

const dir = mkdtempSync(join(tmpdir(), "kills-"));
const children = new Set();
let postgres;
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  if (postgres) process.kill(postgres.pid, "SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

function start(program, args, env, says) {
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.ended = new Promise((resolve) => child.on("exit", () => (children.delete(child), resolve())));
  child.found = new Promise((resolve, reject) => {
    let text = "";
    child.on("exit", (code, signal) => reject(new Error(`${program} ended with ${code ?? signal}: ${text.slice(-2000)}`)));
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => {
        text = (text + data).slice(-100_000);
        const found = says.exec(text);
        if (found) resolve(found[1]);
        if (/panicked at/.test(text)) check(false, `a panic: ${/panicked at.*\n?.*/.exec(text)[0]}`);
      });
    }
  });
  child.found.catch(() => {});
  return child;
}

// The server refuses to run as root.
const isRoot = process.getuid() === 0;
const as = isRoot ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"] : [];
const version = readdirSync("/usr/lib/postgresql").sort((a, b) => a - b).at(-1);
const program = (name) => `/usr/lib/postgresql/${version}/bin/${name}`;
const run = (command) => spawnSync(command[0], command.slice(1), { encoding: "utf8", cwd: "/" });
const port = await new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});
const sql = (text, database = "kills") => {
  const ran = run([program("psql"), "-XAtq", "-h", "127.0.0.1", "-p", `${port}`, "-U", "postgres", "-d", database, "-c", text]);
  return ran.status === 0 ? ran.stdout.trim() : null;
};
const data = join(dir, "postgres");
chmodSync(dir, 0o755);
mkdirSync(data);
if (isRoot) chownSync(data, ...["-u", "-g"].map((flag) => Number(run(["id", flag, "postgres"]).stdout)));
const made = run([...as, program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]);
if (made.status !== 0) throw new Error(made.stderr);
const [first, ...rest] = [...as, program("postgres"), "-D", data, "-p", `${port}`, "-k", data, "-c", "listen_addresses=127.0.0.1"];
postgres = spawn(first, rest, { stdio: "ignore", cwd: "/" });
while (sql("SELECT 1", "postgres") === null) await pause(100);
sql("CREATE DATABASE kills", "postgres");

const simulator = start(binary, ["simulator", "--listen", "127.0.0.1:0", "--rate-limit", "none", "--latency", "40ms"], {}, /simulator listening on (\S+)/);
const api = await simulator.found;
const ask = async (path) => (await fetch(`${api}/_sim/${path}`)).json();
const there = async () => ((await ask(`state?project=${PROJECT}`)).tenants ?? []).length;

mkdirSync(join(dir, "repo"));
writeFileSync(join(dir, "config.yaml"), `
source: { path: ${dir}/repo }
rateLimit: { limit: null }
http: { listen: 127.0.0.1:0, token: { env: TOKEN } }
state: { url: { env: DATABASE }, fingerprintKey: { env: FINGERPRINTS } }
log: { format: json }
projects:
  - { name: p, projectId: ${PROJECT}, managementKey: { env: KEY }, baseUrl: "${api}", firstContact: apply }
`);
const env = { KEY: "K2x", TOKEN: "t", DATABASE: `postgres://postgres@127.0.0.1:${port}/kills`, FINGERPRINTS: "0123456789abcdef".repeat(4) };
const replica = () => start(binary, ["--config", join(dir, "config.yaml"), "run"], env, /"address":"([^"]+)"/);
const declare = (drains) => {
  const line = (n) => `  - { id: t${n}, name: Tenant ${n} }\n`;
  writeFileSync(join(dir, "repo/new"), `tenants:\n${Array.from({ length: EACH * drains }, (_, n) => line(n)).join("")}`);
  renameSync(join(dir, "repo/new"), join(dir, "repo/tenants.yaml"));
};
const lease = () => {
  const row = sql("SELECT replica.name, term FROM lease LEFT JOIN replica ON replica.id = lease.holder");
  const [name, term] = row?.split("|") ?? [];
  return { pid: Number(name?.split("/")[1]), term: Number(term ?? 0) };
};
const isCreated = (entry) => entry.path === "/v1/mgmt/tenant/create" && entry.effect === true;

declare(1);
const replicas = [replica(), replica()];
while ((await there()) < EACH) await pause(100);
let drains = 1;
console.log("signal   taken  first write  done");
for (const signal of [...Array(Number(kills)).fill("SIGKILL"), ...Array(Number(terms)).fill("SIGTERM")]) {
  declare(++drains);
  while ((await there()) <= EACH * (drains - 1)) await pause(20);
  await pause(random() * 600);
  const { pid, term } = lease();
  const at = replicas.findIndex((one) => one.pid === pid);
  const [holder] = replicas.splice(at, 1);
  const began = Date.now();
  const passed = () => (Date.now() - began) / 1000;
  holder.kill(signal);
  let taken;
  while (taken === undefined && passed() < LONGEST) {
    await pause(20);
    if (lease().term > term) taken = passed();
  }
  while ((await there()) < EACH * drains && passed() < LONGEST) await pause(50);
  const done = passed();
  // Those of the holder before that were under way have come long before the lease was taken.
  const writes = (await ask("log")).filter((entry) => isCreated(entry) && entry.time > began + (taken - 0.1) * 1000);
  const write = writes.length === 0 ? done : (writes[0].time - began) / 1000;
  const cell = (seconds, width) => seconds.toFixed(2).padStart(width);
  console.log(`${signal} ${cell(taken ?? NaN, 6)}  ${cell(write, 11)} ${cell(done, 5)}`);
  check(taken <= MOST[signal], `${signal}: the lease was taken after ${taken} s, not within ${MOST[signal]} s`);
  check(done <= MOST[signal] + REQUEST_TIMEOUT + 10, `${signal}: all was there after ${done} s`);
  await holder.ended;
  replicas.push(replica());
  await replicas.at(-1).found;
}
const ids = (await ask("log")).filter(isCreated).map((entry) => entry.body.id);
check(ids.length === EACH * drains && new Set(ids).size === ids.length, `${ids.length} creates of ${new Set(ids).size} tenants, ${EACH * drains} are declared`);
console.log(failures.length === 0 ? `${ids.length} tenants, each created once` : `${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);
