// The console: one user's groups, what can be done with them, and their events as they happen.
//
// Whatever comes from the server becomes text (textContent), never markup: names and ids are the users' own. The page
// knows no rules of its own either: it sends what was typed, and shows what the server says to it.

/** The most ids that one call takes, in the server's default settings. */
const BATCH = 100;
/** Pages of conversations that are read of one group; twice what fits into a group by default. */
const PAGES = 20;
/** Changes that are kept on the page. */
const EVENTS = 200;
/** Ids that are shown of one change. */
const IDS = 20;
/** Characters that are shown of a conversation's custom data. */
const CUSTOM_DATA = 200;
/** Where a signature is kept: in this tab, until it is closed. */
const KEPT = "convgroups.usersig";
/** What a signature may unfold to, in bytes; the server takes no more either. */
const CLAIMS = 4096;

/** The first wait before the stream is opened again, unless the server names another, and the longest, in milliseconds. */
const RETRY = 2_000;
const MAX_RETRY = 30_000;
/** A stream this long without a sign of life is dead, though nobody said so; servers give one every 15 seconds. */
const SILENCE = 90_000;
/** A connection that held this long was a good one: the next failure is a first one again. */
const STEADY = 10_000;
/** Events often come together; one reading of the lists is enough for them. */
const GATHER = 50;
/** When to read the lists again after that failed for a passing reason, unless the server says. */
const READ_AGAIN = 5_000;

const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const plural = (count, what, more = false) => `${count}${more ? "+" : ""} ${what}${count === 1 ? "" : "s"}`;
const conversations = (count, more) => plural(count, "conversation", more);
const quoted = (name) => `“${name}”`;
const lines = (text) => text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
const named = (name) => make("span", { className: "name", textContent: name });

/* ---- Calls ---- */

/** A call that did not do what it was to do. */
class Failure extends Error {
  constructor(desc, { code, requestID, status, retryAfter } = {}) {
    super(desc);
    Object.assign(this, { desc, code, requestID, status, retryAfter });
  }

  /** Reads an answer that is none of success. */
  static of(response, answer) {
    const seconds = Number.parseInt(response.headers.get("retry-after"), 10);
    return new Failure(answer?.desc || `the server answered with status ${response.status}`, {
      code: answer?.code,
      requestID: response.headers.get("x-request-id"),
      status: response.status,
      retryAfter: Number.isNaN(seconds) ? undefined : seconds * 1000,
    });
  }

