/** One model: its blocks from left to right, who holds which, and what is missing. */

import { html, useEffect, useMemo, useRef, useState } from "/page/vendor/preact.js";
import { Copyable } from "/page/swarm/copy.js";
import { lanes, share, ticks, way } from "/page/swarm/layout.js";
import { bytes, called, condition, plain } from "/page/swarm/words.js";

const LIT = 1600; // Milliseconds for which a token's way stays lit.

/** The card of one model; `path` is the newest token's way through it, if one was told. */
export function ModelMap({ model, looks, path, t }) {
  const { placed, count } = useMemo(() => lanes(model.peers), [model]);
  const name = plain(model.name);
  const missing = model.missing.reduce((sum, [start, end]) => sum + end - start, 0);
  const serving = model.peers.filter((peer) => peer.state === "serving").length;
  const id = `model-${model.model.slice(0, 16)}`;
  return html`<section class="served card" aria-labelledby=${id}>
    <header class="model-head">
      <h2 id=${id}><bdi>${name}</bdi></h2>
      <p class="model-facts">
        <span class=${`badge ${missing ? "bad" : "good"}`}>
          ${missing ? t("missing_blocks", { n: missing }) : t("complete")}</span>
        <span>${t("blocks", { n: model.num_blocks })}</span>
        <span>${t("peers_serving", { n: serving })}</span>
      </p>
    </header>
    <${BlockMap} model=${model} placed=${placed} count=${count} looks=${looks} path=${path} t=${t} />
    <${Route} path=${path} model=${model} looks=${looks} t=${t} />
    ${model.gaps.map((gap) => html`<${Gap} key=${`${gap.start}:${gap.end}`} gap=${gap} t=${t}
      peers=${model.peers} />`)}
  </section>`;
}

function BlockMap({ model, placed, count, looks, path, t }) {
  const lit = useLit(path);
  const points = lit && way(lit.hops, placed);
  const onWay = new Set(points ? lit.hops.map((hop) => hop.peer) : []);
  const size = count > 12 ? "small" : count > 6 ? "middle" : "large";
  return html`<div class=${`map map-${size}`} role="img" aria-label=${described(t, model)}
      style=${{ "--lanes": count, "--blocks": Math.min(model.num_blocks, 400) }}>
    <div class="lanes" aria-hidden="true">
      ${model.gaps.map((gap) => html`<div key=${`gap${gap.start}`} class="hole"
        style=${{ left: share(gap.start, model.num_blocks), width: share(gap.end - gap.start, model.num_blocks) }}>
        <span>${gap.start}:${gap.end}</span></div>`)}
      ${placed.map(({ peer, lane }) => html`<${Span} key=${peer.peer} peer=${peer} lane=${lane} t=${t}
        looks=${looks.of(peer.peer)} numBlocks=${model.num_blocks} lit=${onWay.has(peer.peer)} />`)}
      ${points && html`<${Way} key=${lit.number} points=${points} width=${model.num_blocks} height=${count} />`}
    </div>
    <${Copies} model=${model} />
    <div class="axis" aria-hidden="true">
      ${ticks(model.num_blocks).map((mark) => html`<span key=${mark} style=${{ left: share(mark, model.num_blocks) }}>
        ${mark}</span>`)}
    </div>
  </div>`;
}

function Span({ peer, lane, looks, numBlocks, lit, t }) {
  const place = {
    left: share(peer.start, numBlocks),
    width: share(peer.end - peer.start, numBlocks),
    top: `calc(${lane} * var(--lane))`,
    "--hue": looks.hue,
  };
  const title = `${called(peer)} · ${peer.start}:${peer.end} · ${condition(t, peer)}`;
  const state = peer.state === "serving" ? "" : condition(t, peer);
  return html`<div class=${`span pattern-${looks.pattern} is-${peer.state} ${lit ? "lit" : ""}`}
      style=${place} title=${title} data-peer=${peer.peer}>
    <span class="letters">${looks.letters}</span>
    <bdi class="span-name">${called(peer)}</bdi>
    ${state && html`<span class="span-state">${state}</span>`}
  </div>`;
}

