/** The swarm tab: a map of who holds which blocks, live, and the peers one by one. */

import { html, useEffect, useMemo, useReducer, useRef } from "/page/vendor/preact.js";
import { Copyable } from "/page/swarm/copy.js";
import { follow } from "/page/swarm/feed.js";
import { Looks } from "/page/swarm/looks.js";
import { ModelMap } from "/page/swarm/map.js";
import { Peers } from "/page/swarm/peers.js";

const BEGINNING = { overview: null, paths: {}, trouble: null, lost: null, error: null };

/** What has come changes what is shown: the newest path of each model, and all else as a whole. */
function changed(state, { path, ...change }) {
  // Since when nothing has come does not move while it goes on.
  if (change.lost && state.lost) change.lost = state.lost;
  const next = { ...state, ...change };
  if (path) next.paths = { ...state.paths, [path.model]: path };
  return next;
}

/** What the tab shows. */
export function Tab({ t, api }) {
  const [state, tell] = useReducer(changed, BEGINNING);
  const looks = useRef(new Looks()).current;
  useEffect(() => {
    const end = new AbortController();
    follow(api, tell, end.signal);
    return () => end.abort();
  }, [api]);
  const models = useMemo(() => largestFirst(state.overview?.models ?? []), [state.overview]);
  looks.meet(models.flatMap((model) => model.peers.map((peer) => peer.peer)));
  return html`<div class="swarm">
    <h1 class="hidden-text">${t("tab_swarm")}</h1>
    <${Freshness} state=${state} t=${t} />
    ${state.overview === null && !state.lost && html`<p class="empty">${t("looking")}</p>`}
    ${state.overview && !models.length && html`<${Nobody} t=${t} />`}
    ${models.length > 0 && html`
      <${Summary} models=${models} t=${t} />
      ${models.map((model) => html`<${ModelMap} key=${model.model} model=${model} looks=${looks} t=${t}
        path=${state.paths[model.model]} />`)}
      ${state.overview.left_out > 0 && html`<p class="soft">${t("left_out", { n: state.overview.left_out })}</p>`}
      <${Peers} models=${models} looks=${looks} t=${t} />`}
  </div>`;
}

/** An order that stays while peers come and go. */
function largestFirst(models) {
  return [...models].sort((a, b) => b.num_blocks - a.num_blocks || (a.name < b.name ? -1 : 1));
}

/** Says where what is shown is not how it is now. */
function Freshness({ state, t }) {
  const time = state.lost && new Date(state.lost).toLocaleTimeString(t.language);
  const why = state.trouble ?? (state.error?.status ? state.error.message : "");
  return html`<div class="freshness" role="status">
    ${state.lost
      ? html`<p class="stale"><strong>${t("lost", { time })}</strong> ${why} ${t("trying")}</p>`
      : state.trouble && html`<p class="stale"><strong>${t("trouble")}</strong> ${why}</p>`}
  </div>`;
}

function Summary({ models, t }) {
  const peers = models.flatMap((model) => model.peers);
  const serving = peers.filter((peer) => peer.state === "serving");
  const sum = (name) => serving.reduce((whole, peer) => whole + peer[name], 0);
  const estimated = serving.some((peer) => peer.energy_estimated && peer.watts > 0);
  const unknown = serving.some((peer) => !(peer.watts > 0));
  const gaps = models.reduce((whole, model) => whole + model.gaps.length, 0);
  const tiles = [
    ["models", t.number(models.length), ""],
    ["peers", t.number(serving.length), ""],
    ["sessions_now", t.number(sum("num_sessions")), ""],
    ["gaps", t.number(gaps), gaps ? "bad" : "good"],
  ];
  if (sum("watts") > 0) {
    tiles.push(["power", `${estimated ? "≈ " : ""}${t.number(sum("watts"))}${unknown ? "+" : ""} W`, ""]);
  }
  return html`<dl class="tiles">${tiles.map(([name, value, kind]) => html`<div key=${name} class=${`tile ${kind}`}>
    <dt>${t(`tile_${name}`)}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Nobody serves anything: what there is to do. */
function Nobody({ t }) {
  return html`<section class="nobody">
    <svg class="nobody-cells" viewBox="0 0 120 60" aria-hidden="true">
      ${[[20, 20], [44, 20], [68, 20], [92, 20], [32, 40], [56, 40], [80, 40]].map(([x, y]) => html`<path key=${`${x}${y}`}
        d=${`M${x} ${y - 12}l10.4 6v12l-10.4 6-10.4-6v-12z`} />`)}
    </svg>
    <h2>${t("nobody_title")}</h2>
    <p>${t("nobody_text")}</p>
    <${Copyable} text="swarm peer --join INVITE --model HuggingFaceTB/SmolLM2-135M-Instruct"
      label=${t("copy_first")} t=${t} />
    <p class="soft">${t("nobody_invite")}</p>
  </section>`;
}