  /** Whether the same call may well succeed a little later. */
  get passes() {
    return this.status === undefined || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

const NO_ANSWER = "no answer came from the server";

/** Calls a method, and gives what it answers and the request's id. */
async function call(session, method, params) {
  let response;
  let answer;
  try {
    response = await fetch(`../v1/${method}`, {
      method: "POST",
      headers: { "Authorization": `Bearer ${session.signature}`, "Content-Type": "application/json" },
      body: JSON.stringify(params),
      cache: "no-store",
      signal: session.signal,
    });
    answer = await response.json();
  } catch (error) {
    session.signal.throwIfAborted();
    if (response === undefined) throw new Failure(NO_ANSWER);
    if (!(error instanceof SyntaxError)) throw new Failure("the server’s answer was cut off");
  }
  session.signal.throwIfAborted();
  if (response.ok && answer?.code === 0) return { data: answer.data, requestID: response.headers.get("x-request-id") };
  const failure = Failure.of(response, answer);
  if (response.status === 401) endSession(session, failure);
  throw failure;
}

/** Calls once for each hundred ids. What was answered before a failure stays answered, so both are given back. */
async function callInBatches(ids, send) {
  const outcome = { results: [], requests: [], failure: null, unsent: [] };
  for (let start = 0; start < ids.length; start += BATCH) {
    const batch = ids.slice(start, start + BATCH);
    try {
      const { data, requestID } = await send(batch, start === 0);
      outcome.results.push(...data);
      outcome.requests.push(requestID);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      outcome.failure = error;
      outcome.unsent = ids.slice(start);
      break;
    }
  }
  return outcome;
}

/* ---- Failures, where they happened ---- */

function hide(box) {
  box.hidden = true;
  box.replaceChildren();
}

function show(box, failure, more = "") {
  const line = make("p");
  if (failure.code !== undefined) line.append(make("strong", { textContent: failure.code }), " ");
  line.append(make("span", { className: "text", textContent: failure.desc + more }));
  box.replaceChildren(line);
  if (failure.retryAfter !== undefined) {
    box.append(make("p", { textContent: `Try again in ${plural(failure.retryAfter / 1000, "second")}.` }));
  }
  if (failure.requestID) box.append(make("p", { className: "request", textContent: `request ${failure.requestID}` }));
  box.hidden = false;
}

const running = new WeakSet();

/** Does what a form asks for, once at a time, and shows in its box why it could not be done. */
async function attempt(form, box, action) {
  if (running.has(form)) return;
  running.add(form);
  form.setAttribute("aria-busy", "true");
  hide(box);
  try {
    await action();
  } catch (error) {
    // Who has signed out meanwhile is not interested any more.
    if (error.name !== "AbortError") {
      if (!(error instanceof Failure)) throw error;
      show(box, error);
    }
  } finally {
    running.delete(form);
    form.removeAttribute("aria-busy");
  }
}

/* ---- The signature ---- */

/**
 * What a UserSig says about itself: zlib over JSON, in base64 with `*-_` for `+/=`. Only to show whose it is; the server
 * is who checks.
 */
export async function readClaims(signature) {
  const base64 = signature.replaceAll("*", "+").replaceAll("-", "/").replaceAll("_", "=");
  const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for (const reader = unpacked.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > CLAIMS) throw new RangeError("too long for a UserSig");
    text += decoder.decode(value, { stream: true });
  }
  const claims = JSON.parse(text);
  const expires = (Number(claims["TLS.time"]) + Number(claims["TLS.expire"])) * 1000;
  return { identifier: String(claims["TLS.identifier"]), expires: new Date(expires) };
}

function until(claims) {
  if (Number.isNaN(claims.expires.getTime())) return "";
  return claims.expires.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

// A browser may forbid storage to pages; then the signature is kept by nobody but the page.
const kept = {
  read() {
    try {
      return sessionStorage.getItem(KEPT);
    } catch {
      return null;
    }
  },
  write(signature) {
    try {
      if (signature === null) sessionStorage.removeItem(KEPT);
      else sessionStorage.setItem(KEPT, signature);
    } catch {
      // See above.
    }
  },
};

/* ---- Signing in and out ---- */

/** Who is signed in, and what the page knows of their groups; nothing while nobody is. */
let current = null;

class Session {
  #ended = new AbortController();

  constructor(signature) {
    this.signature = signature;
    this.groups = null;
    this.selected = null;
    this.conversations = [];
    /** Whether there are more conversations than were read; and whether they were read at all. */
    this.more = false;
    this.loaded = false;
    this.ticked = new Set();
  }

  /** Aborted when the session ends, and with it all that is under way. */
  get signal() {
    return this.#ended.signal;
  }

  end() {
    this.#ended.abort();
  }

  get hasSelected() {
    return this.selected !== null && this.groups.includes(this.selected);
  }
}

async function signIn(signature) {
  if (signature === "") throw new Failure("Paste a UserSig first.");
  // What no header can carry is refused here, as the browser would not send it.
  if (/[^\x21-\x7e]/.test(signature)) throw new Failure("A UserSig has letters, digits, “*”, “-” and “_” only.");
  const session = new Session(signature);
  const { data } = await call(session, "getConversationGroupList", {}).catch((error) => {
    // One that was refused is not tried again; one that could not be checked may be.
    if (error.status === 401) kept.write(null);
    throw error;
  });
  const claims = await readClaims(signature).catch(() => null);
  kept.write(signature);
  current = session;
  session.groups = data;
  session.selected = data[0] ?? null;
  $("usersig").value = "";
  $("claims").textContent = "";
  conceal();
  $("who").textContent = claims?.identifier ?? "an unknown user";
  $("who").title = claims ? `until ${until(claims)}` : "";
  document.title = claims ? `${claims.identifier} · convgroups console` : "convgroups console";
  $("sign-in").hidden = true;
  $("session").hidden = $("console").hidden = false;
  render(session);
  $("groups-title").focus();
  watch(session);
  await refresh(session);
}

/** Forgets the signature and everything that was shown, and says why, if somebody else wanted it. */
function endSession(session, failure) {
  if (session !== current) return;
  session.end();
  current = null;
  kept.write(null);
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  for (const box of document.querySelectorAll(".failure")) hide(box);
  for (const list of ["groups", "conversations", "events", "answers"]) $(list).replaceChildren();
  for (const form of document.forms) form.reset();
  $("who").textContent = $("announcement").textContent = "";
  document.title = "convgroups console";
  $("answer").hidden = $("session").hidden = $("console").hidden = true;
  $("no-events").hidden = $("sign-in").hidden = false;
  if (failure) show($("sign-in-failure"), failure);
  $("usersig").focus();
}

function conceal() {
  $("usersig").type = "password";
  $("show-usersig").setAttribute("aria-pressed", "false");
}

$("show-usersig").addEventListener("click", () => {
  const shown = $("usersig").type === "text";
  $("usersig").type = shown ? "password" : "text";
  $("show-usersig").setAttribute("aria-pressed", String(!shown));
});

const typed = () => $("usersig").value.replaceAll(/\s/g, "");

$("usersig").addEventListener("input", async () => {
  const signature = typed();
  const claims = signature === "" ? null : await readClaims(signature).catch(() => null);
  if (signature !== typed()) return;
  if (signature === "") $("claims").textContent = "";
  else if (claims === null) $("claims").textContent = "This does not look like a UserSig.";
  else {
    const end = until(claims);
    $("claims").replaceChildren("For ", named(claims.identifier), end && `, until ${end}`);
  }
});

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(event.target, $("sign-in-failure"), () => signIn(typed()));
});

