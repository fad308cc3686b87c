/** Dialogs: the browser's own, which keep the focus and close on Escape. */

import { html, useLayoutEffect, useRef } from "/page/vendor/preact.js";
import { Icon } from "/page/lib/icons.js";

/** A dialog that is open as long as it is rendered; `close()` is called when it is to go. */
export function Dialog({ title, t, close, kind = "", children }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const opener = document.activeElement;
    const shown = dialog.current;
    shown.showModal();
    return () => {
      // On Escape the browser has given the focus back, and it may already be somewhere else.
      if (shown.contains(document.activeElement)) opener?.focus?.();
    };
  }, []);
  // A click beside it hits the dialog itself, whose content covers it.
  const onClick = (event) => event.target === dialog.current && close();
  return html`<dialog ref=${dialog} class=${`dialog ${kind}`} aria-labelledby="dialog-title"
    onClose=${close} onClick=${onClick}>
    <div class="dialog-body">
      <div class="dialog-head"><h2 id="dialog-title">${title}</h2>
        <button class="icon-button" type="button" onClick=${close} aria-label=${t("close")}
          title=${t("close")}><${Icon} name="close" /></button></div>
      ${children}
    </div>
  </dialog>`;
}

/** Asks before something that cannot be undone. */
export function Confirm({ title, text, action, t, run, close }) {
  const confirm = () => {
    close();
    run();
  };
  return html`<${Dialog} title=${title} t=${t} close=${close} kind="small">
    <p>${text}</p>
    <div class="row end">
      <button class="button" type="button" onClick=${close}>${t("cancel")}</button>
      <button class="button danger" type="button" onClick=${confirm}>${action}</button>
    </div>
  <//>`;
}
