/** Writes an invite, and shows it once: as a line to copy and as a code to photograph. */

import { html, useState } from "/page/vendor/preact.js";
import { Copyable } from "/page/swarm/copy.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const LIFETIMES = { hour: HOUR, day: DAY, week: 7 * DAY, month: 30 * DAY };
const ROLES = ["client", "peer", "admin", "authority"];
const BEGINNING = { role: "peer", name: "", uses: 1, lifetime: "week" };

/** The form, and what came of it; `onWritten()` is called when there is one more. */
export function NewInvite({ api, t, onWritten }) {
  const [form, setForm] = useState(BEGINNING);
  const [written, setWritten] = useState(null);
  const [error, setError] = useState("");
  const set = (change) => setForm({ ...form, ...change });
  const write = async (event) => {
    event.preventDefault();
    const json = { role: form.role, name: form.name.trim(), uses: form.uses, seconds: LIFETIMES[form.lifetime] };
    try {
      setWritten({ ...(await api("/page/api/group/invites", { json })), name: json.name });
      setError("");
      setForm(BEGINNING);
      onWritten();
    } catch (failure) {
      setError(failure.message);
    }
  };
  return html`<section class="card invite" aria-labelledby="invite-title">
    <h2 id="invite-title">${t("invite_title")}</h2>
    <form onSubmit=${write}>
      <fieldset class="roles"><legend>${t("invite_role")}</legend>
        ${ROLES.map((role) => html`<label key=${role} class="role">
          <input type="radio" name="role" value=${role} checked=${form.role === role} onChange=${() => set({ role })} />
          <span><strong>${t(`role_${role}`)}</strong><span class="soft">${t(`may_${role}`)}</span></span></label>`)}
      </fieldset>
      <div class="invite-fields">
        <label>${t("invite_name")}<input class="field" maxlength="64" value=${form.name} placeholder=${t("invite_name_open")}
          onInput=${(event) => set({ name: event.target.value })} /></label>
        <label>${t("invite_uses")}<input class="field" type="number" min="1" max="1000" required value=${form.uses}
          onInput=${(event) => set({ uses: event.target.valueAsNumber || "" })} /></label>
        <label>${t("invite_for")}<select class="field" value=${form.lifetime}
            onChange=${(event) => set({ lifetime: event.target.value })}>
          ${Object.keys(LIFETIMES).map((name) => html`<option key=${name} value=${name}>${t(`for_${name}`)}</option>`)}
        </select></label>
        <button class="button primary" type="submit">${t("invite_write")}</button>
      </div>
      ${error && html`<p class="error-text" role="alert">${error}</p>`}
    </form>
    ${written && html`<${Written} invite=${written} t=${t} close=${() => setWritten(null)} />`}
  </section>`;
}

function Written({ invite, t, close }) {
  return html`<div class="written" role="group" aria-label=${t("written")}>
    ${invite.qr && html`<img class="qr" src=${invite.qr} alt=${t("qr")} width="220" height="220" />`}
    <div>
      <h3 role="status">${invite.name ? t("written_for", { name: invite.name }) : t("written")}</h3>
      <p>${t("written_help", { time: t.time(1000 * invite.expires) })}</p>
      <${Copyable} text=${invite.invite} label=${t("copy_invite")} t=${t} />
      <p><button class="button" type="button" onClick=${close}>${t("written_close")}</button></p>
    </div>
  </div>`;
}
