/** The page: finds out whose it is, and shows the tabs that this server has. */

import { html, render, useEffect, useMemo, useState } from "/page/vendor/preact.js";
import { ApiError, makeApi } from "/page/lib/api.js";
import { translator, pickLanguage, saveLanguage } from "/page/lib/i18n.js";
import { keptKey, keyFromAddress, saveKey } from "/page/lib/key.js";
import { Shell } from "/page/lib/shell.js";
import { KeyPrompt } from "/page/lib/key_prompt.js";

/** The tab that the address names, or the first one. */
function tabOf(tabs) {
  const name = location.hash.match(/^#\/(\w+)/)?.[1];
  return tabs.includes(name) ? name : tabs[0];
}

/** Loads what a tab shows and says, when it is first looked at. */
async function loadTab(name, language) {
  const [{ Tab }, shell, own] = await Promise.all([
    import(`/page/${name}/tab.js`),
    import(`/page/lib/${language}.js`),
    import(`/page/${name}/${language}.js`),
  ]);
  return { name, Tab, t: translator(language, { ...shell.default, ...own.default }) };
}

function App({ about }) {
  const [language, setLanguage] = useState(pickLanguage);
  const [tab, setTab] = useState(() => tabOf(about.tabs));
  const [loaded, setLoaded] = useState(null);
  const [key, setKey] = useState(keptKey);
  const [refused, setRefused] = useState(false);
  const api = useMemo(() => makeApi(keptKey, () => setRefused(true)), []);

  useEffect(() => {
    const follow = () => {
      if (keyFromAddress()) setKey(keptKey());
      setTab(tabOf(about.tabs));
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);

  useEffect(() => {
    let current = true;
    document.documentElement.lang = language;
    saveLanguage(language);
    loadTab(tab, language).then((found) => current && setLoaded(found));
    return () => (current = false);
  }, [tab, language]);

  if (loaded === null) return null;
  const { Tab, t, name } = loaded;
  const wanted = refused || (about.key === "needed" && !key);
  const enter = (given, remember) => {
    saveKey(given, remember);
    setKey(given);
    setRefused(false);
  };
  return html`
    <${Shell} about=${about} t=${t} tab=${name} language=${language} setLanguage=${setLanguage}
      forgetKey=${key ? () => enter("", false) : null}>
      ${wanted
        ? html`<${KeyPrompt} t=${t} refused=${refused} enter=${enter} />`
        : html`<${Tab} key=${name} about=${about} t=${t} api=${api} />`}
    <//>
  `;
}

/** Asks the server what it is, for as long as it does not answer. */
async function start() {
  keyFromAddress();
  const root = document.getElementById("app");
  const api = makeApi(keptKey);
  for (;;) {
    try {
      const about = await api("/page/about");
      render(html`<${App} about=${about} />`, root);
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const language = pickLanguage();
      const { default: texts } = await import(`/page/lib/${language}.js`);
      const t = translator(language, texts);
      render(html`<main class="lonely" role="alert"><p>${t("server_away")}</p></main>`, root);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

await start();
