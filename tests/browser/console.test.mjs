// The console in a real browser, against a real server. With the program built and Chromium installed:
//
//   npm ci && npm test
//
//   CONVGROUPS_BIN          the program; by default the one that `cargo build --release` makes
//   CHROMIUM                the browser; by default `chromium` on the PATH
//   CONVGROUPS_SCREENSHOTS  a directory to write pictures of the page to; by default none are written
//   CONVGROUPS_URL and CONVGROUPS_USERSIG
//                           a server that runs already, and a signature for one of its users, whose groups are deleted

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { deflateSync, inflateSync } from "node:zlib";

import { chromium } from "playwright-core";

/** How long anything may take to show up, in milliseconds. */
const PATIENCE = 15_000;
const NOT_IN_THE_GROUP = "not in the group";
/** What a browser writes to its console about every answer with such a status. */
const REFUSED_BY_STATUS = /^Failed to load resource: the server responded with a status of 401/;
const CONNECTION_LOST = /^Failed to load resource: net::ERR_/;

let server;
let browser;

/** A program's path, looked up as a shell does. */
function onPath(name) {
  for (const directory of process.env.PATH.split(path.delimiter)) {
    const candidate = path.join(directory, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not there.
    }
  }
  throw new Error(`there is no ${name} on the PATH: install it, or set CHROMIUM`);
}

async function startServer() {
  const { CONVGROUPS_URL: url, CONVGROUPS_USERSIG: signature } = process.env;
  if (url && signature) return { origin: new URL(url).origin, signature, stop() {} };
  const program = process.env.CONVGROUPS_BIN ?? path.join(import.meta.dirname, "../../target/release/convgroups");
  const args = ["serve", "--dev", "--store", "memory:", "--listen", "127.0.0.1:0"];
  // Variables with this prefix are settings to the program, which takes no unknown ones.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CONVGROUPS_")));
  const child = spawn(program, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const failed = once(child, "error").then(([error]) => {
    throw error;
  });
  const started = new Promise((resolve, reject) => {
    const found = {};
    const said = [];
    child.once("exit", () => reject(new Error(`the server stopped:\n${said.join("\n")}`)));
    // Read to the end, or the server would wait for somebody to do so.
    createInterface(child.stderr).on("line", (line) => {
      said.push(line);
      found.signature ??= /^SIG='(.+)'$/.exec(line)?.[1];
      found.origin ??= /^convgroups: listening on (http:\S+)$/.exec(line)?.[1];
      if (found.signature && found.origin) resolve(found);
    });
  });
  const stop = async () => {
    child.removeAllListeners("exit");
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    await exited;
  };
  return { ...(await Promise.race([started, failed])), stop };
}

/** Calls the API without the page, as an app does. */
async function call(method, params = {}) {
  const response = await fetch(`${server.origin}/v1/${method}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${server.signature}` },
    body: JSON.stringify(params),
  });
  const { code, desc, data } = await response.json();
  assert.equal(code, 0, desc);
  return data;
}

async function members(conversationGroup) {
  const query = { filter: { conversationGroup }, nextSeq: "0", count: 100 };
  const { conversationList } = await call("getConversationListByFilter", query);
  return conversationList.map((conversation) => conversation.conversationID);
}

