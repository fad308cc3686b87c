/** One request to the gateway, from its body to what became of it. */

import { ApiError, events } from "/page/lib/api.js";

/**
 * Asks, and calls `onText(text)` for each bit of the answer, and `onChange(change)` when its route
 * has changed: `{kind, tokens, gone, came}`, as in a trace's `changes`.
 *
 * Resolves to `{by, finish, usage, trace}` once the answer has ended: who has answered (`swarm` or
 * `fallback`), why it ended, its tokens, and where its time went (docs/observing.md). Rejects with
 * `ApiError`, whose `facts` are what is known by then, or with the `AbortError` of `signal`.
 */
export async function ask(api, body, { onText, onChange }, signal) {
  const headers = { "X-Homeswarm-Trace": "1" };
  const response = await api.open("/v1/chat/completions", { json: body, headers, signal });
  const facts = { by: response.headers.get("X-Homeswarm-Answered-By") };
  let failure = null;
  try {
    for await (const { event, data, comment } of events(response)) {
      // The trace is the last line, also after an error.
      if (comment?.startsWith("change ")) onChange(JSON.parse(comment.slice(7)));
      else if (comment?.startsWith("trace ")) facts.trace = JSON.parse(comment.slice(6));
      else if (event === "error") failure = refusal(JSON.parse(data));
      else if (data !== null && data !== "[DONE]") take(JSON.parse(data), facts, onText);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    failure = new ApiError(0, error.message, { code: "broken" });
  }
  if (!failure && !facts.finish) failure = new ApiError(0, "", { code: "broken" });
  if (failure) throw Object.assign(failure, { facts });
  return facts;
}

function take({ choices, usage }, facts, onText) {
  if (usage) facts.usage = usage;
  for (const { delta, finish_reason: finish } of choices) {
    if (delta.content) onText(delta.content);
    if (finish) facts.finish = finish;
  }
}

/** An error in the middle of a stream, whose status was told long before. */
function refusal({ error: { message, code, type, param } }) {
  return new ApiError(503, message, { code: code || type || "", param });
}
