/** Conversations in the browser's own database; nothing of them is kept anywhere else. */

const DATABASE = "homeswarm";
const STORE = "conversations";

/**
 * Opens the database: `{isLasting, all(), put(one), remove(id), clear()}`, all of them promises.
 *
 * Where the browser has none for us, as in some private windows, it is the page's memory.
 */
export async function openKeeper() {
  try {
    return new Keeper(await opened());
  } catch {
    return new Forgetful();
  }
}

class Keeper {
  isLasting = true;

  constructor(database) {
    this.database = database;
  }

  all() {
    return this.#run("readonly", (store) => store.getAll());
  }

  put(conversation) {
    return this.#run("readwrite", (store) => store.put(conversation));
  }

  remove(id) {
    return this.#run("readwrite", (store) => store.delete(id));
  }

  clear() {
    return this.#run("readwrite", (store) => store.clear());
  }

  #run(mode, work) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(STORE, mode);
      const request = work(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
}

class Forgetful {
  isLasting = false;
  #kept = new Map();

  async all() {
    return [...this.#kept.values()];
  }

  async put(conversation) {
    this.#kept.set(conversation.id, conversation);
  }

  async remove(id) {
    this.#kept.delete(id);
  }

  async clear() {
    this.#kept.clear();
  }
}

function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  });
}