$("sign-out").addEventListener("click", () => endSession(current));

/* ---- Reading the lists ---- */

/** All conversations of the chosen group, up to a bound, and whether there are more. */
async function readConversations(session, conversationGroup) {
  const list = [];
  let nextSeq = "0";
  for (let page = 0; page < PAGES; page += 1) {
    const query = { filter: { conversationGroup }, nextSeq, count: BATCH };
    const { data } = await call(session, "getConversationListByFilter", query);
    list.push(...data.conversationList);
    if (data.isFinished) return { list, more: false };
    nextSeq = data.nextSeq;
  }
  return { list, more: true };
}

async function read(session) {
  session.groups = (await call(session, "getConversationGroupList", {})).data;
  session.selected ??= session.groups[0] ?? null;
  const group = session.selected;
  const { list, more } = session.hasSelected ? await readConversations(session, group) : { list: [], more: false };
  // Another one was chosen meanwhile: what was read is not for it, and reading it was asked for.
  if (group !== session.selected) return;
  session.conversations = list;
  session.more = more;
  session.loaded = true;
  const there = new Set(list.map((conversation) => conversation.conversationID));
  for (const id of session.ticked) if (!there.has(id)) session.ticked.delete(id);
  render(session);
}

/**
 * Reads what is shown again. Reading, not replaying events, because what the server answers is right by itself; and as
 * every event brings a reading that begins after it, the page never stays behind one.
 */
function refresh(session) {
  session.stale = true;
  session.refreshing ??= (async () => {
    while (session.stale && !session.signal.aborted) {
      await sleep(GATHER);
      session.stale = false;
      await read(session).then(() => hide($("groups-failure")), (error) => notRead(session, error));
    }
    session.refreshing = null;
  })();
  return session.refreshing;
}

