/** What a reader may set: how the model chooses its words, and what it is told beforehand. */

/**
 * Numbers as the API takes them. One that is null is not sent, so that the model's own holds;
 * `usual` is what that comes to.
 */
export const NUMBERS = [
  { name: "temperature", min: 0, max: 2, step: 0.05, usual: 1 },
  { name: "top_p", min: 0, max: 1, step: 0.01, usual: 1 },
  { name: "max_tokens", min: 1, max: 2 ** 31 - 1, step: 1, usual: null },
  { name: "presence_penalty", min: -2, max: 2, step: 0.1, usual: 0 },
  { name: "frequency_penalty", min: -2, max: 2, step: 0.1, usual: 0 },
  { name: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, usual: null },
];

const MOST_STOPS = 4;

/** Nothing set. */
export const DEFAULTS = Object.freeze({
  system: "",
  stop: "",
  ...Object.fromEntries(NUMBERS.map(({ name }) => [name, null])),
});

/** Settings from somewhere else: only what is known, within its limits. */
export function cleanSettings(from) {
  const settings = { ...DEFAULTS };
  for (const name of ["system", "stop"]) {
    if (typeof from?.[name] === "string") settings[name] = from[name];
  }
  for (const field of NUMBERS) settings[field.name] = inLimits(field, from?.[field.name]);
  return settings;
}

/** A number within a field's limits; null for anything else. */
export function inLimits({ min, max, step }, value) {
  if (value === null || value === undefined || value === "" || !Number.isFinite(Number(value))) {
    return null;
  }
  const number = Math.min(max, Math.max(min, Number(value)));
  return step === 1 ? Math.round(number) : number;
}

/** Whether anything is set. */
export function isChanged(settings) {
  return Object.keys(DEFAULTS).some((name) => settings[name] !== DEFAULTS[name]);
}

/** The body of a request that goes on with a conversation. */
export function requestOf({ model, settings, messages }) {
  const said = messages.map(({ role, text }) => ({ role, content: text }));
  // An answer that has not begun says nothing.
  if (said.at(-1)?.role === "assistant" && said.at(-1).content === "") said.pop();
  const body = { model, messages: said, stream: true, stream_options: { include_usage: true } };
  if (settings.system.trim()) {
    body.messages = [{ role: "system", content: settings.system }, ...said];
  }
  for (const { name } of NUMBERS) if (settings[name] !== null) body[name] = settings[name];
  const stops = settings.stop.split("\n").filter((line) => line !== "").slice(0, MOST_STOPS);
  if (stops.length) body.stop = stops;
  return body;
}
