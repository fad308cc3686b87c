/** What surrounds every tab: a skip link, the header, and the main part. */

import { html, useState } from "/page/vendor/preact.js";
import { LANGUAGES } from "/page/lib/i18n.js";
import { Icon, Mark } from "/page/lib/icons.js";
import { THEMES, chooseTheme, chosenTheme } from "/page/lib/theme.js";

const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

/** The page around a tab, which comes as children. */
export function Shell({ about, t, tab, language, setLanguage, forgetKey, children }) {
  const skip = (event) => {
    // The address names the tab, so a link to #main would lose it.
    event.preventDefault();
    document.getElementById("main").focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>${t("skip")}</a>
    <header class="top">
      <div class="brand"><${Mark} /><span class="brand-name">Homeswarm</span>
        ${about.group && html`<span class="brand-group" dir="auto">${about.group}</span>`}</div>
      <${Tabs} tabs=${about.tabs} tab=${tab} t=${t} />
      <div class="top-end">
        ${forgetKey &&
        html`<button class="icon-button" type="button" onClick=${forgetKey}
          aria-label=${t("forget_key")} title=${t("forget_key")}><${Icon} name="key" /></button>`}
        <${ThemeSwitch} t=${t} />
        <select class="language" aria-label=${t("language")} value=${language}
          onChange=${(event) => setLanguage(event.target.value)}>
          ${Object.entries(LANGUAGES).map(
            ([tag, name]) => html`<option key=${tag} value=${tag} lang=${tag}>${name}</option>`,
          )}
        </select>
      </div>
    </header>
    <main id="main" tabindex="-1" aria-label=${t(`tab_${tab}`)}>${children}</main>
  `;
}

function Tabs({ tabs, tab, t }) {
  if (tabs.length < 2) return html`<span></span>`;
  return html`<nav class="tabs" aria-label=${t("views")}>
    ${tabs.map(
      (name) => html`<a key=${name} href=${`#/${name}`}
        aria-current=${name === tab ? "page" : undefined}>${t(`tab_${name}`)}</a>`,
    )}
  </nav>`;
}

function ThemeSwitch({ t }) {
  const [theme, setTheme] = useState(chosenTheme);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const label = t("theme", { theme: t(`theme_${theme}`) });
  const change = () => {
    chooseTheme(next);
    setTheme(next);
  };
  return html`<button class="icon-button" type="button" onClick=${change} aria-label=${label}
    title=${label}><${Icon} name=${THEME_ICONS[theme]} /></button>`;
}
