/** Asking the server that this page comes from. */

/** The server said no (`status`), or was not reached or broke off (`status` 0). */
export class ApiError extends Error {
  /**
   * `code` and `param` are the server's own words for why, `body` is all that it says, if that is
   * JSON; `retryAfter` is in seconds.
   */
  constructor(status, message, { code = "", param = "", retryAfter = null, body = null } = {}) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, code, param, retryAfter, body });
  }
}

/**
 * A function `api(path, {method, json, headers, signal})` that sends JSON and resolves to JSON.
 *
 * Every request carries the key that `getKey()` tells, and of a 401 `onRefused` is told. Rejects
 * with `ApiError`, or with the `AbortError` of an aborted `signal`. `api.open` resolves to the
 * `Response` instead, and `api.events(path, onEvent, signal)` calls `onEvent(name, data)` for each
 * event of an event stream, with its data parsed, until the stream ends.
 */
export function makeApi(getKey, onRefused = () => {}) {
  async function open(path, { method, json, headers = {}, signal } = {}) {
    const key = getKey();
    const request = { headers: { ...headers }, signal, cache: "no-store", redirect: "error" };
    request.method = method ?? (json === undefined ? "GET" : "POST");
    if (key) request.headers.Authorization = `Bearer ${key}`;
    if (json !== undefined) {
      request.body = JSON.stringify(json);
      request.headers["Content-Type"] = "application/json";
    }
    const response = await reached(fetch(path, request));
    if (response.ok) return response;
    if (response.status === 401) onRefused();
    throw await refusal(response);
  }
  const api = async (path, options) => {
    const response = await open(path, options);
    return reached(response.status === 204 ? null : response.json());
  };
  api.open = open;
  api.events = async (path, onEvent, signal) => {
    const response = await open(path, { headers: { Accept: "text/event-stream" }, signal });
    for await (const { event, data } of events(response)) {
      if (data !== null) onEvent(event, JSON.parse(data));
    }
  };
  return api;
}

/**
 * The events of a response as they come (https://html.spec.whatwg.org/#server-sent-events):
 * `{event, data}`, or `{comment}` for a comment. Rejects as `makeApi` says.
 */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reached(reader.read());
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
        if (line === "") {
          if (data.length) yield { event, data: data.join("\n"), comment: null };
          event = "message";
          data = [];
        } else if (line.startsWith(":")) {
          yield { event: null, data: null, comment: line.slice(1).trim() };
        } else if (line.startsWith("data:")) {
          data.push(line.slice(5).replace(/^ /, ""));
        } else if (line.startsWith("event:")) {
          event = line.slice(6).trim();
        }
      }
    }
  } finally {
    // Who stops reading hangs up: the server then computes no more.
    reader.cancel().catch(() => {});
  }
}

/** Has a connection that fails or breaks off be an `ApiError`. */
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, error.message, { code: "unreachable" });
  }
}

async function refusal(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  const { message, code, type, param } = typeof error === "string" ? { message: error } : error;
  const why = { code: code || type || "", param: param || "", retryAfter, body };
  return new ApiError(response.status, message || response.statusText, why);
}