function notRead(session, error) {
  if (session.signal.aborted) return;
  if (!(error instanceof Failure)) throw error;
  show($("groups-failure"), error, " (The lists may be out of date.)");
  if (error.passes) setTimeout(() => session === current && refresh(session), error.retryAfter ?? READ_AGAIN);
}

/* ---- Showing the lists ---- */

/** Makes a list show these items, in place: what stays keeps its element, and with it the focus and its place. */
function reconcile(list, items, keyOf, create, update) {
  const existing = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const wanted = new Set(items.map(keyOf));
  let focusLost = false;
  for (const [key, element] of existing) {
    if (wanted.has(key)) continue;
    focusLost ||= element.contains(document.activeElement);
    element.remove();
  }
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = existing.get(key);
    if (element === undefined) {
      element = create(item);
      element.dataset.key = key;
    }
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
  }
  return focusLost;
}

function render(session) {
  renderGroups(session);
  const { selected, groups } = session;
  $("group-content").hidden = !session.hasSelected;
  $("no-group").hidden = session.hasSelected;
  if (selected === null) {
    $("no-group").textContent = "Make a group to begin.";
  } else if (!session.hasSelected) {
    $("no-group").replaceChildren("The group ", named(quoted(selected)), " is gone.");
    if (groups.length > 0) $("no-group").append(" Choose another one.");
  }
  if (session.hasSelected) renderGroup(session);
}

function renderGroups(session) {
  const create = (name) => {
    const button = make("button", { type: "button" }, named(name));
    button.addEventListener("click", () => select(current, name));
    return make("li", {}, button);
  };
  const update = (element, name) => {
    if (name === session.selected) element.firstChild.setAttribute("aria-current", "true");
    else element.firstChild.removeAttribute("aria-current");
  };
  const focusLost = reconcile($("groups"), session.groups, String, create, update);
  if (focusLost) $("groups-title").focus();
  $("no-groups").hidden = session.groups.length > 0;
}

function select(session, name) {
  if (session.selected !== name) {
    session.selected = name;
    session.conversations = [];
    session.more = session.loaded = false;
    session.ticked.clear();
    closeAnswer();
    hide($("conversations-failure"));
    hide($("ids-failure"));
  }
  render(session);
  return refresh(session);
}

/** The SDK's names for marks; the others are bits with a meaning for apps only. */
const MARKS = new Map([[1, "star"], [2, "unread"], [4, "fold"], [8, "hide"]]);
const markName = (value) => MARKS.get(value) ?? `mark 2^${Math.log2(value)}`;

/** What is noted on a conversation, where the server tells. */
function notes({ markList, customData }) {
  const shown = (markList ?? []).map((mark) => make("span", { className: "mark", textContent: markName(mark) }));
  if (customData) {
    const text = customData.length > CUSTOM_DATA ? `${customData.slice(0, CUSTOM_DATA)}…` : customData;
    shown.push(make("span", { className: "custom-data", textContent: text }));
  }
  return shown;
}

function renderGroup(session) {
  const { selected, conversations: list, more, ticked } = session;
  $("group-title").textContent = selected;
  const create = ({ conversationID }) => {
    const box = make("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      if (box.checked) ticked.add(conversationID);
      else ticked.delete(conversationID);
      renderTicked(session);
    });
    const label = make("label", { className: "check" }, box, make("span", { className: "id", textContent: conversationID }));
    return make("li", {}, label, make("span", { className: "notes" }));
  };
  const update = (element, conversation) => {
    element.querySelector("input").checked = ticked.has(conversation.conversationID);
    element.querySelector(".notes").replaceChildren(...notes(conversation));
  };
  // A list is another group's, with other check boxes, when the group is another one.
  if ($("conversations").dataset.group !== selected) {
    $("conversations").replaceChildren();
    $("conversations").dataset.group = selected;
  }
  const focusLost = reconcile($("conversations"), list, (item) => item.conversationID, create, update);
  if (focusLost) ($("conversations").querySelector("input") ?? $("group-title")).focus();
  $("no-conversations").hidden = list.length > 0 || !session.loaded;
  $("conversations").hidden = $("toolbar").hidden = list.length === 0;
  $("more-conversations").hidden = !more;
  $("more-conversations").textContent = more ? `There are more; these are the first ${list.length}.` : "";
  renderTicked(session);
}

