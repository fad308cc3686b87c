/** The chat tab. */

import { html } from "/page/vendor/preact.js";

/** What the tab shows. */
export function Tab({ t }) {
  return html`<p class="empty">${t("tab_chat")}</p>`;
}
