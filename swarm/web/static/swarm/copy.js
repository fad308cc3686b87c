/** A line of text with a button that copies it. */

import { html, useEffect, useRef, useState } from "/page/vendor/preact.js";
import { copy } from "/page/lib/clipboard.js";

/** Shows `text`; `label` says what the button copies. */
export function Copyable({ text, label, t }) {
  const [copied, setCopied] = useState(false);
  const line = useRef(null);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 2500);
    return () => clearTimeout(timer);
  }, [copied]);
  const take = async () => {
    if (await copy(text)) setCopied(true);
    else getSelection().selectAllChildren(line.current); // To be copied by hand.
  };
  return html`<div class="copyable">
    <code ref=${line} tabindex="0">${text}</code>
    <button class="button copy" type="button" onClick=${take} aria-label=${label}>
      ${copied ? t("copied") : t("copy")}</button>
    <span class="hidden-text" role="status">${copied ? t("copied") : ""}</span>
  </div>`;
}
