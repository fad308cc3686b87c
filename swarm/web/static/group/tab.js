/** The group tab: who belongs to the group, who may still come, and throwing out. */

import { html, useCallback, useEffect, useState } from "/page/vendor/preact.js";
import { Confirm } from "/page/group/confirm.js";
import { NewInvite } from "/page/group/invite.js";
import { Invites, Members } from "/page/group/lists.js";

const INTERVAL = 5_000;

/** What the tab shows. */
export function Tab({ t, api }) {
  const [book, setBook] = useState(null);
  const [failure, setFailure] = useState(null);
  const [asked, setAsked] = useState(null);
  const [done, setDone] = useState("");
  const look = useCallback(async () => {
    try {
      setBook(await api("/page/api/group"));
      setFailure(null);
    } catch (error) {
      setFailure(error);
    }
  }, [api]);
  useEffect(() => {
    look();
    // What others do shows itself, but nobody is asked for what nobody sees.
    const timer = setInterval(() => document.hidden || look(), INTERVAL);
    return () => clearInterval(timer);
  }, [look]);

  if (failure?.status === 403) {
    return html`<div class="group"><section class="nobody"><h1>${t("admins_only")}</h1>
      <p>${t("admins_only_help")}</p></section></div>`;
  }
  if (book === null) {
    return html`<div class="group"><p class="empty" role="status">${failure ? failure.message : t("looking")}</p></div>`;
  }
  const remove = async ({ path, method, json, told }) => {
    await api(path, { method, json });
    setDone(told);
    await look();
  };
  return html`<div class="group">
    <h1 class="hidden-text">${t("tab_group")}</h1>
    <p class="hidden-text" role="status">${done}</p>
    ${failure && html`<p class="stale" role="status">${t("stale")} ${failure.message}</p>`}
    <${NewInvite} api=${api} t=${t} onWritten=${look} />
    <${Invites} book=${book} t=${t} ask=${setAsked} />
    <${Members} book=${book} t=${t} ask=${setAsked} />
    ${asked && html`<${Confirm} ...${asked} t=${t} close=${() => setAsked(null)} act=${remove} />`}
  </div>`;
}
