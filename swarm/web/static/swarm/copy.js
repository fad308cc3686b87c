/** A line of text with a button that copies it. */

import { html, useEffect, useRef, useState } from "/page/vendor/preact.js";

/** Shows `text`; `label` says what the button copies. */
export function Copyable({ text, label, t }) {
  const [copied, setCopied] = useState(false);
  const line = useRef(null);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 2500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    if (await copyText(text, line.current)) setCopied(true);
  };
  return html`<div class="copyable">
    <code ref=${line} tabindex="0">${text}</code>
    <button class="button copy" type="button" onClick=${copy} aria-label=${label}>
      ${copied ? t("copied") : t("copy")}</button>
    <span class="hidden-text" role="status">${copied ? t("copied") : ""}</span>
  </div>`;
}

async function copyText(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine browsers have no clipboard: the old way, or by hand.
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}
