/** The peers one by one: as cards, or as a table that can be sorted. */

import { html, useMemo, useState } from "/page/vendor/preact.js";
import { recall, store } from "/page/lib/storage.js";
import { called, condition, energy, memory, part, plain, prefill, speed } from "/page/swarm/words.js";

const last = (value) => (value > 0 ? value : Infinity);

/** What can be sorted by: a value that grows, or a text. */
const ORDERS = {
  blocks: (peer) => peer.place,
  name: (peer) => called(peer).toLowerCase(),
  speed: (peer) => last(peer.decode_seconds),
  load: (peer) => -(part(peer.total_positions - peer.free_positions, peer.total_positions) ?? -1),
  memory: (peer) => -peer.used_bytes,
  energy: (peer) => last(peer.joules),
};

/** All peers; `models` as the overview has them. */
export function Peers({ models, looks, t }) {
  const [view, setView] = useState(() => (recall("peers") === "table" ? "table" : "cards"));
  const [sought, setSought] = useState("");
  const [order, setOrder] = useState("blocks");
  const peers = useMemo(() => sorted(chosen(models, sought), order), [models, sought, order]);
  const show = (name) => (setView(name), store("peers", name));
  const table = html`<${Table} peers=${peers} looks=${looks} order=${order} setOrder=${setOrder} t=${t}
    plainly=${view === "cards"} />`;
  return html`<section class="peers" aria-labelledby="peers-title">
    <header class="peers-head">
      <h2 id="peers-title">${t("peers_title")}</h2>
      <label class="hidden-text" for="peers-search">${t("search")}</label>
      <input id="peers-search" class="field" type="search" placeholder=${t("search")} value=${sought}
        onInput=${(event) => setSought(event.target.value)} />
      <label class="sort">${t("sort")}
        <select class="field" value=${order} onChange=${(event) => setOrder(event.target.value)}>
          ${Object.keys(ORDERS).map((name) => html`<option key=${name} value=${name}>${t(`by_${name}`)}</option>`)}
        </select></label>
      <div class="views" role="group" aria-label=${t("view")}>
        ${["cards", "table"].map((name) => html`<button key=${name} type="button" class="button"
          aria-pressed=${view === name} onClick=${() => show(name)}>${t(`view_${name}`)}</button>`)}
      </div>
    </header>
    <p class="hidden-text" role="status">${t("num_shown", { n: peers.length })}</p>
    ${!peers.length && html`<p class="soft">${t("nobody_found")}</p>`}
    ${view === "cards"
      ? html`<div class="cards" aria-hidden="true">
            ${peers.map((peer) => html`<${Card} key=${peer.peer} peer=${peer} looks=${looks.of(peer.peer)} t=${t} />`)}
          </div>
          <div class="hidden-text">${table}</div>`
      : html`<div class="table-frame" tabindex="0" role="region" aria-labelledby="peers-title">${table}</div>`}
  </section>`;
}

function chosen(models, sought) {
  const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
  const peers = models.flatMap((model, place) => model.peers.map((peer) => ({ ...peer, model, place })));
  if (!words.length) return peers;
  return peers.filter((peer) => {
    const text = [peer.name, peer.peer, peer.state, peer.reach, peer.device, peer.dtype, peer.quantize, peer.model.name];
    const whole = text.join(" ").toLowerCase();
    return words.every((word) => whole.includes(word));
  });
}

function sorted(peers, order) {
  const value = ORDERS[order];
  const key = new Map(peers.map((peer) => [peer, value(peer)]));
  return [...peers].sort((a, b) => {
    if (key.get(a) !== key.get(b)) return key.get(a) < key.get(b) ? -1 : 1;
    return a.place - b.place || a.start - b.start;
  });
}

