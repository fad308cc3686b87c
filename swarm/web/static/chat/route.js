/** Who computed an answer, and where the time went: its trace, for people. */

import { html } from "/page/vendor/preact.js";
import { Icon } from "/page/lib/icons.js";

const PARTS = ["queue", "compute", "wire"];

/** One line that opens: what the answer took, and by whom it was made. */
export function Facts({ facts, model, t }) {
  const { tokens, rate, trace, by } = facts;
  const names = trace ? lastRoute(trace).map((hop) => hop.peer) : [];
  const line = [
    model,
    tokens !== null && tokens !== undefined && t("num_tokens", { n: tokens }),
    rate > 0 && t("rate", { rate: t.number(rate, 1) }),
  ].filter(Boolean);
  const via = by === "fallback" ? t("by_fallback") : names.join(" → ");
  if (!trace) return html`<p class="facts" dir="auto">${line.join(" · ")}</p>`;
  return html`<details class="facts">
    <summary><span dir="auto">${line.join(" · ")}</span>
      ${via && html`<span class="via"><${Icon} name="route" size=${16} /><span dir="auto">${via}</span></span>`}</summary>
    <${Route} trace=${trace} t=${t} />
  </details>`;
}

/** What happened to an answer's route, if anything did: seen at once, without opening anything. */
export function Mended({ facts, t }) {
  const lines = happened(facts ?? {}, t);
  if (!lines.length) return null;
  return html`<ul class="mended">
    ${lines.map((line, index) => html`<li key=${index} dir="auto">${line}</li>`)}
  </ul>`;
}

function Route({ trace, t }) {
  if (trace.by === "fallback") return html`<p class="soft">${t("fallback_help")}</p>`;
  const ms = (value) => t("ms", { ms: t.number(value, value < 10 ? 1 : 0) });
  return html`<div class="way">
    ${trace.hops.length > 0 && html`<${Hops} trace=${trace} ms=${ms} t=${t} />`}
    <dl class="route-facts">
      <${Fact} name=${t("first_token")} value=${ms(trace.first_token_ms)} />
      <${Fact} name=${t("waited")} value=${ms(trace.queue_ms)} />
      <${Fact} name=${t("total")} value=${t("seconds", { s: t.number(trace.total_ms / 1000, 1) })} />
      <${Fact} name=${t("prompt_tokens")}
        value=${t("prompt_cached", { prompt: t.number(trace.prompt), cached: t.number(trace.cached) })} />
      ${trace.speculation.drafted > 0 &&
      html`<${Fact} name=${t("guessed")} value=${t("guesses", trace.speculation)} />`}
    </dl>
  </div>`;
}

function Fact({ name, value }) {
  return html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
}

function Hops({ trace, ms, t }) {
  const most = Math.max(...trace.hops.map(whole));
  const caption = t("per_step", { n: trace.steps });
  return html`<div class="table-wrap" tabindex="0" role="group" aria-label=${caption}>
    <table class="hops">
      <caption>${caption}</caption>
      <thead><tr><th scope="col">${t("peer")}</th><th scope="col">${t("blocks")}</th>
        ${PARTS.map((part) => html`<th scope="col" key=${part}>
          <span class=${`swatch ${part}`} />${t(part)}</th>`)}
        <th scope="col"><span class="hidden-text">${t("share")}</span></th></tr></thead>
      <tbody>${trace.hops.map((hop, index) => html`<tr key=${index}>
        <th scope="row" dir="auto">${hop.peer}</th>
        <td>${hop.blocks[0]}–${hop.blocks[1] - 1}</td>
        ${PARTS.map((part) => html`<td key=${part}>${ms(hop[`${part}_ms`])}</td>`)}
        <td><${Bar} hop=${hop} most=${most} /></td>
      </tr>`)}</tbody>
    </table>
  </div>`;
}

function Bar({ hop, most }) {
  return html`<span class="bar" aria-hidden="true">${PARTS.map(
    (part) => html`<span key=${part} class=${part}
      style=${{ width: `${most ? (100 * hop[`${part}_ms`]) / most : 0}%` }} />`,
  )}</span>`;
}

/** What became of the route while the answer was written, in sentences. */
function happened({ changes = [], trace }, t) {
  const told = (trace?.changes ?? changes).map((change) => changeOf(change, t));
  const silent = trace ? trace.recoveries + trace.handovers - told.length : 0;
  if (silent > 0) told.push(t("route_mended", { n: silent }));
  return told;
}

/** One change of a route as a sentence. */
export function changeOf({ kind, tokens, gone, came }, t) {
  return t(came.length ? `route_${kind}` : `route_${kind}_same`, {
    n: tokens,
    gone: list(gone, t),
    came: list(came, t),
  });
}

function list(names, t) {
  return names.length ? new Intl.ListFormat(t.language).format(names) : t("nobody");
}

/** The hops that an answer ended with: those replaced come before who took over. */
function lastRoute({ hops }) {
  const last = [];
  for (const hop of hops.toReversed()) {
    const [start, end] = hop.blocks;
    const taken = last.some(({ blocks }) => start < blocks[1] && blocks[0] < end);
    if (!taken) last.push(hop);
  }
  return last.sort((left, right) => left.blocks[0] - right.blocks[0]);
}

function whole(hop) {
  return PARTS.reduce((sum, part) => sum + hop[`${part}_ms`], 0);
}
