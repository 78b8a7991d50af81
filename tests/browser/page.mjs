// Drives the page in a real Chromium, for tests/blackbox/page.rs: `node page.mjs '{"scenario": "look", ...}'`.
//
// Ends with 0 if everything was as it should be, else says what was not. Screenshots go to $PAGE_SHOTS, where set.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";

const spec = JSON.parse(process.argv[2]);
const tools = createRequire(`${spec.tools}/`);
const { chromium } = tools("playwright-core");
const axe = fs.readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");

/** Longer than anything here takes on a loaded machine. */
const PATIENCE = 45_000;

const VIEWS = {
  light: { colorScheme: "light", viewport: { width: 1200, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1200, height: 900 } },
  phone: { colorScheme: "light", viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true },
};

const browser = await chromium.launch({
  executablePath: spec.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** A page that tells of every request that leaves the daemon, every error of a script and every breach of the policy. */
async function open(view, hash = "") {
  const context = await browser.newContext({ ...VIEWS[view], reducedMotion: "reduce" });
  const page = await context.newPage();
  page.faults = [];
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== new URL(spec.url).origin && url.protocol !== "data:") page.faults.push(`asked ${url}`);
  });
  page.on("pageerror", (error) => page.faults.push(error.stack));
  page.on("console", (message) => {
    const text = message.text();
    // A refused request is told by the browser as well; those are part of the scenarios.
    if (message.type() === "error" && !text.startsWith("Failed to load resource")) page.faults.push(text);
  });
  page.setDefaultTimeout(PATIENCE);
  await page.goto(spec.url + hash);
  return page;
}

const text = (page) => page.evaluate(() => document.body.innerText);

async function has(page, wanted) {
  const found = page.waitForFunction((it) => document.body.innerText.includes(it), wanted, { timeout: PATIENCE });
  await found.catch(async () => assert.fail(`the page never says ${JSON.stringify(wanted)}; it says:\n${await text(page)}\n${page.faults.join("\n")}`));
}

