/** The chat: conversations at the side, what is said, and a field to write in. */

import { html, useEffect, useMemo, useReducer, useRef, useState } from "/page/vendor/preact.js";
import { Announcer } from "/page/chat/announcer.js";
import { Answering } from "/page/chat/answering.js";
import { Book } from "/page/chat/book.js";
import { SettingsPanel } from "/page/chat/settings_panel.js";
import { Sidebar } from "/page/chat/sidebar.js";
import { Talk } from "/page/chat/talk.js";
import { useModels } from "/page/chat/models.js";

/** Outlives the tab, so that answers go on while one looks at another. */
let opened = null;

/** What the tab shows. */
export function Tab({ about, t, api }) {
  const [session, setSession] = useState(null);
  useEffect(() => {
    opened ??= Book.opened().then((book) => ({ book, answering: new Answering(api, book) }));
    opened.then(setSession);
  }, []);
  if (!session) return null;
  return html`<${Chat} ...${session} about=${about} t=${t} api=${api} />`;
}

function Chat({ book, answering, about, t, api }) {
  const [, update] = useReducer((number) => number + 1, 0);
  const [isDrawn, setDrawn] = useState(false);
  const [isSet, setSet] = useState(false);
  const [heard, setHeard] = useState("");
  const [latest, setLatest] = useState(book.latest);
  const [opening, setOpening] = useState(0);
  const models = useModels(api);
  useEffect(() => book.subscribe(update), [book]);
  const announcer = useMemo(() => new Announcer(t, setHeard), [t]);
  answering.announce = (kind, text) => announcer.hear(kind, text);

  const conversation = book.current;
  const chosen = pickModel(conversation?.model || latest.model, models.list);
  const settings = conversation?.settings ?? latest.settings;
  const choose = (changes) => {
    const next = { settings, model: chosen, ...changes };
    book.latest = next;
    setLatest(next);
    if (!conversation) return;
    Object.assign(conversation, next);
    book.keep(conversation);
  };
  const open = (next) => {
    book.open(next);
    setDrawn(false);
    setOpening((number) => number + 1);
  };
  const say = (text) => {
    const current = conversation ?? book.begin(chosen, settings);
    current.model = chosen;
    answering.say(current, text);
  };
  useShortcuts({
    create: () => open(null),
    stop: () => (isDrawn ? setDrawn(false) : answering.stop(book.current)),
  });

  return html`<div class=${isDrawn ? "chat drawn" : "chat"}>
    <${Drawer} isDrawn=${isDrawn} close=${() => setDrawn(false)} t=${t}>
      <${Sidebar} book=${book} t=${t} open=${open} say=${setHeard} />
    <//>
    <${Talk} key=${conversation?.id ?? `new${opening}`} conversation=${conversation} t=${t} api=${api}
      about=${about} answering=${answering} models=${models} chosen=${chosen} choose=${choose}
      say=${say} settings=${settings} openSettings=${() => setSet(true)}
      openDrawer=${() => setDrawn(true)} isInert=${isDrawn} />
    ${isSet && html`<${SettingsPanel} settings=${settings} t=${t} close=${() => setSet(false)}
      change=${(next) => choose({ settings: next })} />`}
    <p class="hidden-text" role="status" aria-live="polite">${heard}</p>
  </div>`;
}

/** The side: beside what is said where there is room, else over it. */
function Drawer({ isDrawn, close, t, children }) {
  const side = useRef(null);
  useEffect(() => {
    if (!isDrawn) return undefined;
    const opener = document.activeElement;
    side.current.querySelector("button").focus();
    return () => opener?.focus?.();
  }, [isDrawn]);
  return html`<aside ref=${side} id="conversations" class="side" aria-label=${t("conversations")}>
      ${children}
    </aside>
    ${isDrawn && html`<div class="shade" onClick=${close} />`}`;
}

function useShortcuts(actions) {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const follow = (event) => {
      if (event.isComposing || document.querySelector("dialog[open]")) return;
      const isCommand = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
      if (isCommand && event.key.toLowerCase() === "k") {
        event.preventDefault();
        latest.current.create();
      } else if (event.key === "Escape") {
        latest.current.stop();
      }
    };
    addEventListener("keydown", follow);
    return () => removeEventListener("keydown", follow);
  }, []);
}

/** The model that was wanted, as long as it is served; else the first. */
function pickModel(wanted, list) {
  if (!list.length || list.some((model) => model.id === wanted)) return wanted;
  return list[0].id;
}
