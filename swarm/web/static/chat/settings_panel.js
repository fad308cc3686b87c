/** The settings of a conversation, in a dialog. */

import { html } from "/page/vendor/preact.js";
import { Dialog } from "/page/lib/dialog.js";
import { DEFAULTS, NUMBERS, inLimits, isChanged } from "/page/chat/settings.js";

/** Shows settings; `change(settings)` gets all of them after each change. */
export function SettingsPanel({ settings, change, t, close }) {
  const set = (name, value) => change({ ...settings, [name]: value });
  return html`<${Dialog} title=${t("settings")} t=${t} close=${close} kind="sheet">
    <p class="soft">${t("settings_help")}</p>
    <label for="set-system">${t("system")}</label>
    <textarea id="set-system" class="field" rows="4" dir="auto" aria-describedby="set-system-help"
      value=${settings.system} onInput=${(event) => set("system", event.target.value)} />
    <p id="set-system-help" class="soft help">${t("system_help")}</p>
    ${NUMBERS.map((field) => html`<${NumberField} key=${field.name} field=${field} t=${t}
      value=${settings[field.name]} set=${(value) => set(field.name, value)} />`)}
    <label for="set-stop">${t("stop_strings")}</label>
    <textarea id="set-stop" class="field" rows="2" dir="auto" aria-describedby="set-stop-help"
      value=${settings.stop} onInput=${(event) => set("stop", event.target.value)} />
    <p id="set-stop-help" class="soft help">${t("stop_strings_help")}</p>
    <div class="row end">
      <button class="button" type="button" disabled=${!isChanged(settings)}
        onClick=${() => change({ ...DEFAULTS })}>${t("reset")}</button>
      <button class="button primary" type="button" onClick=${close}>${t("done")}</button>
    </div>
  <//>`;
}

/** A number that may be left out. It is taken when one leaves the field, so that one can type. */
function NumberField({ field, value, set, t }) {
  const id = `set-${field.name}`;
  const placeholder = field.usual === null ? t("usual_none") : t("usual", { value: field.usual });
  return html`<div class="number">
    <label for=${id}>${t(field.name)}</label>
    <input id=${id} class="field" type="number" inputmode="decimal" min=${field.min} max=${field.max}
      step=${field.step} placeholder=${placeholder} value=${value ?? ""} aria-describedby=${`${id}-help`}
      onChange=${(event) => {
        const taken = inLimits(field, event.target.value);
        event.target.value = taken ?? "";
        set(taken);
      }} />
    <p id=${`${id}-help`} class="soft help">${t(`${field.name}_help`)}</p>
  </div>`;
}
