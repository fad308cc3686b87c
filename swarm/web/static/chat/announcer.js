/** What readers of a screen hear of an answer: whole sentences now and then, never each token. */

import { changeOf } from "/page/chat/route.js";

/** Milliseconds between two announcements. */
const EVERY = 5000;

/** Characters of an announcement: whoever wants more reads the message. */
const MOST = 600;

/** Collects what is to be heard; `say(text)` puts it into a live region. */
export class Announcer {
  #heard = "";
  #last = 0;

  constructor(t, say) {
    Object.assign(this, { t, say });
  }

  /** `begin`, `text` with a bit of the answer, `change` of its route, or `end` with its state. */
  hear(kind, text) {
    if (kind === "begin") {
      this.#heard = "";
      this.#last = performance.now();
      this.say(this.t("say_begin"));
    } else if (kind === "text") {
      // Of a flood nothing is kept that would not be said.
      if (this.#heard.length < 4 * MOST) this.#heard += text;
      if (performance.now() - this.#last >= EVERY) this.#flush(sentencesOf(this.#heard));
    } else if (kind === "change") {
      this.say(changeOf(text, this.t));
    } else {
      this.say([plain(this.#heard), this.t(`say_${text}`)].filter(Boolean).join(" "));
    }
  }

  #flush(length) {
    if (length === 0) return;
    const said = this.#heard.slice(0, length);
    this.#heard = this.#heard.slice(length);
    this.#last = performance.now();
    this.say(plain(said));
  }
}

/** How much of a text are whole sentences. */
function sentencesOf(text) {
  const ends = [...text.matchAll(/[.!?…。！？]["')\]]?\s|\n/g)];
  const last = ends.at(-1);
  return last === undefined ? 0 : last.index + last[0].length;
}

/** Without the marks of Markdown. */
function plain(text) {
  const said = text.replace(/[*_`#>|~]+/g, "").replace(/\s+/g, " ").trim();
  return said.length > MOST ? `${said.slice(0, MOST)}…` : said;
}