/** No violation that axe-core knows, with everything opened; nothing wider than the window; no fault so far. */
async function check(page, name) {
  if (process.env.PAGE_SHOTS) {
    fs.mkdirSync(process.env.PAGE_SHOTS, { recursive: true });
    await page.screenshot({ path: `${process.env.PAGE_SHOTS}/${name}.png`, fullPage: true });
  }
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(tooWide, 0, `${name} is wider than the window`);
  const cut = await page.evaluate(() => [...document.querySelectorAll("td.words")]
    .filter((it) => it.getBoundingClientRect().right > document.documentElement.clientWidth).map((it) => it.innerText));
  assert.deepEqual(cut, [], `${name} cuts words off`);
  await page.evaluate(() => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map((it) => `${it.id}: ${it.help}\n${it.nodes.map((node) => `  ${node.html}\n  ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(told, [], `${name} has violations`);
  assert.ok(passes.length > 10, "axe-core looked at the page");
  assert.deepEqual(page.faults, [], name);
}

async function signIn(page, token = spec.token) {
  await page.fill("#token", token);
  await page.keyboard.press("Enter");
}

/** The other side does something, and says when it is done. */
async function other(step) {
  console.log(`step ${step}`);
  const until = Date.now() + PATIENCE;
  while (!fs.existsSync(`${spec.steps}/${step}`)) {
    assert.ok(Date.now() < until, `nobody did ${step}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const scenarios = {
  /** One state, in each view. */
  async look() {
    for (const view of Object.keys(VIEWS)) {
      const page = await open(view, spec.hash);
      if (spec.token) await signIn(page);
      for (const wanted of spec.expect) await has(page, wanted);
      if (spec.opened) await page.evaluate(() => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
      const said = await text(page);
      for (const unwanted of spec.never || []) assert.ok(!said.includes(unwanted), `${unwanted} in ${said}`);
      const part = await page.locator(spec.in || "body").innerText();
      for (const once of spec.once || []) assert.equal(part.split(once).length, 2, `${once} once in ${part}`);
      if (spec.human) assert.ok(!/\d{4}-\d\d-\d\dT/.test(said), `a moment as machines write it in ${said}`);
      await check(page, `${spec.name}-${view}`);
      await page.context().close();
    }
  },

  /** Of several projects, the verdict and each second press name the one that they are about. */
  async several() {
    const page = await open("light");
    await has(page, "Held: sandbox (1 project of 2)");
    await page.click("#token-button");
    await signIn(page);
    const press = (place, name) => page.locator(place).getByRole("button", { name }).first().click();
    await press("#needs", /^Approve/);
    await has(page, "Really approve 1 change held for approval of sandbox (");
    await press("#held", /^Approve/);
    await has(page, "Really approve 1 held change of sandbox (");
    const card = "article[aria-label='Project sandbox']";
    await press(card, "Suspend for");
    await press(card, "Really suspend sandbox for");
    await has(page, "sandbox only observes until");
    await press(card, "Resume");
    await press(card, "Really resume sandbox?");
    await has(page, "sandbox goes on.");
    await page.getByLabel("Which kind of sandbox to suspend").selectOption("roles");
    await press("#drift", "Suspend for roles of sandbox");
    await press("#drift", "Really suspend roles of sandbox for");
    await has(page, "roles of sandbox is only observed until");
    await check(page, "several");
  },

  /** What the page makes of statuses that take long to come about. */
  async verdicts() {
    const page = await open("light");
    const said = await page.evaluate(async (all) => {
      const words = await import(new URL("page/words.js", location.href));
      return all.map((status) => ({ ...words.verdict(status), needs: words.needs(status).map((it) => it.what) }));
    }, spec.cases.map((it) => it.status));
    spec.cases.forEach(({ expect }, n) => {
      for (const [name, wanted] of Object.entries(expect)) {
        const found = Array.isArray(said[n][name]) && !Array.isArray(wanted) ? said[n][name].join(" ") : said[n][name];
        assert.deepEqual(found, wanted, `case ${n}: ${name}`);
      }
    });
  },

  /** The shell has no data; a wrong token is told; the right one opens the page, is kept nowhere, and gone on reload. */
  async token() {
    const page = await open("light");
    await has(page, "Token needed");
    assert.ok(!(await text(page)).includes(spec.secret), "no data without the token");
    assert.ok(await page.evaluate(() => document.activeElement.id === "token"), "the field has the focus");
    await check(page, "token-needed");
    for (const wrong of ["wrong", "\u0442\u043e\u043a\u0435\u043d"]) {
      await signIn(page, wrong);
      await has(page, "does not know this token");
      await page.waitForFunction(() => document.activeElement.id === "token");
    }
    await check(page, "token-wrong");
    await signIn(page);
    await has(page, spec.secret);
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href, document.documentElement.outerHTML].join("\n"));
    assert.ok(!kept.includes(spec.token) && kept.startsWith("0\n0\n\n"), kept);
    await page.reload();
    await has(page, "Token needed");
    assert.ok(!(await text(page)).includes(spec.secret));
  },

  /** Orders take the token, say what they did, and are in the history. All by keyboard. */
  async orders() {
    const page = await open("light");
    await has(page, "In sync");
    const press = async (name) => {
      await page.getByRole("button", { name, exact: true }).first().focus();
      await page.keyboard.press("Enter");
    };
    await press("Reconcile now");
    await has(page, "An order takes the token");
    await signIn(page);
    await has(page, "A full pass over default is on its way.");
    // Else the next one would be the same.
    await page.waitForFunction(() => document.querySelectorAll("#history-rows tbody tr").length >= 2);
    // What was chosen and pressed once outlives an update of the page.
    await page.selectOption("select[data-key='for default']", "8h");
    await press("Suspend for");
    await other("a pass");
    await page.waitForFunction(() => document.querySelectorAll("#history-rows tbody tr").length >= 3);
    assert.ok(!(await text(page)).includes("only observes until"), "one press only asks");
    await page.keyboard.press("Enter");
    await has(page, "default only observes until");
    await has(page, "in 7 h 59 min");
    await has(page, "Suspended: nothing is changed");
    await press("Resume");
    await has(page, "Really resume?");
    await page.keyboard.press("Enter");
    await has(page, "default goes on.");
    await has(page, "In sync");
    await page.selectOption("#history-of", "changes");
    for (const row of ["resume, by the token", "suspend, by the token", "reconcile, by the token"]) await has(page, row);
    await page.selectOption("#history-kind", "permissions");
    await page.waitForFunction(() => !document.querySelector("#history-rows").innerText.includes("by the token"));
    await has(page, "permissions/p0");
    await check(page, "orders");
  },

  /** What is held is approved from the page, once. */
  async approve() {
    const page = await open("light");
    await has(page, "held for approval");
    await page.getByRole("button", { name: "Approve", exact: true }).first().click();
    await page.getByRole("button", { name: /^Really approve/ }).first().click();
    await has(page, "An order takes the token");
    await signIn(page);
    await has(page, "held changes go ahead");
    await has(page, "In sync");
    await has(page, "Nothing is held back.");
  },

  /** A kind and a resource are suspended where they are shown, by keyboard, with who and until when; and resumed there. */
  async parts() {
    const page = await open("light", "#/default/permissions/p0");
    await has(page, "permissions/p0 in default");
    await has(page, "in sync As declared when last looked at.");
    const known = (await page.locator("#resource dl").innerText()).replaceAll("\n", " ");
    assert.match(known, /Kind permissions Identity p0 Declared in \S+\.yaml:\d+ Last look at permissions .+ Last change create .+ revision \w+/);
    await check(page, "resource-in-sync");
    const press = async (place, name) => {
      await page.locator(place).getByRole("button", { name, exact: true }).focus();
      await page.keyboard.press("Enter");
    };
    await page.getByLabel("How long to suspend permissions/p0").selectOption("30m");
    await press("#resource", "Suspend for permissions/p0");
    assert.ok(!(await text(page)).includes("is only observed"), "one press only asks");
    await press("#resource", "Really suspend for permissions/p0");
    await has(page, "An order takes the token");
    await signIn(page);
    await has(page, "permissions/p0 is only observed until");
    await page.waitForFunction(() => /suspended permissions\/p0 since .*, until .* \(in 29 min\), by 127\.0\.0\.1/.test(document.querySelector("#resource").innerText.replaceAll("\n", " ")));
    await check(page, "suspended-resource");
    await press("#resource", "Resume permissions/p0");
    await press("#resource", "Really resume? permissions/p0");
    await has(page, "permissions/p0 goes on.");
    await has(page, "suspend, by the token");
    await has(page, "resume, by the token");
    await page.getByRole("link", { name: "← Everything" }).click();

    // A name that reads like an option stays a name in what is to be copied.
    const command = await page.evaluate(async () => (await import(new URL("page/words.js", location.href))).daemonCommand("status", { name: "-p" }));
    assert.ok(command.startsWith("descope-gitops status --project=-p"), command);

    const kinds = page.getByLabel("Which kind of default to suspend");
    await kinds.selectOption("roles");
    await page.getByLabel("How long to suspend roles").selectOption("8h");
    await press("#drift", "Suspend for roles");
    await press("#drift", "Really suspend for roles");
    await has(page, "roles is only observed until");
    await page.waitForFunction(() => document.querySelector("#drift").innerText.includes("suspended roles since"));
    assert.ok(!(await kinds.locator("option").allInnerTexts()).includes("roles"), "it is suspended already");
    await has(page, "In sync, but roles is suspended until");
    await check(page, "suspended-kind");
    await page.setViewportSize(VIEWS.phone.viewport);
    await check(page, "suspended-kind-phone");
    await press("#drift", "Resume roles");
    await press("#drift", "Really resume? roles");
    await has(page, "roles goes on.");
    await page.waitForFunction(() => !document.querySelector("#drift").innerText.includes("suspended roles"));
  },

  /** Whoever opened the field for the token is not interrupted by what arrives, and closes it. */
  async gate() {
    const page = await open("light");
    await has(page, "In sync");
    await page.click("#token-button");
    await page.keyboard.type("half a tok");
    const rows = () => page.evaluate(() => document.querySelectorAll("#history-rows tbody tr").length);
    for (const pass of ["a pass", "another pass"]) {
      const before = await rows();
      await other(pass);
      await page.waitForFunction((n) => document.querySelectorAll("#history-rows tbody tr").length > n, before);
      assert.ok(await page.locator("#gate").isVisible(), "it stays open");
    }
    assert.deepEqual(await page.evaluate(() => [document.activeElement.id, document.activeElement.value]), ["token", "half a tok"]);
    await check(page, "gate-open");
    await page.getByRole("button", { name: "Not now" }).click();
    assert.ok(!(await page.locator("#gate").isVisible()));
    await page.click("#token-button");
    await signIn(page);
    await page.waitForFunction(() => document.querySelector("#gate").hidden);
    assert.equal(await page.locator("#token-button").innerText(), "Change token");
  },

  /** What waits for a second press is what was shown with the first one, or nothing. */
  async armed() {
    const page = await open("light");
    await has(page, "In sync");
    await page.click("#token-button");
    await signIn(page);
    for (const where of ["needs", "held"]) {
      const approve = page.locator(`#${where} button`, { hasText: /approve/i }).first();
      await other(`weaken ${where}`);
      await page.waitForFunction(() => document.querySelector("#held").innerText.includes("weakening"));
      await approve.click();
      await page.locator(`#${where} button`, { hasText: /^Really approve/ }).first().waitFor();
      await other(`lock out ${where}`);
      await page.waitForFunction((it) => document.querySelector("#held").innerText.includes("lockout")
        && document.querySelector(`#${it}`).innerText.includes("Approve"), where);
      await has(page, "is no longer what you were asked about");
      assert.equal(await approve.innerText(), "Approve");
      await approve.click();
      await page.locator(`#${where} button`, { hasText: /^Really approve/ }).first().waitFor();
      await other(`look ${where}`);
    }
    await page.getByRole("button", { name: "Suspend for", exact: true }).click();
    await page.getByRole("button", { name: "Really suspend for" }).waitFor();
    await page.selectOption("select[data-key='for default']", "7d");
    await page.getByRole("button", { name: "Suspend for", exact: true }).waitFor();
    await page.getByRole("button", { name: "Suspend for", exact: true }).click();
    // Somebody else suspends it: the second press is not for ending that.
    await other("suspend");
    await page.getByRole("button", { name: "Resume", exact: true }).click();
    await page.getByRole("button", { name: "Really resume?" }).waitFor();
    await other("look at the suspension");
  },

  /** A screen reader hears news and nothing else; a keyboard stays where it is through every update. */
  async quiet() {
    const page = await open("light");
    await has(page, "In sync");
    const listen = () => page.evaluate(() => {
      globalThis.heard = [];
      new MutationObserver((all) => {
        for (const it of all) {
          const region = (it.target.nodeType === 1 ? it.target : it.target.parentElement)?.closest("[aria-live],[role=status],[role=alert]");
          if (region) globalThis.heard.push(region.innerText);
        }
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await listen();
    // The age beside the verdict moves, and nobody is told.
    for (let i = 0; i < 4; i += 1) {
      const age = await page.locator("#verdict time").innerText();
      await page.waitForFunction((before) => document.querySelector("#verdict time").innerText !== before, age);
    }
    assert.deepEqual(await page.evaluate(() => globalThis.heard), []);
    await other("suspend and differ");
    await page.waitForFunction(() => globalThis.heard.some((it) => it.includes("Suspended: nothing is changed")));
    await has(page, "1 difference");

    const focus = () => page.evaluate(() => [document.activeElement.localName, document.activeElement.innerText?.slice(0, 60)]);
    await page.locator("#diff-rows summary").first().focus();
    await page.keyboard.press("Enter");
    const before = await focus();
    await other("differ more");
    await has(page, "2 differences");
    assert.deepEqual([before[0], await focus()], ["summary", before]);
    assert.ok(await page.evaluate(() => document.activeElement.parentElement.open), "it stays open");

    await page.selectOption("#history-of", "changes");
    const rows = () => page.locator("#history-rows summary").count();
    await page.locator("#history-rows summary").first().waitFor();
    const count = await rows();
    await page.locator("#history-rows summary").first().focus();
    const row = await focus();
    await other("resume");
    await page.waitForFunction((n) => document.querySelectorAll("#history-rows summary").length > n, count);
    assert.deepEqual((await focus())[0], row[0]);
    await has(page, "In sync");

    await page.goto(`${spec.url}#/default/permissions/p0`);
    await has(page, "permissions/p0 in default");
    await page.getByRole("link", { name: "← Everything" }).focus();
    await other("differ again");
    await page.waitForFunction(() => document.querySelector("#resource").innerText.includes("third"));
    assert.deepEqual(await focus(), ["a", "← Everything"]);
    await page.goto(`${spec.url}#/default/permissions/nobody`);
    await has(page, "Is the name right?");
    assert.ok(!(await page.locator("#resource").innerText()).includes("nothing to do"));
    await check(page, "quiet");
  },

  /** A replica that stands by shows what the holder says and takes orders for it; the same page is right when it has taken over. */
  async standby() {
    const page = await open("light");
    for (const wanted of spec.expect) await has(page, wanted);
    await check(page, "standby");
    await page.getByRole("button", { name: "Approve", exact: true }).first().click();
    await page.getByRole("button", { name: /^Really approve/ }).first().click();
    await has(page, "An order takes the token");
    await signIn(page);
    await has(page, "held changes go ahead");
    await has(page, "In sync");
    await has(page, "Nothing is held back.");
    assert.ok((await text(page)).includes("Written by the replica"), "it still stands by");
    await other("kill the holder");
    await page.waitForFunction(() => !document.body.innerText.includes("Written by the replica"), null, { timeout: PATIENCE });
    await has(page, "In sync");
    await page.selectOption("#history-of", "changes");
    await has(page, "approve, by the token");
    await has(page, "asked by");
    await check(page, "taken-over");
  },

  /** Right again after the daemon was away; what was opened stays open. */
  async reconnect() {
    const page = await open("light");
    await has(page, "In sync");
    await page.locator("#history-rows").waitFor();
    await other("stop");
    await has(page, "Not connected: this is what was known last");
    await has(page, "The last word was: In sync.");
    await check(page, "disconnected");
    await other("change and start");
    await has(page, "Live");
    await has(page, "3 declared resources equal what is live.");
    assert.ok(!(await text(page)).includes("Not connected"));
    assert.deepEqual(page.faults, []);
  },

  /** A link to a resource survives a reload, and a change in Descope shows by itself. */
  async resource() {
    const page = await open("light");
    await has(page, "In sync");
    await other("drift");
    await has(page, "changed in Descope though no file was");
    await page.getByRole("link", { name: "permissions/p0" }).first().click();
    await has(page, "What was done to it");
    await page.reload();
    await has(page, "permissions/p0 in default");
    await has(page, "changed by hand");
    await has(page, "To be done: update");
    await check(page, "resource");
    await page.getByRole("link", { name: "← Everything" }).click();
    await page.locator("#resource").waitFor({ state: "hidden" });
  },

  /** However large the project, the page holds a window on it. */
  async large() {
    const page = await open("light");
    await has(page, spec.expect[0]);
    const bytes = [];
    page.on("response", async (response) => {
      if (response.url().includes("/api/v1/plan")) bytes.push((await response.body().catch(() => "")).length);
    });
    await page.getByRole("button", { name: "Later →" }).click();
    await has(page, "21 to 40");
    await page.fill("#diff-q", "t19999");
    await has(page, spec.expect[1]);
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    assert.ok(nodes < 3000, `${nodes} elements`);
    assert.ok(bytes.every((size) => size < 200_000), `${bytes}`);
  },
};

try {
  await scenarios[spec.scenario]();
  console.log("ok");
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