function Card({ peer, looks, t }) {
  const held = part(peer.total_positions - peer.free_positions, peer.total_positions);
  return html`<article class=${`peer is-${peer.state}`} style=${{ "--hue": looks.hue }} data-peer=${peer.peer}>
    <header>
      <span class=${`letters pattern-${looks.pattern}`}>${looks.letters}</span>
      <h3><bdi>${called(peer)}</bdi><span class="soft peer-id"> …${peer.peer.slice(-6)}</span></h3>
      <span class=${`badge state-${peer.state}`}>${condition(t, peer)}</span>
    </header>
    <p class="peer-span"><strong>${peer.start}:${peer.end}</strong>
      <span class="soft"> ${t("of_model", { total: peer.model.num_blocks, model: plain(peer.model.name, 48) })}</span></p>
    <dl>
      <${Fact} name=${t("speed")} value=${speed(t, peer)} more=${prefill(t, peer)} />
      <${Fact} name=${t("load")} value=${t("sessions", { n: peer.num_sessions })}
        more=${held === null ? null : t("kv_full", { percent: Math.round(100 * held) })} share=${held} />
      <${Fact} name=${t("memory")} value=${taken(t, peer)} share=${part(peer.used_bytes, peer.memory_bytes)} />
      <${Fact} name=${t("energy")} value=${energy(t, peer)} more=${peer.energy_estimated ? t("estimated") : null} />
      <${Fact} name=${t("runs_on")} value=${runsOn(peer)} />
      <${Fact} name=${t("reached")} value=${t(`reach_${peer.reach}`)} />
    </dl>
    ${peer.reporters > 0 && html`<p class="reported">${t("reported", { n: peer.reporters })}</p>`}
  </article>`;
}

function Fact({ name, value, more, share }) {
  if (!value) return null;
  return html`<div class="fact"><dt>${name}</dt>
    <dd>${value}${more && html`<span class="soft"> · ${more}</span>`}
      ${typeof share === "number" && html`<span class="meter"><span style=${{ width: `${100 * share}%` }}></span></span>`}
    </dd></div>`;
}

function taken(t, peer) {
  if (!(peer.used_bytes > 0)) return null;
  const used = memory(t, peer.used_bytes);
  return peer.memory_bytes > 0 ? t("used_of", { used, whole: memory(t, peer.memory_bytes) }) : used;
}

function runsOn(peer) {
  const form = peer.quantize && peer.quantize !== "none" ? peer.quantize : "";
  return plain([peer.device, peer.dtype, form].filter(Boolean).join(" · "), 60);
}

const COLUMNS = [
  ["name", (peer) => html`<bdi>${called(peer)}</bdi> <span class="soft">…${peer.peer.slice(-6)}</span>`],
  ["model", (peer) => html`<bdi>${plain(peer.model.name, 40)}</bdi>`],
  ["blocks", (peer) => `${peer.start}:${peer.end}`],
  ["state", (peer, t) => condition(t, peer)],
  ["speed", (peer, t) => speed(t, peer)],
  ["load", (peer, t) => load(t, peer)],
  ["memory", (peer, t) => taken(t, peer)],
  ["energy", (peer, t) => (peer.energy_estimated ? [energy(t, peer), t("estimated")].filter(Boolean).join(" ") : energy(t, peer))],
  ["runs_on", (peer) => runsOn(peer)],
  ["reached", (peer, t) => t(`reach_${peer.reach}`)],
  ["reports", (peer, t) => (peer.reporters ? t("reported", { n: peer.reporters }) : null)],
];

function load(t, peer) {
  const held = part(peer.total_positions - peer.free_positions, peer.total_positions);
  const sessions = t("sessions", { n: peer.num_sessions });
  return held === null ? sessions : `${sessions}, ${t("kv_full", { percent: Math.round(100 * held) })}`;
}

/** The table; `plainly` without buttons, where only a screen reader meets it. */
function Table({ peers, looks, order, setOrder, plainly, t }) {
  const head = (name) => {
    const label = t(`column_${name}`);
    if (plainly || !(name in ORDERS)) return label;
    return html`<button type="button" onClick=${() => setOrder(name)}>${label}</button>`;
  };
  return html`<table class="peer-table">
    <caption class="hidden-text">${t("table_caption")}</caption>
    <thead><tr>${COLUMNS.map(([name]) => html`<th key=${name} scope="col"
      aria-sort=${order === name ? "ascending" : undefined}>${head(name)}</th>`)}</tr></thead>
    <tbody>${peers.map((peer) => html`<tr key=${peer.peer} data-peer=${peer.peer} style=${{ "--hue": looks.of(peer.peer).hue }}>
      ${COLUMNS.map(([name, cell]) => (name === "name"
        ? html`<th key=${name} scope="row"><span class="letters" aria-hidden="true">${looks.of(peer.peer).letters}</span> ${cell(peer, t)}</th>`
        : html`<td key=${name}>${cell(peer, t) ?? "–"}</td>`))}
    </tr>`)}</tbody>
  </table>`;
}
