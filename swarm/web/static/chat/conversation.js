/**
 * Conversations as plain values.
 *
 * A conversation is `{id, title, isNamed, created, changed, model, settings, messages}`; times are
 * milliseconds since 1970. `other` is what has stood in place of the messages from its `index` on,
 * `{index, messages}`, or null. A message is `{id, role, text}`, and the model's also have `model`,
 * `state`, `error` and `facts`: see `STATES` and `answering.js`.
 */

import { cleanSettings } from "/page/chat/settings.js";

/** How an answer stands: `limit` means that it has as many tokens as it may. */
export const STATES = ["running", "done", "limit", "stopped", "broken"];

const MOST_TITLE = 60;
const FORMAT = "homeswarm-conversations";

/** A new, empty one. */
export function newConversation(model, settings) {
  const now = Date.now();
  return {
    id: newId(),
    title: "",
    isNamed: false,
    created: now,
    changed: now,
    model,
    settings: { ...settings },
    messages: [],
    other: null,
  };
}

/** Takes away the messages from `index` on, which `swapOther` brings back. */
export function cutAt(conversation, index) {
  const { messages, other } = conversation;
  const cut = messages.splice(index);
  // An answer of which nothing has come takes nobody's place.
  if (cut.some(({ role, text }) => role === "assistant" && text)) {
    conversation.other = { index, messages: cut };
  } else if (other && other.index > index) {
    conversation.other = null; // What it goes on from is not there any more.
  }
}

/** Puts back what was there before, in place of what has come since, which is kept instead. */
export function swapOther(conversation) {
  const { index, messages } = conversation.other;
  const cut = conversation.messages.splice(index, Infinity, ...messages);
  conversation.other = { index, messages: cut };
}

/** A name that nothing else has. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (byte) => byte.toString(36).padStart(2, "0")).join("");
}

/** Adds a message of the reader's; the first one is the title until there is another. */
export function addQuestion(conversation, text) {
  conversation.messages.push({ id: newId(), role: "user", text });
  if (!conversation.isNamed && conversation.messages.length === 1) {
    conversation.title = titleOf(text);
  }
  conversation.changed = Date.now();
}

/** Adds an answer that is still empty, and returns it. */
export function addAnswer(conversation) {
  const { model } = conversation;
  const answer = { id: newId(), role: "assistant", text: "", model, state: "running" };
  conversation.messages.push(answer);
  return answer;
}

/** A text's first line, cut at a word. */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].trim();
  if (line.length <= MOST_TITLE) return line;
  const cut = line.slice(0, MOST_TITLE);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), MOST_TITLE / 2)).trimEnd()}…`;
}

/** Whether one is about a search, in its title or in what was said. */
export function matches(conversation, search) {
  const wanted = search.trim().toLocaleLowerCase();
  const texts = [conversation.title, ...conversation.messages.map((message) => message.text)];
  return texts.some((text) => text.toLocaleLowerCase().includes(wanted));
}

/** As a text for people. `who` says who speaks, by role. */
export function asMarkdown(conversation, who) {
  const parts = [`# ${conversation.title}`];
  for (const { role, text } of conversation.messages) parts.push(`**${who[role]}**`, text);
  return `${parts.join("\n\n")}\n`;
}

/** As a text from which `readExport` makes the same again. */
export function asExport(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

/** Conversations out of a file; throws `TypeError` for anything that is none of ours. */
export function readExport(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new TypeError("no JSON");
  }
  if (found?.format !== FORMAT || !Array.isArray(found.conversations)) throw new TypeError(FORMAT);
  return found.conversations.map(checked);
}

/** One from outside: only what is known, each of its own type, under a new name. */
function checked(from) {
  const conversation = newConversation(asText(from.model), cleanSettings(from.settings));
  if (!Array.isArray(from.messages)) throw new TypeError("messages");
  conversation.messages = from.messages.map(checkedMessage);
  if (from.other) conversation.other = checkedOther(from.other, conversation.messages);
  conversation.title = asText(from.title).slice(0, 200);
  conversation.isNamed = Boolean(from.isNamed);
  for (const name of ["created", "changed"]) {
    if (Number.isFinite(from[name])) conversation[name] = from[name];
  }
  return conversation;
}

function checkedOther({ index, messages }, beside) {
  if (!Number.isInteger(index) || index < 0 || index >= beside.length) throw new TypeError("index");
  if (!Array.isArray(messages)) throw new TypeError("messages");
  return { index, messages: messages.map(checkedMessage) };
}

function checkedMessage({ role, text, model, state, facts }) {
  if (!["user", "assistant"].includes(role)) throw new TypeError("role");
  const message = { id: newId(), role, text: asText(text) };
  if (role === "user") return message;
  message.model = model === undefined ? "" : asText(model);
  message.state = STATES.includes(state) && state !== "running" ? state : "done";
  // Why, it may say in words of its own: they are not taken on.
  if (message.state === "broken") message.error = { code: "left" };
  // What was measured is shown as it is; a file that somebody has written tells nothing.
  if (Number.isFinite(facts?.tokens)) message.facts = { tokens: facts.tokens };
  return message;
}

function asText(value) {
  if (typeof value !== "string") throw new TypeError("text");
  return value;
}
