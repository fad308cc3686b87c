/** The key of who asks: in memory, in this tab's storage, or, if asked to, in the browser's. */

import { recall, store } from "/page/lib/storage.js";

let current = null;

/** The key, or an empty text. */
export function keptKey() {
  current ??= recall("key", "sessionStorage") ?? recall("key") ?? "";
  return current;
}

/** Takes a key on; it outlives the tab only with `remember`. An empty one forgets all. */
export function saveKey(key, remember) {
  current = key;
  store("key", key || null, "sessionStorage");
  store("key", key && remember ? key : null);
}

/** Takes the key from `#key=…`, and it out of the address bar and history. Whether one was there. */
export function keyFromAddress() {
  const found = location.hash.match(/^#key=([^&]+)(?:&(.*))?$/);
  if (!found) return false;
  saveKey(decoded(found[1]), false);
  history.replaceState(null, "", location.pathname + location.search + (found[2] ? `#${found[2]}` : ""));
  return true;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // A stray percent sign belongs to the key.
  }
}