/** A way between the browser and the server that can be cut. */
async function startCable() {
  const target = new URL(server.origin);
  const sockets = new Set();
  let cut = false;
  const listener = net.createServer((near) => {
    if (cut) return near.destroy();
    const far = net.connect(Number(target.port), target.hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    origin: `http://127.0.0.1:${listener.address().port}`,
    cut() {
      cut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend() {
      cut = false;
    },
    close() {
      for (const socket of sockets) socket.destroy();
      listener.close();
    },
  };
}

/**
 * A test with a page of its own. Whatever it is about, it fails when the browser reports an error that is not expected, or
 * when the page asks anybody but its server for anything.
 */
function browserTest(name, { expected = [], through, ...options }, body) {
  test(name, { timeout: 60_000 }, async () => {
    const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
    const cable = await through?.();
    const home = cable?.origin ?? server.origin;
    const faults = [];
    const elsewhere = [];
    try {
      context.on("request", (request) => {
        if (new URL(request.url()).origin !== home) elsewhere.push(request.url());
      });
      context.on("weberror", (error) => faults.push(String(error.error())));
      context.on("console", (message) => {
        const text = message.text();
        if (["error", "warning"].includes(message.type()) && !expected.some((pattern) => pattern.test(text))) faults.push(text);
      });
      // What the policy forbids is reported to the page as well.
      await context.exposeFunction("reportViolation", (what) => faults.push(`forbidden by the policy: ${what}`));
      await context.addInitScript(() => {
        addEventListener("securitypolicyviolation", (event) => {
          globalThis.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
        });
      });
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      await page.goto(`${home}/console/`);
      await body(page, cable);
    } finally {
      await context.close();
      cable?.close();
    }
    assert.deepEqual(faults, []);
    assert.deepEqual(elsewhere, []);
  });
}

const field = (page, name) => page.getByLabel(name, { exact: true });
const button = (page, name) => page.getByRole("button", { name, exact: true });
const group = (page, name) => page.locator("#groups").getByRole("button", { name, exact: true });
const conversation = (page, id) => page.getByRole("checkbox", { name: id, exact: true });
const events = (page) => page.locator("#events > li");

async function signIn(page, signature = server.signature) {
  await field(page, "UserSig").fill(signature);
  await button(page, "Sign in").click();
}

async function isConnected(page) {
  await page.locator("#stream-state[data-state=connected]").waitFor();
}

/** Waits until something is as it should be, and says how it was last when it never is. */
async function eventually(read, wanted) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await read();
    try {
      assert.deepEqual(found, wanted);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

const shownConversations = (page) => page.locator("#conversations .id").allTextContents();
const answers = (page) =>
  page.locator("#answers tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));

before(async () => {
  server = await startServer();
  const executablePath = process.env.CHROMIUM ?? onPath("chromium");
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath, args });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

beforeEach(async () => {
  for (const groupName of await call("getConversationGroupList")) await call("deleteConversationGroup", { groupName });
});

browserTest("signs in and sees the groups", {}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob", "group_42"] });
  await call("createConversationGroup", { groupName: "Family", conversationIDList: ["c2c_eve"] });
  await signIn(page);
  await group(page, "Work").waitFor();
  await eventually(() => page.locator("#groups li").allTextContents(), ["Work", "Family"]);
  await eventually(() => shownConversations(page), ["c2c_bob", "group_42"]);
  await group(page, "Family").click();
  await eventually(() => shownConversations(page), ["c2c_eve"]);
  assert.match(await page.locator("#who").textContent(), /^\w+$/);

  // The signature is kept for a reload, in this tab, and forgotten with the session.
  await page.reload();
  await group(page, "Work").waitFor();
  assert.deepEqual(await page.evaluate(() => [localStorage.length, document.cookie]), [0, ""]);
  await button(page, "Sign out").click();
  await field(page, "UserSig").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator("#groups li").count(), 0);
});

browserTest("takes conversations out of a group and sees one result per conversation and the event", {}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob", "group_42", "c2c_dan"] });
  await signIn(page);
  await isConnected(page);
  await field(page, "Other conversations").fill("c2c_bob\nc2c_eve\nnonsense\nc2c_bob\n");
  await button(page, "Take these out").click();
  await page.locator("#answer").waitFor();
  const [removed, absent, malformed, repeated] = await answers(page);
  assert.deepEqual(removed, ["c2c_bob", "0", "removed"]);
  assert.deepEqual(absent, ["c2c_eve", "0", NOT_IN_THE_GROUP]);
  assert.deepEqual(malformed.slice(0, 2), ["nonsense", "50002"]);
  assert.match(malformed[2], /malformed conversation id/);
  assert.deepEqual(repeated, ["c2c_bob", "0", "repeated in the request"]);
  assert.equal(await page.locator("#answer-summary").textContent(), "1 removed, 2 without a change, 1 refused.");
  assert.equal(await field(page, "Other conversations").inputValue(), "nonsense");

  const event = events(page).filter({ hasText: "Taken out of Work" });
  await event.waitFor();
  assert.deepEqual(await event.locator(".id").allTextContents(), ["c2c_bob"]);
  const request = /[0-9a-f]{32}/.exec(await page.locator("#answer-requests").textContent())[0];
  await event.getByText(`request ${request}`).click();
  assert.deepEqual(JSON.parse(await event.locator("pre").textContent()).events, [
    { event: "onConversationsDeletedFromGroup", groupName: "Work", conversationList: ["c2c_bob"], reason: 0 },
  ]);
  await eventually(() => shownConversations(page), ["group_42", "c2c_dan"]);

  await conversation(page, "c2c_dan").check();
  await button(page, "Take out of group").click();
  await eventually(() => answers(page), [["c2c_dan", "0", "removed"]]);
  await eventually(() => shownConversations(page), ["group_42"]);
  assert.deepEqual(await members("Work"), ["group_42"]);
});

browserTest("more conversations than one call takes are sent in several calls", {}, async (page) => {
  const ids = Array.from({ length: 250 }, (_, number) => `c2c_user${number}`);
  await signIn(page);
  await button(page, "New group").click();
  await field(page, "Name").fill("Crowd");
  await page.getByRole("textbox", { name: "Conversations", exact: true }).fill(ids.join("\n"));
  await button(page, "Create group").click();
  await eventually(() => page.locator("#answers tr").count(), 250);
  await eventually(() => shownConversations(page), ids);
  await page.locator("#tick-all").check();
  await button(page, "Take out of group").click();
  await eventually(() => page.locator("#answer-summary").textContent(), "250 removed.");
  await page.getByText("The group is empty.").waitFor();
  assert.deepEqual(await members("Crowd"), []);
});

browserTest("a wrong signature is refused with its code", { expected: [REFUSED_BY_STATUS] }, async (page) => {
  const failure = page.locator("#sign-in-failure");
  // Well made, but with another key: the proof is another one.
  const unpacked = inflateSync(Buffer.from(server.signature.replace(/[*_-]/g, (mark) => ({ "*": "+", "-": "/", _: "=" })[mark]), "base64"));
  const forged = { ...JSON.parse(unpacked), "TLS.sig": Buffer.alloc(32).toString("base64") };
  const packed = deflateSync(JSON.stringify(forged)).toString("base64");
  await signIn(page, packed.replace(/[+/=]/g, (mark) => ({ "+": "*", "/": "-", "=": "_" })[mark]));
  await failure.getByText("70009").waitFor();
  assert.match(await failure.textContent(), /not made with a key of this app.*request [0-9a-f]{32}/);
  assert.match(await page.locator("#claims").textContent(), new RegExp(`^For ${forged["TLS.identifier"]}, until `));
  // No signature at all.
  await signIn(page, "nonsense");
  await failure.getByText("70003").waitFor();
  assert.match(await page.locator("#claims").textContent(), /does not look like a UserSig/);
  assert.equal(await page.locator("#console").isVisible(), false);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  // And the right one works after all that.
  await signIn(page);
  await isConnected(page);
});

browserTest("a rule’s refusal is shown with its code where it happened", {}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob"] });
  await call("createConversationGroup", { groupName: "Play", conversationIDList: ["c2c_eve"] });
  await signIn(page);
  await button(page, "Rename").click();
  await field(page, "New name").fill("Play");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Rename" }).click();
  await dialog.getByText("50002").waitFor();
  assert.match(await dialog.locator(".failure").textContent(), /request [0-9a-f]{32}/);
  await field(page, "New name").fill("Office");
  await dialog.getByRole("button", { name: "Rename" }).click();
  await dialog.waitFor({ state: "hidden" });
  await eventually(() => page.locator("#groups li").allTextContents(), ["Office", "Play"]);
  assert.equal(await page.locator("#group-title").textContent(), "Office");

  await button(page, "Delete group").click();
  await dialog.getByText("Delete “Office” with 1 conversation in it?").waitFor();
  await dialog.getByRole("button", { name: "Delete group" }).click();
  await eventually(() => page.locator("#groups li").allTextContents(), ["Play"]);
  assert.equal(await page.locator("#group-title").textContent(), "Play");
});

browserTest("a change made by somebody else shows up without a reload", {}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob"] });
  await signIn(page);
  await isConnected(page);
  await eventually(() => shownConversations(page), ["c2c_bob"]);
  await call("addConversationsToGroup", { groupName: "Work", conversationIDList: ["c2c_new"] });
  await eventually(() => shownConversations(page), ["c2c_bob", "c2c_new"]);
  await call("createConversationGroup", { groupName: "Family", conversationIDList: ["c2c_eve"] });
  await group(page, "Family").waitFor();
  // The chosen group stays chosen under another name, and when it is deleted the page says so.
  await call("renameConversationGroup", { oldName: "Work", newName: "Office" });
  await eventually(() => page.locator("#group-title").textContent(), "Office");
  await call("deleteConversationGroup", { groupName: "Office" });
  await page.getByText("The group “Office” is gone.").waitFor();
  assert.match(await events(page).first().textContent(), /Office deleted/);
});

