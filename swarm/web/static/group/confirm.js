/** Asks before something is done that cannot be undone. */

import { html, useEffect, useRef, useState } from "/page/vendor/preact.js";

/** A dialog with a `title` and a `text`; `act(what)` does it, and `close()` ends the dialog. */
export function Confirm({ title, text, button, what, t, act, close }) {
  const dialog = useRef(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => dialog.current.showModal(), []);
  const go = async () => {
    setBusy(true);
    try {
      await act(what);
      dialog.current.close();
    } catch (failure) {
      setError(failure.message);
      setBusy(false);
    }
  };
  return html`<dialog class="confirm card" ref=${dialog} onClose=${close} aria-labelledby="confirm-title">
    <h2 id="confirm-title">${title}</h2>
    <p>${text}</p>
    ${error && html`<p class="error-text" role="alert">${error}</p>`}
    <div class="confirm-buttons">
      <button class="button" type="button" onClick=${() => dialog.current.close()}>${t("cancel")}</button>
      <button class="button danger" type="button" disabled=${busy} onClick=${go}>${button}</button>
    </div>
  </dialog>`;
}
