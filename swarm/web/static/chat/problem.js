/** An answer that did not come, or not to its end: what that means, and what to do. */

import { html, useEffect, useState } from "/page/vendor/preact.js";
import { explain, missingBlocks } from "/page/chat/errors.js";

/** A card with the way out. `actions` as in `Answer`. */
export function Problem({ error, message, t, api, actions }) {
  const { kind, actions: offered } = explain(error);
  const helps = { retry: actions.retry, settings: actions.openSettings };
  helps.continue = message.text ? actions.resume : null;
  return html`<div class="problem" role="alert">
    <p><strong>${t(`error_${kind}`)}</strong> ${t(`error_${kind}_do`)}</p>
    ${error.retryAfter && html`<p>${t("retry_after", { n: error.retryAfter })}</p>`}
    ${kind === "no_route" && html`<${Gap} model=${message.model} t=${t} api=${api} />`}
    ${error.message && html`<p class="soft detail" lang="en" dir="auto">${error.message}</p>`}
    <div class="row">
      ${offered
        .filter((name) => helps[name])
        .map((name, index) => html`<button key=${name} type="button" onClick=${helps[name]}
          class=${index ? "button" : "button primary"}>${t(name === "settings" ? "open_settings" : name)}</button>`)}
    </div>
  </div>`;
}

/** Which blocks are missing, and the command that would serve them. */
function Gap({ model, t, api }) {
  const [missing, setMissing] = useState([]);
  useEffect(() => {
    missingBlocks(api, model).then(setMissing);
  }, [model]);
  if (!missing.length) return null;
  const blocks = missing.map(([start, end]) => (end - start > 1 ? `${start}–${end - 1}` : `${start}`));
  return html`<p>${t("missing", { blocks: new Intl.ListFormat(t.language).format(blocks) })}</p>
    <pre class="command"><code>swarm peer --join ${t("invite_word")} --model ${model}</code></pre>`;
}
