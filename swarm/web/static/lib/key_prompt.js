/** Asks for the key where the server wants one. */

import { html, useState } from "/page/vendor/preact.js";

/** A form that calls `enter(key, remember)`; `refused` says that the last key was not taken. */
export function KeyPrompt({ t, refused, enter }) {
  const [key, setKey] = useState("");
  const [remember, setRemember] = useState(false);
  const send = (event) => {
    event.preventDefault();
    if (key.trim()) enter(key.trim(), remember);
  };
  return html`<form class="key-prompt card" onSubmit=${send}>
    <h1>${t("key_title")}</h1>
    <p id="key-help">${t("key_help")}</p>
    ${refused && html`<p class="error-text" role="alert">${t("key_refused")}</p>`}
    <label for="key">${t("key_label")}</label>
    <input id="key" class="field" type="password" autocomplete="off" spellcheck=${false}
      aria-describedby="key-help" value=${key} onInput=${(event) => setKey(event.target.value)} />
    <label class="check"><input type="checkbox" checked=${remember}
      onChange=${(event) => setRemember(event.target.checked)} />${t("key_remember")}</label>
    <button class="button primary" type="submit">${t("key_enter")}</button>
  </form>`;
}