function renderTicked({ conversations: list, ticked, more }) {
  const of = `${list.length}${more ? "+" : ""}`;
  $("ticked").textContent = ticked.size > 0 ? `${ticked.size} of ${of} ticked` : conversations(list.length, more);
  $("tick-all").checked = list.length > 0 && ticked.size === list.length;
  $("tick-all").indeterminate = ticked.size > 0 && ticked.size < list.length;
}

$("tick-all").addEventListener("change", (event) => {
  const session = current;
  session.ticked.clear();
  if (event.target.checked) for (const { conversationID } of session.conversations) session.ticked.add(conversationID);
  renderGroup(session);
});

/* ---- Changing groups ---- */

/** What the server said to each conversation, in its order. */
function report(box, title, done, { results, requests, failure, unsent }) {
  if (failure) {
    const rest = unsent.length > BATCH ? ` The ${unsent.length - BATCH} after them were not sent.` : "";
    const which = results.length > 0 ? ` (${conversations(results.length)} were answered before.${rest})` : "";
    show(box, failure, which);
  }
  $("answer").hidden = results.length === 0;
  if (results.length === 0) return;
  const count = { done: 0, unchanged: 0, refused: 0 };
  $("answers").replaceChildren(...results.map(({ conversationID, resultCode, resultInfo }) => {
    const kind = resultCode !== 0 ? "refused" : resultInfo === "" ? "done" : "unchanged";
    count[kind] += 1;
    const row = make(
      "tr",
      {},
      make("td", { className: "id", textContent: conversationID }),
      make("td", { className: "code", textContent: resultCode }),
      make("td", { className: "remark", textContent: resultInfo || done }),
    );
    row.dataset.kind = kind;
    return row;
  }));
  $("answer-title").replaceChildren(...title);
  const parts = [`${count.done} ${done}`];
  if (count.unchanged > 0) parts.push(`${count.unchanged} without a change`);
  if (count.refused > 0) parts.push(`${count.refused} refused`);
  $("answer-summary").textContent = $("announcement").textContent = `${parts.join(", ")}.`;
  $("answer-requests").textContent = `${requests.length === 1 ? "request" : "requests"} ${requests.join(", ")}`;
  $("answer").scrollIntoView({ block: "nearest" });
}

function closeAnswer() {
  $("answer").hidden = true;
}

$("close-answer").addEventListener("click", () => {
  closeAnswer();
  $("group-title").focus();
});

async function takeOut(session, groupName, ids, box) {
  const send = (conversationIDList) => call(session, "deleteConversationsFromGroup", { groupName, conversationIDList });
  const outcome = await callInBatches(ids, send);
  report(box, ["Taken out of ", named(groupName)], "removed", outcome);
  refresh(session);
  return outcome;
}

async function add(session, groupName, ids, box) {
  const send = (conversationIDList) => call(session, "addConversationsToGroup", { groupName, conversationIDList });
  const outcome = await callInBatches(ids, send);
  report(box, ["Added to ", named(groupName)], "added", outcome);
  refresh(session);
  return outcome;
}

$("take-out-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const session = current;
  const box = $("conversations-failure");
  attempt(event.target, box, async () => {
    const ids = session.conversations.map(({ conversationID }) => conversationID).filter((id) => session.ticked.has(id));
    if (ids.length === 0) throw new Failure("Tick the conversations to take out first.");
    await takeOut(session, session.selected, ids, box);
    await refresh(session);
  });
});

