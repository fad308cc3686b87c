/** The conversations of this browser. */

import { html, useRef, useState } from "/page/vendor/preact.js";
import { Confirm, Dialog } from "/page/lib/dialog.js";
import { Icon } from "/page/lib/icons.js";
import { asExport, asMarkdown, readExport } from "/page/chat/conversation.js";
import { download } from "/page/lib/download.js";

/** A list with search; `open(conversation)` turns to one, null is a new one. */
export function Sidebar({ book, t, open, say }) {
  const [search, setSearch] = useState("");
  const [asked, setAsked] = useState(null);
  const found = book.list(search);
  const close = () => setAsked(null);
  return html`
    <button class="button new-chat" type="button" onClick=${() => open(null)}
      aria-keyshortcuts="Control+K Meta+K"><${Icon} name="plus" size=${18} />${t("new_chat")}</button>
    <div class="search"><${Icon} name="search" size=${18} />
      <input type="search" class="field" aria-label=${t("search")} placeholder=${t("search")}
        value=${search} onInput=${(event) => setSearch(event.target.value)} /></div>
    ${found.length > 0 && html`<ul class="conversations" aria-label=${t("conversations")}>
      ${found.map((each) => html`<${Entry} key=${each.id} conversation=${each} t=${t}
        isCurrent=${each === book.current} open=${open} ask=${setAsked} />`)}
    </ul>`}
    ${!found.length && html`<p class="soft nothing">${t(search ? "nothing_found" : "no_conversations")}</p>`}
    ${!book.isLasting && html`<p class="soft nothing">${t("not_lasting")}</p>`}
    ${book.failure && html`<p class="error-text nothing" role="alert">${t("not_kept")}</p>`}
    <${AllOfThem} book=${book} t=${t} ask=${setAsked} say=${say} />
    ${asked && html`<${Asked} asked=${asked} book=${book} t=${t} close=${close} />`}
  `;
}

function Entry({ conversation, t, isCurrent, open, ask }) {
  const title = conversation.title || t("untitled");
  return html`<li class=${isCurrent ? "entry current" : "entry"}>
    <button class="entry-open" type="button" aria-current=${isCurrent ? "true" : undefined}
      onClick=${() => open(conversation)} dir="auto" title=${t.time(conversation.changed)}>${title}</button>
    <button class="icon-button entry-more" type="button" aria-haspopup="dialog"
      aria-label=${t("more_of", { title })} title=${t("more")}
      onClick=${() => ask({ what: "one", conversation })}><${Icon} name="more" /></button>
  </li>`;
}

/** What can be done with all conversations. */
function AllOfThem({ book, t, ask, say }) {
  const file = useRef(null);
  const read = async (event) => {
    const [chosen] = event.target.files;
    event.target.value = "";
    if (!chosen) return;
    try {
      const conversations = readExport(await chosen.text());
      await book.add(conversations);
      say(t("imported", { n: conversations.length }));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      ask({ what: "unreadable" });
    }
  };
  const save = () => download("homeswarm.json", asExport(book.list()), "application/json");
  return html`<div class="all-of-them">
    <button class="quiet" type="button" disabled=${!book.size} onClick=${save}>${t("export_all")}</button>
    <button class="quiet" type="button" onClick=${() => file.current.click()}>${t("import")}</button>
    <input ref=${file} type="file" hidden accept="application/json,.json" aria-label=${t("import")}
      onChange=${read} />
    <button class="quiet" type="button" disabled=${!book.size}
      onClick=${() => ask({ what: "clear" })}>${t("delete_all")}</button>
  </div>`;
}

/** The dialog for what was asked for. */
function Asked({ asked: { what, conversation }, book, t, close }) {
  switch (what) {
    case "one":
      return html`<${OneOfThem} conversation=${conversation} book=${book} t=${t} close=${close} />`;
    case "clear":
      return html`<${Confirm} title=${t("delete_all")} t=${t} close=${close} action=${t("delete_all")}
        text=${t("delete_all_sure", { n: book.size })} run=${() => book.clear()} />`;
    default:
      return html`<${Dialog} title=${t("import")} t=${t} close=${close} kind="small">
        <p>${t("import_failed")}</p><//>`;
  }
}

/** What can be done with one: a name, a file, or its end. */
function OneOfThem({ conversation, book, t, close }) {
  const [isSure, setSure] = useState(false);
  const field = useRef(null);
  const title = conversation.title || t("untitled");
  const rename = (event) => {
    event.preventDefault();
    const name = field.current.value.trim();
    if (name) Object.assign(conversation, { title: name.slice(0, 200), isNamed: true });
    book.keep(conversation);
    close();
  };
  const file = title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "chat";
  const who = { user: t("you"), assistant: t("model_says") };
  if (isSure) {
    return html`<${Confirm} title=${t("delete")} t=${t} close=${close} action=${t("delete")}
      text=${t("delete_sure", { title })} run=${() => book.remove(conversation)} />`;
  }
  return html`<${Dialog} title=${t("conversation")} t=${t} close=${close} kind="small">
    <form onSubmit=${rename}>
      <label for="title">${t("name")}</label>
      <div class="row"><input id="title" ref=${field} class="field" dir="auto" value=${conversation.title}
        maxlength="200" /><button class="button primary" type="submit">${t("rename")}</button></div>
    </form>
    <div class="row wrap">
      <button class="button" type="button" onClick=${() =>
        download(`${file}.md`, asMarkdown(conversation, who), "text/markdown")}>${t("export_markdown")}</button>
      <button class="button" type="button" onClick=${() =>
        download(`${file}.json`, asExport([conversation]), "application/json")}>${t("export_json")}</button>
      <button class="button danger" type="button" onClick=${() => setSure(true)}>${t("delete")}</button>
    </div>
  <//>`;
}
