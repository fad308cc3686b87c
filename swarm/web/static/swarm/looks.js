/** What tells peers apart at sight: a colour, a pattern and letters, the same for as long as one looks. */

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PATTERNS = 4;
const HUES = [28, 205, 140, 285, 340, 175, 50, 235, 100, 315, 5, 260];

/** Gives out places, the lowest free one first, so that whoever stays keeps its looks. */
export class Looks {
  #places = new Map();

  /** Keeps the places of these ids, and gives new ones to those that have none. */
  meet(ids) {
    const here = new Set(ids);
    for (const id of this.#places.keys()) if (!here.has(id)) this.#places.delete(id);
    const taken = new Set(this.#places.values());
    let next = 0;
    for (const id of here) {
      if (this.#places.has(id)) continue;
      while (taken.has(next)) next += 1;
      taken.add(next);
      this.#places.set(id, next);
    }
  }

  /** `{letters, hue, pattern}` of one that was met. */
  of(id) {
    const place = this.#places.get(id) ?? 0;
    const round = Math.floor(place / LETTERS.length);
    return {
      letters: LETTERS[place % LETTERS.length] + (round ? String(round + 1) : ""),
      hue: HUES[place % HUES.length],
      pattern: Math.floor(place / HUES.length + place) % PATTERNS,
    };
  }
}