/** Sends the ids of the text field; those that were not taken stay in it, to be corrected. */
function sendIds(action) {
  const session = current;
  const box = $("ids-failure");
  attempt($("ids-form"), box, async () => {
    const ids = lines($("ids").value);
    if (ids.length === 0) throw new Failure("Write ids of conversations first, one per line.");
    const { results, unsent } = await action(session, session.selected, ids, box);
    const refused = results.filter(({ resultCode }) => resultCode !== 0).map(({ conversationID }) => conversationID);
    $("ids").value = [...refused, ...unsent].join("\n");
  });
}

$("ids-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sendIds(add);
});
$("take-out-ids").addEventListener("click", () => sendIds(takeOut));

/** A dialog with a form, which closes when what was asked for is done. */
function dialog(name, open, submit) {
  const [element, form] = [$(`${name}-dialog`), $(`${name}-form`)];
  const box = form.querySelector(".failure");
  form.querySelector("[data-close]").addEventListener("click", () => element.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const session = current;
    attempt(form, box, async () => {
      await submit(session);
      element.close();
      // The button that opened it may be gone; what was changed is the place to go on.
      (session.selected === null ? $("groups-title") : $("group-title")).focus();
    });
  });
  return () => {
    form.reset();
    hide(box);
    element.showModal();
    open(current);
  };
}

$("new-group").addEventListener("click", dialog("create", () => {}, async (session) => {
  const groupName = $("create-name").value;
  const ids = lines($("create-ids").value);
  const send = (conversationIDList, first) =>
    call(session, first ? "createConversationGroup" : "addConversationsToGroup", { groupName, conversationIDList });
  // Without ids it is for the server to say what it thinks of that.
  if (ids.length === 0) await send([], true);
  const outcome = await callInBatches(ids, send);
  if (outcome.failure && outcome.results.length === 0) throw outcome.failure;
  if (!session.groups.includes(groupName)) session.groups = [...session.groups, groupName];
  await select(session, groupName);
  report($("conversations-failure"), ["Created ", named(groupName)], "added", outcome);
}));

let renamed = null;
$("rename-group").addEventListener("click", dialog("rename", (session) => {
  renamed = session.selected;
  $("rename-name").value = renamed;
  $("rename-name").select();
}, async (session) => {
  const newName = $("rename-name").value;
  await call(session, "renameConversationGroup", { oldName: renamed, newName });
  follow(session, renamed, newName);
  await refresh(session);
}));

let doomed = null;
$("delete-group").addEventListener("click", dialog("delete", (session) => {
  doomed = session.selected;
  const size = session.loaded ? ` with ${conversations(session.conversations.length, session.more)} in it` : "";
  $("delete-text").replaceChildren("Delete ", named(quoted(doomed)), `${size}? The conversations themselves stay.`);
}, async (session) => {
  const place = session.groups.indexOf(doomed);
  await call(session, "deleteConversationGroup", { groupName: doomed });
  const left = session.groups.filter((name) => name !== doomed);
  session.groups = left;
  await select(session, left[Math.min(place, left.length - 1)] ?? null);
}));

/** A chosen group stays chosen under its new name. */
function follow(session, oldName, newName) {
  if (session.selected !== oldName) return;
  session.selected = newName;
  $("conversations").dataset.group = newName;
}

/* ---- Events ---- */

/** Reads Server-Sent Events from text that comes in pieces, cut anywhere. */
export class EventParser {
  #rest = "";
  #afterReturn = false;
  #type = "";
  #data = [];
  #id = "";
  /** What the server wants to be waited before the next connection, in milliseconds. */
  retry = null;

