/** Where one writes. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "/page/vendor/preact.js";
import { recall, store } from "/page/lib/storage.js";
import { Icon } from "/page/lib/icons.js";

/**
 * A field that grows with its text. Enter calls `send(text)`; `stop()` is there while an answer
 * comes. What is not sent yet outlives a reload.
 */
export function Composer({ t, send, stop, disabled, focusOn }) {
  const [text, setText] = useState(() => recall("draft", "sessionStorage") ?? "");
  const field = useRef(null);
  useEffect(() => store("draft", text || null, "sessionStorage"), [text]);
  useLayoutEffect(() => {
    // Where `field-sizing` is not known.
    if (CSS.supports("field-sizing", "content")) return;
    field.current.style.height = "auto";
    field.current.style.height = `${field.current.scrollHeight}px`;
  }, [text]);
  useEffect(() => {
    // On a phone the keyboard would come up over what one has just opened.
    if (matchMedia("(pointer: fine)").matches) field.current.focus();
  }, [focusOn]);

  const canSend = !disabled && !stop && text.trim() !== "";
  const submit = (event) => {
    event?.preventDefault();
    if (!canSend) return;
    setText("");
    // At once: a new conversation brings a new field, which looks there.
    store("draft", null, "sessionStorage");
    send(text);
  };
  const onKeyDown = (event) => {
    // While an input method composes a word, Enter is its own.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  };
  return html`<form class="composer" onSubmit=${submit}>
    <label class="hidden-text" for="question">${t("question")}</label>
    <textarea id="question" ref=${field} rows="1" dir="auto" placeholder=${t("question")}
      value=${text} enterkeyhint="send" aria-describedby="composer-help"
      onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown} />
    ${stop
      ? html`<button class="send" type="button" onClick=${stop} aria-label=${t("stop")}
          title=${`${t("stop")} (Esc)`}><${Icon} name="stop" /></button>`
      : html`<button class="send" type="submit" disabled=${!canSend} aria-label=${t("send")}
          title=${t("send")}><${Icon} name="send" /></button>`}
    <p id="composer-help" class="hidden-text">${t("composer_help")}</p>
  </form>`;
}
