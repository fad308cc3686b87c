/** All conversations of this browser: in memory, in its database, and in its other tabs. */

import { matches, newConversation } from "/page/chat/conversation.js";
import { openKeeper } from "/page/chat/keeper.js";
import { DEFAULTS, cleanSettings } from "/page/chat/settings.js";
import { recall, store } from "/page/lib/storage.js";

/** Made by `Book.opened`. Whoever shows it is told of changes: `subscribe(listener)`. */
export class Book {
  #all = new Map();
  #listeners = new Set();
  /** The conversations that are being answered here: what others keep of them is older. */
  busy = new Set();
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("homeswarm") : null;

  /** Opens what was kept. */
  static async opened() {
    const book = new Book();
    book.keeper = await openKeeper();
    await book.#load();
    // What was running when its page was left has broken off.
    for (const each of book.#all.values()) settle(each);
    book.current = book.#all.get(recall("current", "sessionStorage")) ?? null;
    book.#channel?.addEventListener("message", () => book.#load().then(() => book.tell()));
    return book;
  }

  /** Whether conversations outlive this page. */
  get isLasting() {
    return this.keeper.isLasting;
  }

  get size() {
    return this.#all.size;
  }

  /** Those about a search, the latest first. */
  list(search = "") {
    const found = [...this.#all.values()].filter((each) => !search.trim() || matches(each, search));
    return found.sort((left, right) => right.changed - left.changed);
  }

  /** Turns to a conversation, or with null to a new one, which is kept once something is said. */
  open(conversation) {
    this.current = conversation;
    store("current", conversation?.id ?? null, "sessionStorage");
    this.tell();
  }

  /** Begins the conversation that is then the current one. */
  begin(model, settings) {
    const conversation = newConversation(model, settings);
    this.#all.set(conversation.id, conversation);
    this.open(conversation);
    return conversation;
  }

  /** Keeps a conversation as it is now. */
  async keep(conversation) {
    if (this.#all.get(conversation.id) !== conversation) return; // Deleted meanwhile.
    await this.#change(this.keeper.put(conversation));
  }

  /** Adds conversations from a file. */
  async add(conversations) {
    for (const each of conversations) this.#all.set(each.id, each);
    for (const each of conversations) await this.keep(each);
  }

  async remove(conversation) {
    this.#all.delete(conversation.id);
    if (this.current === conversation) this.open(null);
    await this.#change(this.keeper.remove(conversation.id));
  }

  async clear() {
    this.#all.clear();
    this.open(null);
    await this.#change(this.keeper.clear());
  }

  /** Settings and model that a new conversation begins with: those that were used last. */
  get latest() {
    let settings = DEFAULTS;
    try {
      settings = JSON.parse(recall("settings") ?? "null");
    } catch {
      // Not ours: as if there were none.
    }
    return { settings: cleanSettings(settings), model: recall("model") ?? "" };
  }

  set latest({ settings, model }) {
    store("settings", JSON.stringify(settings));
    store("model", model);
  }

  /** Calls `listener` after each change; returns how to end that. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Has everything shown as it is now. */
  tell() {
    for (const listener of this.#listeners) listener();
  }

  async #change(promise) {
    this.tell();
    try {
      await promise;
      this.#channel?.postMessage("changed");
    } catch (error) {
      // Full, or taken away: what is shown stays, until the page is left.
      this.failure = error;
      this.tell();
    }
  }

  /** Takes on what is kept. */
  async #load() {
    const kept = await this.keeper.all();
    const ids = new Set(kept.map((each) => each.id));
    for (const id of this.#all.keys()) {
      if (!ids.has(id) && !this.busy.has(id)) this.#all.delete(id);
    }
    for (const each of kept) {
      const mine = this.#all.get(each.id);
      if (mine === undefined) this.#all.set(each.id, each);
      else if (!this.busy.has(each.id)) Object.assign(mine, each);
    }
    if (this.current && !this.#all.has(this.current.id)) this.current = null;
  }
}

function settle(conversation) {
  for (const message of conversation.messages) {
    if (message.state === "running") {
      message.state = "broken";
      message.error = { code: "left" };
    }
  }
}
