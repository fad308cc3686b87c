/** Small settings that outlive a visit, where the browser lets them. */

const PREFIX = "homeswarm.";

/** What was stored under this name, or null. */
export function recall(name, storage = "localStorage") {
  try {
    return globalThis[storage].getItem(PREFIX + name);
  } catch {
    return null; // Forbidden, as in some private windows: nothing is kept, everything else works.
  }
}

/** Stores a text; null forgets it. */
export function store(name, value, storage = "localStorage") {
  try {
    if (value === null) globalThis[storage].removeItem(PREFIX + name);
    else globalThis[storage].setItem(PREFIX + name, value);
  } catch {
    // As above, or full.
  }
}
