// Connects, keeps connected, and shows what arrives.

import { Refused, hasToken, isToken, setToken, stream } from "./api.js";
import { byId, h, say, setClock, span, tick } from "./dom.js";
import { onTokenNeeded, withdrawGone } from "./actions.js";
import { refreshChanges } from "./changes.js";
import { refreshHistory } from "./history.js";
import { showNeeds, showProjects, showVerdict } from "./overview.js";
import { showResource } from "./resource.js";
import { showDrift, showTraffic } from "./traffic.js";
import { standing } from "./words.js";

/** The daemon sends something at least every ten seconds. */
const SILENCE = 25_000;
/** A stream that ends sooner was cut off by something that may do so again. */
const LASTING = 5_000;
/** What a drain changes in the plan and the history is asked for this often at the most. */
const ASK_EVERY = 2_000;

const link = { isLive: false, heard: 0, since: Date.now(), why: "" };
let status = null;
let connection = null;
let wake = () => {};

function connected(isLive, why = "") {
  if (link.isLive !== isLive) link.since = Date.now();
  Object.assign(link, { isLive, why });
  showConnection();
  if (status) showVerdict(status, link);
}

function showConnection() {
  // The age is for the eye alone: a screen reader would say it every few seconds.
  const tell = (id, text) => { if (byId(id).textContent !== text) byId(id).textContent = text; };
  byId("connection").className = link.isLive ? "connection live" : "connection lost";
  const seconds = (Date.now() - link.since) / 1000;
  const since = link.isLive || seconds < 5 ? "" : ` for ${span(seconds - (seconds % 5))}`;
  tell("connection-word", link.isLive ? "Live" : link.why);
  tell("connection-since", since);
}

/** For ever: a stream, and another when it ends. Waits longer after each failure, up to ten seconds. */
async function listen() {
  let failures = 0;
  for (;;) {
    let isWhole = false;
    const began = Date.now();
    connection = new AbortController();
    try {
      await stream({
        alive: () => { link.heard = Date.now(); },
        document: (json) => { failures = 0; isWhole = true; hideGate(); take(json); },
      }, connection.signal);
      // The daemon ends a stream after some minutes: that is no news unless there is no other.
      if (isWhole && Date.now() - began > LASTING) continue;
      connected(false, "Reconnecting …");
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        connected(false, hasToken() ? "Wrong token" : "Token needed");
        await tokenFromGate(hasToken() ? "The daemon does not know this token." : "");
        continue;
      }
      if (error instanceof Refused && error.status === 404) {
        connected(false, "Not available");
        showGate("This daemon shows its state only with a token, and none is configured. Set http.token and restart it.", "", false, true);
      } else if (error instanceof Refused || error.name === "AbortError") {
        connected(false, error.status === 503 ? "Too many pages are open" : "Disconnected");
      } else {
        throw error;
      }
    }
    failures += 1;
    const wait = Math.min(10_000, 500 * 2 ** Math.min(failures, 5)) * (0.75 + Math.random() / 2);
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, wait);
    });
  }
}

function take(json) {
  const before = status;
  status = json;
  setClock(json.at);
  connected(true);
  byId("all").hidden = false;
  byId("version").textContent = json.version;
  byId("token-button").hidden = !json.canOrder && !hasToken();
  showNeeds(status);
  showProjects(status);
  showTraffic(status);
  showDrift(status);
  withdrawGone();
  if (!before || isNews(before, json)) ask();
  announce(before, json);
}

/** What the plan and the history follow. */
function isNews(before, after) {
  const made = (it) => JSON.stringify([it.startedAt, it.projects.map(({ counts, lastPass, held, suspendedUntil }) => [counts, lastPass, held, suspendedUntil]), it.queue]);
  return made(before) !== made(after);
}

function announce(before, after) {
  if (!before) return;
  const was = new Map(before.projects.map((project) => [project.name, standing(before, project).word]));
  const changed = after.projects.map((project) => [project.name, standing(after, project).word]).filter(([name, word]) => was.get(name) !== word);
  if (after.projects.length > 1 && changed.length && changed.length <= 3) say(changed.map(([name, word]) => `${name}: ${word}`).join(", "));
}

let asking = false;
let shallAsk = false;

/** Asks for plan, history and resource, never twice at once. */
async function ask() {
  shallAsk = true;
  if (asking) return;
  asking = true;
  while (shallAsk) {
    shallAsk = false;
    try {
      await Promise.all([refreshChanges(status), refreshHistory(status), showResource(status)]);
      withdrawGone();
    } catch (error) {
      if (!(error instanceof Refused)) console.error(error);
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY));
  }
  asking = false;
}

let afterToken = null;
/** Somebody opened the gate: only somebody closes it. */
let isOpened = false;

/** `isFutile`: there is no token that could be entered. */
function showGate(why, problem = "", canClose = false, isFutile = false) {
  byId("gate").hidden = false;
  byId("gate-title").textContent = isFutile ? "No token is configured" : "Token needed";
  for (const id of ["gate-field", "token-note"]) byId(id).hidden = isFutile;
  byId("token-button").hidden = isFutile;
  byId("gate-close").hidden = !canClose;
  if (why) byId("gate-why").textContent = why;
  byId("token-error").textContent = problem;
}

function hideGate() {
  if (!afterToken && !isOpened) byId("gate").hidden = true;
}

function tokenFromGate(problem) {
  showGate("", problem);
  byId("token").focus();
  return new Promise((resolve) => { wake = resolve; });
}

onTokenNeeded((then, problem = "") => {
  afterToken = then;
  showGate("An order takes the token of the daemon's setting http.token.", problem, true);
  byId("token").focus();
  byId("gate").scrollIntoView({ block: "nearest" });
});

byId("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("token");
  const token = field.value.trim();
  if (!token) return;
  if (!isToken(token)) {
    byId("token-error").textContent = "This is no token: it has characters that none can have.";
    return;
  }
  setToken(token);
  field.value = "";
  byId("token-button").textContent = "Change token";
  const then = afterToken;
  afterToken = null;
  isOpened = false;
  byId("gate").hidden = true;
  byId("token-error").textContent = "";
  byId("main").focus();
  wake();
  then?.();
});

byId("gate-close").addEventListener("click", () => {
  afterToken = null;
  isOpened = false;
  byId("gate").hidden = true;
});

byId("token-button").addEventListener("click", () => {
  isOpened = true;
  showGate("The token of the daemon's setting http.token.", "", link.isLive);
  byId("token").focus();
});

addEventListener("hashchange", () => { if (status) showResource(status).catch(() => {}); });
addEventListener("online", () => wake());

setInterval(() => {
  tick();
  showConnection();
  // A connection that died without a word.
  if (link.isLive && Date.now() - link.heard > SILENCE) connection?.abort();
}, 1000);

listen().catch((error) => {
  byId("main").prepend(h("p", { class: "card bad" }, `The page failed; reload it. ${error.message}`));
  throw error;
});