browserTest(
  "after a lost connection, a change made meanwhile shows up once",
  { expected: [CONNECTION_LOST], through: startCable },
  async (page, cable) => {
    await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob"] });
    await signIn(page);
    await isConnected(page);
    await call("addConversationsToGroup", { groupName: "Work", conversationIDList: ["c2c_before"] });
    await events(page).filter({ hasText: "c2c_before" }).waitFor();
    cable.cut();
    await page.locator("#stream-state[data-state=reconnecting]").waitFor();
    await call("addConversationsToGroup", { groupName: "Work", conversationIDList: ["c2c_meanwhile"] });
    const resumed = page.waitForRequest((request) => request.url().endsWith("/v1/events"));
    cable.mend();
    assert.match((await (await resumed).allHeaders())["last-event-id"], /^\d+-[0-9a-f]{16}$/);
    await isConnected(page);
    await call("addConversationsToGroup", { groupName: "Work", conversationIDList: ["c2c_after"] });
    await events(page).filter({ hasText: "c2c_after" }).waitFor();
    for (const id of ["c2c_before", "c2c_meanwhile", "c2c_after"]) {
      assert.equal(await events(page).filter({ hasText: id }).count(), 1, id);
    }
    await eventually(() => shownConversations(page), ["c2c_bob", "c2c_before", "c2c_meanwhile", "c2c_after"]);
  },
);

