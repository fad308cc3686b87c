/** One conversation, or the beginning of a new one. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "/page/vendor/preact.js";
import { Icon, Mark } from "/page/lib/icons.js";
import { Composer } from "/page/chat/composer.js";
import { isChanged } from "/page/chat/settings.js";
import { Answer, Question } from "/page/chat/message.js";

/** Pixels from the end at which one still reads along. */
const NEAR = 80;

/** What is said, with what one needs to go on. */
export function Talk(props) {
  const { conversation, t, answering, models, chosen, say, isInert, openDrawer } = props;
  const progress = answering.progress(conversation);
  const messages = conversation?.messages ?? [];
  const scroll = useFollowing(messages);
  const stop = progress && (() => answering.stop(conversation));
  return html`<section class="talk" inert=${isInert} aria-label=${t("conversation")}>
    <div class="talk-top">
      <button class="icon-button only-narrow" type="button" onClick=${openDrawer}
        aria-label=${t("conversations")} aria-expanded=${isInert} aria-controls="conversations"
        ><${Icon} name="menu" /></button>
      <h1 class="talk-title" dir="auto">${conversation?.title || t("new_chat")}</h1>
      <${ModelChoice} ...${props} />
      <${SettingsButton} ...${props} />
    </div>
    <div class="scroll" ref=${scroll.box} onScroll=${scroll.note}>
      ${messages.length
        ? html`<${Messages} ...${props} messages=${messages} progress=${progress} />`
        : html`<${Welcome} t=${t} say=${chosen ? say : null} models=${models} />`}
    </div>
    <div class="foot">
      ${scroll.isAway && html`<button class="icon-button to-end" type="button" onClick=${scroll.toEnd}
        aria-label=${t("to_end")} title=${t("to_end")}><${Icon} name="down" /></button>`}
      <${Composer} t=${t} disabled=${!chosen} focusOn=${conversation?.id}
        stop=${stop} send=${(text) => {
          scroll.toEnd();
          say(text);
        }} />
      <p class="fine soft">${t("fine_print")}</p>
    </div>
  </section>`;
}

function Messages({ messages, progress, conversation, t, api, answering, openSettings }) {
  const swap = html`<p class="soft note" key="other"><button class="button small" type="button"
    onClick=${() => answering.swap(conversation)}>${t("swap")}</button></p>`;
  const other = progress ? null : conversation.other?.index;
  return html`<div class="messages" role="log" aria-live="off" aria-label=${t("messages")}>
    ${messages.map((message, index) => {
      const edit = progress ? null : (text) => answering.edit(conversation, index, text);
      const before = index === other && swap;
      if (message.role === "user") {
        return [before, html`<${Question} key=${message.id} message=${message} t=${t} edit=${edit} />`];
      }
      const isLast = index === messages.length - 1;
      const actions = {
        retry: progress ? null : () => answering.retry(conversation, index),
        resume: isLast && !progress ? () => answering.resume(conversation) : null,
        openSettings,
      };
      return [before, html`<${Answer} key=${message.id} message=${message} t=${t} api=${api}
        progress=${isLast ? progress : undefined} actions=${actions} />`];
    })}
  </div>`;
}

function Welcome({ t, say, models }) {
  const examples = ["example_1", "example_2", "example_3", "example_4"];
  return html`<div class="welcome">
    <${Mark} size=${56} />
    <h2>${t("welcome")}</h2>
    <p class="soft">${t("welcome_help")}</p>
    ${models.error && html`<p class="problem" role="alert">
      ${t(models.error.status ? "error_failed" : "error_unreachable")} ${t("error_unreachable_do")}</p>`}
    <div class="examples">
      ${examples.map((key) => html`<button key=${key} class="example" type="button" disabled=${!say}
        onClick=${() => say(t(key))}>${t(key)}</button>`)}
    </div>
  </div>`;
}

function ModelChoice({ t, models, chosen, choose }) {
  return html`<select class="model-choice" aria-label=${t("model")} value=${chosen} disabled=${!models.list.length}
    onChange=${(event) => choose({ model: event.target.value })}>
    ${!models.list.length && html`<option>${chosen || t("no_models")}</option>`}
    ${models.list.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}
  </select>`;
}

function SettingsButton({ t, settings, openSettings }) {
  const label = t(isChanged(settings) ? "settings_changed" : "settings");
  return html`<button class=${isChanged(settings) ? "icon-button marked" : "icon-button"} type="button"
    onClick=${openSettings} aria-haspopup="dialog" aria-label=${label} title=${label}
    ><${Icon} name="sliders" /></button>`;
}

/** Keeps the end in view for those who read there, and lets others read where they are. */
function useFollowing(messages) {
  const box = useRef(null);
  const follows = useRef(true);
  const [isAway, setAway] = useState(false);
  const note = () => {
    if (!box.current) return; // Scrolled by its own end.
    const { scrollHeight, scrollTop, clientHeight } = box.current;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR;
    setAway(!follows.current);
  };
  const toEnd = () => {
    follows.current = true;
    setAway(false);
    box.current.scrollTop = box.current.scrollHeight;
  };
  useLayoutEffect(() => {
    if (follows.current && messages.length) box.current.scrollTop = box.current.scrollHeight;
  });
  useEffect(() => {
    // A keyboard that comes up, or text that is laid out later, moves the end, too.
    const observer = new ResizeObserver(() => follows.current && messages.length && toEnd());
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [messages]);
  return { box, note, toEnd, isAway };
}