/** The line that a token has drawn through the lanes, and the token at its head. */
function Way({ points, width, height }) {
  const line = points.map((point) => point.join(",")).join(" ");
  return html`<svg class="way" viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none">
    <polyline class="way-glow" points=${line} pathLength="1" />
    <polyline class="way-line" points=${line} pathLength="1" />
  </svg>`;
}

/** How many serve each block, as a strip. */
function Copies({ model }) {
  return html`<div class="copies" aria-hidden="true">
    ${model.replication.map(([start, end, number]) => html`<span key=${start} class=${`copies-${Math.min(number, 4)}`}
      style=${{ left: share(start, model.num_blocks), width: share(end - start, model.num_blocks) }}>
      ${`×${number}`}</span>`)}
  </div>`;
}

/** The way in words, which lasts longer than the light. */
function Route({ path, model, looks, t }) {
  if (!path) return null;
  const named = new Map(model.peers.map((peer) => [peer.peer, called(peer)]));
  const whole = path.hops.reduce((sum, hop) => sum + hop.queue_ms + hop.compute_ms + hop.wire_ms, path.back_ms ?? 0);
  return html`<p class="token-way"><span class="soft">${t("last_token", { ms: t.number(whole, 1) })}</span>
    ${path.hops.map((hop, index) => html`<span key=${index} class="route-hop"
        style=${{ "--hue": looks.of(hop.peer).hue }} title=${t("hop_times", {
          compute: t.number(hop.compute_ms, 1), queue: t.number(hop.queue_ms, 1), wire: t.number(hop.wire_ms, 1),
        })}>
      <span class="letters">${looks.of(hop.peer).letters}</span>
      <bdi>${named.get(hop.peer) ?? `…${hop.peer.slice(-6)}`}</bdi>
      <span class="soft">${hop.start}:${hop.end}</span> ${t.number(hop.compute_ms + hop.queue_ms, 1)} ms</span>`)}
  </p>`;
}

function Gap({ gap, peers, t }) {
  const coming = gap.coming.map((id) => called(peers.find((peer) => peer.peer === id) ?? { name: "", peer: id }));
  return html`<div class="gap" role="group" aria-label=${t("gap_label", { start: gap.start, end: gap.end })}>
    <p><strong>${t("gap", { n: gap.end - gap.start, start: gap.start, end: gap.end })}</strong>
      ${" "}${gap.bytes === null ? "" : t("gap_bytes", { size: bytes(t, gap.bytes) })}
      ${coming.length > 0 && html` <span class="coming">${t("coming", { n: coming.length, names: coming.join(", ") })}</span>`}</p>
    <p class="soft">${t("gap_fill")}</p>
    <${Copyable} text=${gap.command} label=${t("copy_command", { start: gap.start, end: gap.end })} t=${t} />
  </div>`;
}

/** The newest path for as long as it is lit, with a number of its own. */
function useLit(path) {
  const [lit, setLit] = useState(null);
  const number = useRef(0);
  const until = useRef(0);
  useEffect(() => {
    if (!path) return;
    const now = performance.now();
    // One token's light is seen before the next one's begins.
    if (now < until.current) return;
    until.current = now + LIT / 2;
    number.current += 1;
    setLit({ ...path, number: number.current });
  }, [path]);
  useEffect(() => {
    if (!lit) return undefined;
    const timer = setTimeout(() => setLit(null), LIT);
    return () => clearTimeout(timer);
  }, [lit]);
  return lit;
}

function described(t, model) {
  const held = model.peers.filter((peer) => peer.start < peer.end);
  const spans = held.slice(0, 40).map((peer) => `${called(peer)} ${peer.start}:${peer.end}`);
  const gaps = model.gaps.slice(0, 20).map((gap) => `${gap.start}:${gap.end}`);
  const lacking = gaps.length ? t("map_missing", { gaps: gaps.join(", ") }) : t("complete");
  return t("map_label", { spans: spans.join("; "), lacking });
}
