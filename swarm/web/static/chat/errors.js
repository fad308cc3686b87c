/** Errors in words that say what to do. */

/** What helps against each kind of error: keys of texts are `error_KIND` and `error_KIND_do`. */
const KINDS = {
  unreachable: ["retry"],
  broken: ["continue", "retry"],
  left: ["continue", "retry"],
  busy: ["retry"],
  no_route: ["continue", "retry"],
  stopping: ["continue", "retry"],
  too_long: ["settings"],
  unknown_model: [],
  setting: ["settings"],
  key: ["retry"],
  origin: [],
  failed: ["retry"],
};

const CODES = {
  unreachable: "unreachable",
  broken: "broken",
  left: "left",
  rate_limit_exceeded: "busy",
  no_route: "no_route",
  service_unavailable_error: "stopping",
  context_length_exceeded: "too_long",
  model_not_found: "unknown_model",
  invalid_api_key: "key",
};

/**
 * What an answer's error means: `{kind, actions}`.
 *
 * `actions` are among `retry`, `continue` and `settings`.
 */
export function explain({ status, code, param }) {
  const kind = CODES[code] ?? byStatus(status, param);
  return { kind, actions: KINDS[kind] };
}

function byStatus(status, param) {
  if (status === 403) return "origin";
  if (status === 400) return param ? "setting" : "failed";
  return "failed";
}

/**
 * The blocks that a model lacks now, as `[[start, end], …]`; empty where that is not known.
 */
export async function missingBlocks(api, model) {
  try {
    const health = await api("/health");
    return health.models?.[model]?.missing ?? [];
  } catch (error) {
    // The gateway says with its status, too, that something is missing.
    return error.body?.models?.[model]?.missing ?? [];
  }
}
