/** The swarm as the server tells it, live; connected again whenever the connection is lost. */

import { events } from "/page/lib/api.js";

const QUIET = 45_000; // The server says something every 15 s: after three times that it is away.
const SHORTEST = 1_000;
const LONGEST = 15_000;

/**
 * Follows `/page/api/swarm/events` until `signal` is aborted.
 *
 * `tell({overview})`, `tell({path})`, `tell({trouble})` pass on what comes; `tell({lost, error})`
 * says since when (ms since 1970) nothing does, and `tell({lost: null})` that it does again.
 */
export async function follow(api, tell, signal) {
  let wait = SHORTEST;
  while (!signal.aborted) {
    let error = null;
    try {
      await connection(api, signal, (change) => {
        wait = SHORTEST;
        tell({ ...change, lost: null });
      });
    } catch (failure) {
      error = failure;
    }
    if (signal.aborted) return;
    tell({ lost: Date.now(), error });
    await pause(wait, signal);
    wait = Math.min(2 * wait, LONGEST);
  }
}

async function connection(api, signal, tell) {
  const mine = new AbortController();
  const stop = () => mine.abort();
  signal.addEventListener("abort", stop);
  let timer = setTimeout(stop, QUIET);
  try {
    const response = await api.open("/page/api/swarm/events", { signal: mine.signal });
    for await (const { event, data } of events(response)) {
      clearTimeout(timer);
      timer = setTimeout(stop, QUIET);
      if (event === "overview") tell({ overview: JSON.parse(data), trouble: null });
      else if (event === "path") tell({ path: JSON.parse(data) });
      else if (event === "trouble") tell({ trouble: JSON.parse(data).message });
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
