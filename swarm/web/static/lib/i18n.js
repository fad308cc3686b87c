/** Words in the reader's language: flat tables of `{key: text}`, with `{name}` for values. */

import { recall, store } from "/page/lib/storage.js";

/** Languages that every text exists in. */
export const LANGUAGES = { en: "English", es: "Español" };

/** The language that was chosen here, or the first of the browser's that there is. */
export function pickLanguage() {
  const wanted = [recall("language"), ...(navigator.languages ?? [])];
  const known = wanted.map((tag) => tag?.slice(0, 2)).find((tag) => tag in LANGUAGES);
  return known ?? "en";
}

/** Keeps a choice for the next visit. */
export function saveLanguage(language) {
  store("language", language);
}

/**
 * A function `t(key, values)` that says a text in one language.
 *
 * Where `values.n` is given, `key_one` is taken instead of `key` if the language says so of this
 * number. `t.language`, `t.number(value, digits)` and `t.time(date)` write as this language does.
 */
export function translator(language, texts) {
  const plurals = new Intl.PluralRules(language);
  const t = (key, values = {}) => {
    const special = "n" in values ? `${key}_${plurals.select(values.n)}` : key;
    const text = texts[special] ?? texts[key];
    if (text === undefined) throw new Error(`no text for ${key} in ${language}`);
    return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
  };
  t.language = language;
  t.number = (value, digits = 0) =>
    value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  t.time = (date) =>
    new Date(date).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
  return t;
}
