/** One message, and what can be done with it. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "/page/vendor/preact.js";
import { Icon } from "/page/lib/icons.js";
import { copy } from "/page/lib/clipboard.js";
import { Problem } from "/page/chat/problem.js";
import { Prose } from "/page/chat/prose.js";
import { Facts, Mended } from "/page/chat/route.js";

/** A message of the reader's: text as it was typed. `edit(text)` asks that instead. */
export function Question({ message, t, edit }) {
  const [isEdited, setEdited] = useState(false);
  if (isEdited) {
    const save = (text) => {
      setEdited(false);
      if (text.trim() && text !== message.text) edit(text);
    };
    return html`<${Editor} text=${message.text} t=${t} save=${save}
      cancel=${() => setEdited(false)} />`;
  }
  return html`<article class="message question" aria-label=${t("you")}>
    <div class="bubble" dir="auto">${message.text}</div>
    <div class="actions">
      <${CopyButton} text=${message.text} t=${t} />
      ${edit && html`<${Action} icon="edit" name=${t("edit")} run=${() => setEdited(true)} />`}
    </div>
  </article>`;
}

function Editor({ text, t, save, cancel }) {
  const field = useRef(null);
  // At once: a moment later it would move the cursor under whoever types already.
  useLayoutEffect(() => {
    field.current.focus();
    field.current.setSelectionRange(text.length, text.length);
  }, []);
  const onKeyDown = (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      save(field.current.value);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      cancel();
    }
  };
  return html`<article class="message question" aria-label=${t("you")}>
    <div class="editor card">
      <textarea ref=${field} class="field" rows="4" dir="auto" aria-label=${t("edit")}
        aria-describedby="edit-help" onKeyDown=${onKeyDown}>${text}</textarea>
      <p id="edit-help" class="soft">${t("edit_help")}</p>
      <div class="row end">
        <button class="button" type="button" onClick=${cancel}>${t("cancel")}</button>
        <button class="button primary" type="button"
          onClick=${() => save(field.current.value)}>${t("send")}</button>
      </div>
    </div>
  </article>`;
}

/**
 * A message of the model's. `progress` is there while it comes, `actions` has what may be done:
 * `{retry, resume, openSettings}`, of which those that are null cannot be.
 */
export function Answer({ message, t, api, progress, actions }) {
  const { text, state, facts, error, model } = message;
  const isRunning = state === "running" && progress !== undefined;
  return html`<article class="message answer" aria-label=${t("model_says")} aria-busy=${isRunning}>
    ${text && html`<${Prose} key=${message.id} text=${text} t=${t} />`}
    <${Mended} facts=${isRunning ? progress : facts} t=${t} />
    ${isRunning && html`<${Waiting} progress=${progress} t=${t} />`}
    ${state === "running" && !isRunning && html`<p class="soft note">${t("elsewhere")}</p>`}
    ${state === "stopped" && html`<p class="soft note">${t("stopped")}</p>`}
    ${state === "limit" && html`<p class="soft note">${t("limit")}</p>`}
    ${state === "broken" && html`<${Problem} error=${error} message=${message} t=${t} api=${api}
      actions=${actions} />`}
    ${!isRunning &&
    html`<div class="actions">
      ${text && html`<${CopyButton} text=${text} t=${t} />`}
      ${actions.retry && html`<${Action} icon="retry" name=${t("retry")} run=${actions.retry} />`}
      ${actions.resume && (state === "limit" || state === "stopped") &&
      html`<button class="button small" type="button" onClick=${actions.resume}>${t("continue")}</button>`}
      ${facts && html`<${Facts} facts=${facts} model=${model} t=${t} />`}
    </div>`}
  </article>`;
}

/** That something comes, and how fast. */
function Waiting({ progress, t }) {
  const [, setNow] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const since = (time) => (performance.now() - time) / 1000;
  let words = t("waiting");
  if (progress.begun && since(progress.latest) > patience(progress)) {
    words = t("stalled", { s: t.number(since(progress.latest), 0) });
  } else if (progress.begun) {
    const seconds = since(progress.begun);
    const rate = seconds > 0.5 ? (progress.num_pieces - 1) / seconds : 0;
    words = rate > 0 ? t("about_rate", { rate: t.number(rate, 0) }) : t("writing");
  } else if (since(progress.asked) > 3) {
    words = t("waiting_for", { s: t.number(since(progress.asked), 0) });
  }
  return html`<p class="waiting"><span class="dots" aria-hidden="true"><i /><i /><i /></span>${words}</p>`;
}

/** Seconds without anything new after which that is said: slow models take some for each token. */
function patience({ begun, latest, num_pieces: numPieces }) {
  const usual = (latest - begun) / 1000 / Math.max(1, numPieces - 1);
  return Math.max(3, 4 * usual);
}

function CopyButton({ text, t }) {
  const [done, setDone] = useState(null);
  const run = async () => {
    setDone((await copy(text)) ? "copied" : "copy_failed");
    setTimeout(() => setDone(null), 1500);
  };
  return html`<${Action} icon=${done === "copied" ? "check" : "copy"} name=${t(done ?? "copy")}
    run=${run} />`;
}

function Action({ icon, name, run }) {
  return html`<button class="icon-button small" type="button" aria-label=${name} title=${name}
    onClick=${run}><${Icon} name=${icon} size=${18} /></button>`;
}