browserTest("keyboard only: signs in and takes a conversation out", {}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob", "c2c_dan"] });
  /** Goes on with the Tab key until it is there, and sees that the place is visible. */
  const tabTo = async (target) => {
    for (let steps = 0; steps < 40; steps += 1) {
      const found = await target.evaluate((element) => element === document.activeElement).catch(() => false);
      if (found) {
        const outline = await target.evaluate((element) => getComputedStyle(element).outlineStyle);
        assert.notEqual(outline, "none", "the focus cannot be seen");
        return;
      }
      await page.keyboard.press("Tab");
    }
    assert.fail(`the Tab key does not lead to ${target}`);
  };
  await tabTo(field(page, "UserSig"));
  await page.keyboard.insertText(server.signature);
  await page.keyboard.press("Enter");
  await conversation(page, "c2c_bob").waitFor();
  await tabTo(conversation(page, "c2c_bob"));
  await page.keyboard.press("Space");
  await page.keyboard.press("Enter");
  await eventually(() => answers(page), [["c2c_bob", "0", "removed"]]);
  await eventually(() => shownConversations(page), ["c2c_dan"]);
  // The focus was on what is gone, and has gone on to the next.
  assert.equal(await conversation(page, "c2c_dan").evaluate((element) => element === document.activeElement), true);
  // A dialog takes the focus, and Escape gives it back.
  for (let steps = 0; steps < 3; steps += 1) await page.keyboard.press("Shift+Tab");
  assert.equal(await button(page, "Delete group").evaluate((element) => element === document.activeElement), true);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Cancel");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.id), "delete-group");
  assert.deepEqual(await members("Work"), ["c2c_dan"]);
});

browserTest("what looks like markup is shown as text", {}, async (page) => {
  const groupName = "<img src=x onerror=alert(1)>";
  await call("createConversationGroup", { groupName, conversationIDList: ["c2c_<script>alert(1)</script>"] });
  let alerted = false;
  page.on("dialog", (dialog) => {
    alerted = true;
    dialog.dismiss();
  });
  await signIn(page);
  await group(page, groupName).waitFor();
  await conversation(page, "c2c_<script>alert(1)</script>").check();
  await button(page, "Take out of group").click();
  await page.locator("#answer").waitFor();
  await events(page).filter({ hasText: `Taken out of ${groupName}` }).waitFor();
  await button(page, "Delete group").click();
  assert.equal(await page.locator("img, body script").count(), 0);
  assert.equal(alerted, false);
});

browserTest("events are read wherever their bytes are cut", {}, async (page) => {
  const read = await page.evaluate(async () => {
    const { EventParser } = await import("./console.js");
    const said = ": comment\r\nid: 7\r\nevent: change\r\nretry: 1500\r\ndata: {\"a\":\r\ndata:1}\r\n\r\n:\n\ndata\ndata: x\n\nid: 8\rdata:y\r\rdata: never ended\n";
    const all = [];
    for (let size = 1; size <= said.length; size += 1) {
      const parser = new EventParser();
      const events = [];
      for (let start = 0; start < said.length; start += size) events.push(...parser.feed(said.slice(start, start + size)));
      all.push(JSON.stringify([parser.retry, events]));
    }
    return [...new Set(all)].map((each) => JSON.parse(each));
  });
  assert.deepEqual(read, [[1500, [
    { id: "7", type: "change", data: "{\"a\":\n1}" },
    { id: "7", type: "message", data: "\nx" },
    { id: "8", type: "message", data: "y" },
  ]]]);
});