  /** The events that this piece completes. */
  feed(text) {
    const events = [];
    if (text === "") return events;
    // The line ended with the piece before; this is the other half of its end.
    const piece = this.#afterReturn && text.startsWith("\n") ? text.slice(1) : text;
    this.#afterReturn = text.endsWith("\r");
    const complete = (this.#rest + piece).split(/\r\n|\r|\n/);
    this.#rest = complete.pop();
    for (const line of complete) {
      const event = this.#line(line);
      if (event !== null) events.push(event);
    }
    return events;
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    // A comment, by which the server says that it is there.
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#type = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
    return null;
  }

  #dispatch() {
    const event = { id: this.#id, type: this.#type || "message", data: this.#data.join("\n") };
    const isEvent = this.#data.length > 0;
    this.#type = "";
    this.#data = [];
    return isEvent ? event : null;
  }
}

const ENDS = {
  shutdown: "the server is stopping",
  slow: "the page did not keep up",
  store: "the server could not read the events",
};

function setStream(state, failure = null) {
  $("stream-state").dataset.state = state;
  $("stream-state").textContent = state;
  $("connect").hidden = state !== "ended";
  if (failure === null) hide($("stream-failure"));
  else show($("stream-failure"), failure);
}

/** Follows the events until the session ends. EventSource would, but cannot say who is asking. */
async function watch(session) {
  const stream = { seen: null, id: null, retry: RETRY };
  setStream("connecting");
  for (let failures = 0; !session.signal.aborted;) {
    const started = performance.now();
    let failure;
    try {
      failure = await readStream(session, stream);
    } catch (error) {
      if (session.signal.aborted) return;
      if (!(error instanceof Failure)) {
        setStream("ended", new Failure(`an event could not be understood: ${error.message}`));
        throw error;
      }
      failure = error;
      if (failure.status === 401) return endSession(session, failure);
    }
    if (session.signal.aborted) return;
    if (!failure.passes) return setStream("ended", failure);
    failures = performance.now() - started > STEADY ? 1 : failures + 1;
    setStream("reconnecting", failure);
    // Not all pages at once, when a server comes back.
    const backoff = Math.min(stream.retry * 2 ** (failures - 1), MAX_RETRY) * (0.75 + Math.random() / 2);
    await pause(Math.max(backoff, failure.retryAfter ?? 0), session.signal);
  }
}

/** One connection: reads until it ends, and says why it did. */
async function readStream(session, stream) {
  const connection = new AbortController();
  const { signal } = connection;
  session.signal.addEventListener("abort", () => connection.abort(), { signal });
  let alarm;
  const alive = () => {
    clearTimeout(alarm);
    alarm = setTimeout(() => connection.abort(), SILENCE);
  };
  try {
    alive();
    const headers = { "Accept": "text/event-stream", "Authorization": `Bearer ${session.signature}` };
    if (stream.id !== null) headers["Last-Event-ID"] = stream.id;
    const response = await fetch("../v1/events", { headers, cache: "no-store", signal }).catch(() => {
      throw new Failure(NO_ANSWER);
    });
    if (!response.ok) throw Failure.of(response, await response.json().catch(() => null));
    setStream("connected");
    const parser = new EventParser();
    const decoder = new TextDecoder();
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read().catch(() => {
        throw new Failure("the connection was lost");
      });
      if (done) return new Failure("the connection was closed");
      alive();
      for (const event of parser.feed(decoder.decode(value, { stream: true }))) {
        const end = take(session, stream, event);
        if (end !== null) return end;
      }
      stream.retry = parser.retry ?? stream.retry;
    }
  } finally {
    clearTimeout(alarm);
    connection.abort();
  }
}

/** Takes in one event; gives the reason when it was the last. */
function take(session, stream, { id, type, data }) {
  if (type !== "change" && type !== "full" && type !== "end") return null;
  const event = JSON.parse(data);
  if (type === "end") {
    if (event.reason === "expired") endSession(session, new Failure("the UserSig has expired"));
    return new Failure(ENDS[event.reason] ?? `the server ended the stream: ${event.reason}`);
  }
  // Nothing happens twice.
  if (type === "change" && stream.seen !== null && event.version <= stream.seen) return null;
  if (type === "full") {
    log(describeState(event, stream.seen !== null));
  } else {
    for (const change of event.events) {
      if (change.event === "onConversationGroupNameChanged") follow(session, change.oldName, change.newName);
    }
    log(describeChange(event));
  }
  stream.seen = event.version;
  stream.id = id;
  refresh(session);
  return null;
}

