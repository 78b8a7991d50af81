// What can be ordered, always with the token; each order leaves a row in the audit trail.

import { Refused, hasToken, post } from "./api.js";
import { byId, h, say } from "./dom.js";

let askForToken = () => {};

/** What to call when an order needs the token first: with what to do once it is there. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

function tell(text, isBad) {
  const place = byId("notice");
  place.hidden = false;
  place.className = isBad ? "notice bad" : "notice";
  place.replaceChildren(text, " ", h("button", { type: "button", class: "plain", onclick: () => { place.hidden = true; } }, "Dismiss"));
}

async function order(what, parameters, done) {
  if (!hasToken()) return askForToken(() => order(what, parameters, done));
  try {
    const answer = await post(what, parameters);
    const text = done(answer);
    tell(answer.warning ? `${text} ${answer.warning}` : text, Boolean(answer.warning));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return askForToken(() => order(what, parameters, done), "The daemon does not know this token.");
    tell(`Not done: ${error.message}`, true);
  }
}

/** Orders that wait for a second press, by what their button says it does. An update of the page must not undo that. */
const armed = new Map();
const painters = new Map();

/** Asks once more in place, then orders. */
function button(label, hint, confirm, act) {
  const it = h("button", { type: "button", title: hint, "data-key": hint });
  const paint = () => {
    it.textContent = armed.has(hint) ? confirm : label;
    it.classList.toggle("armed", armed.has(hint));
  };
  const disarm = () => {
    clearTimeout(armed.get(hint));
    armed.delete(hint);
    painters.get(hint)();
  };
  painters.set(hint, paint);
  paint();
  it.addEventListener("click", () => {
    if (!confirm || armed.has(hint)) {
      disarm();
      act();
      return;
    }
    armed.set(hint, setTimeout(disarm, 15_000));
    paint();
    say(`${confirm} Press again to go ahead.`);
  });
  return it;
}

export function approveButton(project, fingerprint, what) {
  return button("Approve", `Approve ${what} of ${project}`, `Really approve ${what}?`, () =>
    order("approve", { plan: fingerprint, project }, (answer) => answer.approved ? `Approved in ${project}: ${answer.approved} held changes go ahead.` : `Approved in ${project}.`));
}

export function projectActions(status, project) {
  if (!status.canOrder) return h("p", { class: "quiet" }, "To reconcile, suspend or approve from here, set http.token.");
  const { name } = project;
  const length = h("select", { "aria-label": `How long to suspend ${name}`, "data-key": `for ${name}` }, [["30m", "30 min"], ["2h", "2 hours"], ["8h", "8 hours"], ["1d", "1 day"], ["7d", "7 days"]].map(([value, word]) => h("option", { value, selected: value === "2h" }, word)));
  return h("div", { class: "actions", role: "group", "aria-label": `Actions on ${name}` },
    button("Reconcile now", `Reconcile ${name} now`, "", () => order("reconcile", { project: name }, () => `A full pass over ${name} is on its way.`)),
    project.suspendedUntil
      ? button("Resume", `Resume ${name}`, "", () => order("resume", { project: name }, () => `${name} goes on.`))
      : h("span", { class: "pair" }, button("Suspend for", `Suspend ${name}`, "Really suspend for", () => order("suspend", { project: name, for: length.value }, (answer) => `${name} only observes until ${new Date(answer.suspendedUntil).toLocaleString()}.`)), length));
}