browserTest("when the signature expires, the page signs out and says so", {}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob"] });
  const body = 'event: end\nretry: 2000\ndata: {"reason":"expired"}\n\n';
  await page.route("**/v1/events", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await signIn(page);
  await page.locator("#sign-in-failure").getByText("the UserSig has expired").waitFor();
  assert.equal(await page.locator("#console").isVisible(), false);
  assert.equal(await page.locator("#groups li").count(), 0);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

browserTest("an event stream that is refused for good is not asked for again until somebody wants it", {
  expected: [/^Failed to load resource: the server responded with a status of 400/],
}, async (page) => {
  let asked = 0;
  await page.route("**/v1/events", (route) => {
    asked += 1;
    return asked > 1 ? route.continue() : route.fulfill({ status: 400, json: { code: 50002, desc: "not like this" } });
  });
  await signIn(page);
  await page.locator("#stream-state[data-state=ended]").waitFor();
  await page.locator("#stream-failure").getByText("not like this").waitFor();
  assert.equal(asked, 1);
  await button(page, "Connect").click();
  await isConnected(page);
});

browserTest("lists that could not be read are read again", {
  expected: [/^Failed to load resource: the server responded with a status of 503/],
}, async (page) => {
  await call("createConversationGroup", { groupName: "Work", conversationIDList: ["c2c_bob"] });
  let refused = 0;
  await page.route("**/v1/getConversationListByFilter", (route) => {
    if (refused > 0) return route.continue();
    refused += 1;
    return route.fulfill({ status: 503, headers: { "Retry-After": "1" }, json: { code: 60018, desc: "too many calls" } });
  });
  await signIn(page);
  await eventually(() => shownConversations(page), ["c2c_bob"]);
  await page.locator("#groups-failure").waitFor({ state: "hidden" });
  assert.equal(refused, 1);
});

/** A page with something of everything on it. */
async function fill(page) {
  const team = ["c2c_bob", "c2c_carol", "c2c_dan", "group_42", "group_release-planning", "c2c_erin", "c2c_frank"];
  await call("createConversationGroup", { groupName: "Work", conversationIDList: team });
  await call("createConversationGroup", { groupName: "Family", conversationIDList: ["c2c_mum", "c2c_dad", "group_cousins"] });
  await call("createConversationGroup", { groupName: "Chess club", conversationIDList: ["group_7"] });
  await signIn(page);
  await isConnected(page);
  await call("renameConversationGroup", { oldName: "Chess club", newName: "Chess" });
  await call("addConversationsToGroup", { groupName: "Family", conversationIDList: ["c2c_gran"] });
  await conversation(page, "c2c_dan").check();
  await conversation(page, "group_42").check();
  await field(page, "Other conversations").fill("c2c_bob\nc2c_eve\nnonsense");
  await button(page, "Take these out").click();
  await page.locator("#answer").waitFor();
  await events(page).filter({ hasText: "Taken out of Work" }).waitFor();
  await eventually(() => page.locator("#conversations li").count(), 6);
}

const looks = [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { colorScheme: "light", viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }],
];
for (const [name, options] of looks) {
  // The checks are a script that the page's policy would not let in.
  browserTest(`nothing keeps people from using it: ${name}`, { ...options, bypassCSP: true, reducedMotion: "reduce" }, async (page) => {
    await page.addScriptTag({ path: createRequire(import.meta.url).resolve("axe-core/axe.min.js") });
    const isAccessible = async (what) => {
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      const found = violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html).join(" ")}`);
      assert.deepEqual(found, [], what);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, `${what}: wider than the screen`);
    };
    const picture = async (what) => {
      const directory = process.env.CONVGROUPS_SCREENSHOTS;
      if (!directory) return;
      mkdirSync(directory, { recursive: true });
      await page.screenshot({ path: path.join(directory, `${name}-${what}.png`), fullPage: true });
    };
    await isAccessible("signing in");
    await picture("sign-in");
    await signIn(page);
    await page.getByText("Make a group to begin.").waitFor();
    await isAccessible("without groups");
    await button(page, "Sign out").click();
    await fill(page);
    await isAccessible("signed in");
    await picture("console");
    await button(page, "Delete group").click();
    await isAccessible("a dialog");
    await picture("dialog");
  });
}
