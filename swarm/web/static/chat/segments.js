/**
 * Cuts a growing Markdown text into segments, so that only the last one is rendered again.
 *
 * A cut lies at a blank line, where a block of the top level ends. What is too long for a
 * paragraph, such as 100 KB in one line, is not read as Markdown at all: some inputs take a parser
 * quadratic time, and somebody hostile would find them.
 */

/** Characters that a segment has at least, so that there are never too many of them. */
const LEAST = 300;

/** Characters that a segment outside of code may have, and inside. */
const MOST = 12_000;
const MOST_CODE = 200_000;

/** Characters of a piece of plain text. */
const PIECE = 8_000;

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const INNER_FENCE = /^\s*(`{3,}|~{3,})(.*)$/;
const LIST = /^ {0,3}([-*+]|\d{1,9}[.)])( |$)/;

/** A text that grows; `segments` are those that will not change any more. */
export class Segmenter {
  constructor() {
    this.segments = [];
    this.offset = 0;
    this.isPlain = false;
  }

  /** All segments `{source, isPlain}` of this text, which begins with what was pushed before. */
  push(text) {
    while (this.#cut(text));
    const rest = text.slice(this.offset);
    return rest ? [...this.segments, { source: rest, isPlain: this.isPlain }] : this.segments;
  }

  /** Closes one more segment, if there is one. */
  #cut(text) {
    if (this.isPlain) return this.#cutPlain(text);
    const { end, fenced } = boundary(text, this.offset);
    if (end > 0) return this.#close(text, end);
    const length = text.length - this.offset;
    if (length <= (fenced ? MOST_CODE : MOST)) return false;
    this.isPlain = true;
    return true;
  }

  #cutPlain(text) {
    const blank = text.indexOf("\n\n", this.offset);
    const end = blank < 0 ? text.length : blank + 2;
    if (end - this.offset > PIECE) return this.#close(text, pieceEnd(text, this.offset));
    if (blank < 0) return false;
    this.#close(text, end);
    this.isPlain = false;
    return true;
  }

  #close(text, end) {
    this.segments = [
      ...this.segments,
      { source: text.slice(this.offset, end), isPlain: this.isPlain },
    ];
    this.offset = end;
    return true;
  }
}

/** Where the first segment from `start` ends (0: not yet), and whether the text is inside code. */
function boundary(text, start) {
  let fence = null;
  let inList = false;
  let blank = false;
  let at = start;
  for (;;) {
    const end = text.indexOf("\n", at);
    // The last line may still become something else.
    if (end < 0 || end - at > MOST) return { end: 0, fenced: fence !== null };
    const line = text.slice(at, end);
    if (fence !== null) {
      if (closes(line, fence)) fence = null;
      blank = false;
    } else if (line.trim() === "") {
      blank = true;
    } else {
      const isLoose = /^\s/.test(line) || (inList && LIST.test(line));
      if (blank && !isLoose && at - start >= LEAST) return { end: at, fenced: false };
      if (!isLoose || at === start) inList = LIST.test(line);
      fence = opened(line, inList);
      blank = false;
    }
    at = end + 1;
    if (at - start > MOST_CODE) return { end: 0, fenced: false };
  }
}

/** The fence that a line opens, or null. In a list it may be indented. */
function opened(line, inList) {
  const found = line.match(inList ? INNER_FENCE : FENCE);
  if (!found || (found[1][0] === "`" && found[2].includes("`"))) return null;
  return found[1];
}

function closes(line, fence) {
  const found = line.match(INNER_FENCE);
  return found !== null && found[1].startsWith(fence) && found[2].trim() === "";
}

/** Where a piece of plain text ends: after a line or a word, if one ends soon enough. */
function pieceEnd(text, start) {
  const most = start + PIECE;
  for (const mark of ["\n", " "]) {
    const found = text.lastIndexOf(mark, most - 1);
    if (found > most - PIECE / 4) return found + 1;
  }
  const isTorn = /[\uD800-\uDBFF]/.test(text[most - 1]);
  return isTorn ? most - 1 : most;
}