/** Waits, but no longer than until the network is back or somebody looks at the page again. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = () => {
      over.abort();
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    const options = { signal: over.signal };
    window.addEventListener("online", end, options);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && end(), options);
    signal.addEventListener("abort", end, options);
  });
}

$("connect").addEventListener("click", () => {
  watch(current);
  $("log").focus();
});

function log(item) {
  $("events").prepend(item);
  while ($("events").children.length > EVENTS) $("events").lastElementChild.remove();
  $("no-events").hidden = true;
}

function entry(version, ...body) {
  const now = new Date();
  const time = make("time", { dateTime: now.toISOString(), textContent: now.toLocaleTimeString(undefined, { hour12: false }) });
  const head = make("p", { className: "head" }, time, make("span", { textContent: `version ${version}` }));
  return make("li", {}, head, ...body);
}

function listed(ids) {
  const shown = ids.slice(0, IDS).map((id) => make("li", { className: "id", textContent: id }));
  if (ids.length > IDS) shown.push(make("li", { className: "quiet", textContent: `and ${ids.length - IDS} more` }));
  return make("ul", { className: "ids-of-event" }, ...shown);
}

function describeState({ version, groups }, again) {
  const what = again ? "Everything anew" : "Everything to begin with";
  const why = "The change log does not reach back to what was seen last, or the store was restored.";
  const body = [make("p", { className: "what", textContent: `${what}: ${plural(groups.length, "group")}` })];
  if (again) body.push(make("p", { className: "quiet note", textContent: why }));
  return entry(version, ...body);
}

function describeChange(change) {
  const body = change.events.flatMap((event) => {
    const [what, ids] = sentence(event);
    const line = make("p", { className: "what" }, ...what);
    return ids.length > 0 ? [line, listed(ids)] : [line];
  });
  // As apps receive it, for who wants to see that.
  const raw = make("details", {}, make("summary", { className: "request", textContent: `request ${change.origin.requestID}` }));
  const unfold = () => raw.append(make("pre", { tabIndex: 0, textContent: JSON.stringify(change, null, 2) }));
  raw.addEventListener("toggle", unfold, { once: true });
  return entry(change.version, ...body, raw);
}

/** An event in words, and the conversations that it is about. */
function sentence(change) {
  const { event, groupName, conversationList = [] } = change;
  switch (event) {
    case "onConversationGroupCreated":
      return [[named(groupName), " created"], conversationList];
    case "onConversationGroupDeleted":
      return [[named(groupName), " deleted"], []];
    case "onConversationGroupNameChanged":
      return [[named(change.oldName), " renamed to ", named(change.newName)], []];
    case "onConversationsAddedToGroup":
      return [["Added to ", named(groupName)], conversationList];
    case "onConversationsDeletedFromGroup": {
      const why = change.reason === 0 ? "" : change.reason === 1 ? " to make room (reason 1)" : ` (reason ${change.reason})`;
      return [["Taken out of ", named(groupName), why], conversationList];
    }
    case "onConversationChanged":
      return [["Marks or custom data changed"], conversationList.map((conversation) => conversation.conversationID)];
    default:
      return [[event], []];
  }
}

/* ---- Start ---- */

const remembered = kept.read();
if (remembered === null) {
  $("sign-in").hidden = false;
  $("usersig").focus();
} else {
  $("usersig").value = remembered;
  attempt($("sign-in-form"), $("sign-in-failure"), () => signIn(remembered)).then(() => {
    $("sign-in").hidden = current !== null;
  });
}
