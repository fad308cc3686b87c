/** Answers that come: what is said so far, how fast, and what became of them. */

import { addAnswer, addQuestion, cutAt, swapOther } from "/page/chat/conversation.js";
import { ask } from "/page/chat/asking.js";
import { requestOf } from "/page/chat/settings.js";

/** Milliseconds between two looks at an answer that grows; what costs much is done less often. */
const LEAST_PAUSE = 70;

/** Milliseconds between two times that a growing answer is kept. */
const KEEP_EVERY = 2000;

/** Changes of a route that are shown, the latest: as many as a trace has. */
const MOST_CHANGES = 8;

/**
 * Has questions answered, one at a time in each conversation.
 *
 * An answer's `facts` are `{by, tokens, rate, seconds, changes, trace}` as far as they are known, and
 * its `error` is `{status, code, param, message, retryAfter}`.
 */
export class Answering {
  #running = new Map();

  /** Is told what readers of a screen should hear: see `Announcer.hear`. */
  announce = () => {};

  constructor(api, book) {
    Object.assign(this, { api, book });
  }

  /**
   * What is known of the answer that is coming in a conversation: `{asked, begun, latest}`, the
   * times at which it was asked for, began and had its newest piece, `num_pieces`, and the `changes`
   * of its route.
   */
  progress(conversation) {
    return this.#running.get(conversation?.id);
  }

  /** Asks something new. */
  say(conversation, text) {
    addQuestion(conversation, text);
    return this.#answer(conversation, addAnswer(conversation));
  }

  /** Asks again: what was said from this answer on is put away. */
  retry(conversation, index) {
    cutAt(conversation, index);
    return this.#answer(conversation, addAnswer(conversation));
  }

  /** Asks something else instead: what was said from this question on is put away. */
  edit(conversation, index, text) {
    cutAt(conversation, index);
    return this.say(conversation, text);
  }

  /** Shows what was put away last, in place of what has come since. */
  swap(conversation) {
    swapOther(conversation);
    conversation.changed = Date.now();
    return this.book.keep(conversation);
  }

  /** Lets the last answer go on where it ended. */
  resume(conversation) {
    const answer = conversation.messages.at(-1);
    answer.state = "running";
    delete answer.error;
    return this.#answer(conversation, answer);
  }

  /** Ends the answer that is coming; what has come of it stays. */
  stop(conversation) {
    this.#running.get(conversation?.id)?.controller.abort();
  }

  async #answer(conversation, answer) {
    const progress = { controller: new AbortController(), asked: now(), begun: 0, latest: 0 };
    // One that goes on keeps what became of its route before.
    Object.assign(progress, { num_pieces: 0, changes: answer.facts?.changes ?? [] });
    this.#running.set(conversation.id, progress);
    this.book.busy.add(conversation.id);
    this.announce("begin", "");
    const pace = new Pace(() => this.book.tell());
    const keep = () => this.book.keep(conversation);
    const keeping = setInterval(keep, KEEP_EVERY);
    addEventListener("pagehide", keep);
    // The answer itself grows only when it is shown, as one text of many pieces costs its length.
    const onText = (text) => {
      progress.latest = now();
      progress.begun ||= progress.latest;
      progress.num_pieces += 1;
      answer.text += text;
      this.announce("text", text);
      pace.ask();
    };
    const onChange = (change) => {
      progress.changes = [...progress.changes, change].slice(-MOST_CHANGES);
      this.announce("change", change);
      pace.ask();
    };
    const body = requestOf(conversation);
    keep();
    try {
      const facts = await ask(this.api, body, { onText, onChange }, progress.controller.signal);
      answer.state = facts.finish === "length" ? "limit" : "done";
      answer.facts = told(facts, progress);
    } catch (error) {
      this.#fail(answer, progress, error);
    } finally {
      clearInterval(keeping);
      removeEventListener("pagehide", keep);
      pace.end();
      this.#running.delete(conversation.id);
      conversation.changed = Date.now();
      await this.book.keep(conversation);
      this.book.busy.delete(conversation.id);
      this.announce("end", answer.state);
    }
  }

  #fail(answer, progress, error) {
    answer.facts = told(error.facts ?? {}, progress);
    if (error.name === "AbortError") {
      answer.state = "stopped";
      return;
    }
    const { status = 0, code = "page", param = "", message, retryAfter = null } = error;
    answer.state = "broken";
    answer.error = { status, code, param, message, retryAfter };
    if (code === "page") reportError(error); // Our own fault: the console has it, too.
  }
}

/** Has something shown, not more often than the machine can. */
class Pace {
  #timer = null;
  #pause = LEAST_PAUSE;

  constructor(show) {
    this.show = show;
  }

  ask() {
    this.#timer ??= setTimeout(() => this.#run(), this.#pause);
  }

  end() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #run() {
    const started = now();
    this.#timer = null;
    this.show();
    // After the next frame it is laid out and painted: that is what it has cost.
    requestAnimationFrame(() =>
      setTimeout(() => (this.#pause = Math.max(LEAST_PAUSE, 3 * (now() - started - 16)))),
    );
  }
}

function told({ by = null, usage, trace }, progress) {
  const { asked, begun, changes, num_pieces: numPieces } = progress;
  const seconds = (now() - asked) / 1000;
  const tokens = usage?.completion_tokens ?? trace?.completion ?? null;
  const following = begun ? (now() - begun) / 1000 : 0;
  const guessed = following > 0 && numPieces > 1 ? (numPieces - 1) / following : null;
  const rate = trace?.tokens_per_second || guessed;
  return { by, tokens, seconds, rate, changes, trace: trace ?? null };
}

function now() {
  return performance.now();
}
