// Talks to the daemon that served this page. The token lives in this module's memory alone: a reload forgets it.

let token = "";

export const hasToken = () => token !== "";

export function setToken(text) {
  token = text;
}

/** What the daemon refused, with its status: 0 where there was no answer at all. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** A header takes bytes, and a token of any script is its UTF-8. */
const inBytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** What no header can carry: then it is no token. */
export const isToken = (text) => !/[\u0000-\u001f\u007f]/.test(text);

async function ask(path, options) {
  const headers = token ? { authorization: `Bearer ${inBytes(token)}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the daemon does not answer");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, body.error || `the daemon answered ${response.status}`);
  }
  return response;
}

const query = (parameters) => {
  const set = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(set).toString();
};

/** `get("plan", { limit: 50 })`; empty parameters are left out. */
export async function get(what, parameters, signal) {
  return (await ask(`api/v1/${what}?${query(parameters)}`, { signal })).json();
}

/** `post("suspend", { for: "2h" })` */
export async function post(what, parameters) {
  return (await ask(`api/v1/${what}?${query(parameters)}`, { method: "POST" })).json();
}

/**
 * Reads the event stream until it ends. `tell.document(json)` gets each event; `tell.alive()` is called whenever anything
 * arrives. Ends without an error when the daemon closes it, and with `Refused` when it cannot be had.
 */
export async function stream(tell, signal) {
  const response = await ask("api/v1/events", { signal });
  tell.alive();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return;
    }
    if (chunk.done) return;
    tell.alive();
    text += chunk.value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) tell.document(JSON.parse(data.join("\n")));
    }
  }
}
