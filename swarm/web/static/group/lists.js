/** Open invites and members, each with what may be done about it. */

import { html, useState } from "/page/vendor/preact.js";
import { plain } from "/page/swarm/words.js";

/** The invites that somebody may still use. */
export function Invites({ book, t, ask }) {
  const withdraw = (invite) => ask({
    title: t("withdraw_title", { name: named(invite, t) }),
    text: t("withdraw_text"),
    button: t("withdraw"),
    what: { path: `/page/api/group/invites/${invite.id}`, method: "DELETE", told: t("withdrawn") },
  });
  return html`<section aria-labelledby="invites-title">
    <h2 id="invites-title">${t("invites_title")} <span class="soft count">${book.invites.length}</span></h2>
    ${!book.invites.length && html`<p class="soft">${t("no_invites")}</p>`}
    <ul class="listed">${book.invites.map((invite) => html`<li key=${invite.id} class="entry">
      <div class="entry-what"><strong><bdi>${named(invite, t)}</bdi></strong>
        <span class="soft">${t("uses_left", { n: invite.uses })} · ${t("until", { time: t.time(1000 * invite.expires) })}</span></div>
      <span class="badge">${t(`role_${invite.role}`)}</span>
      <button class="button danger" type="button" onClick=${() => withdraw(invite)}
        aria-label=${t("withdraw_this", { name: named(invite, t) })}>${t("withdraw")}</button>
    </li>`)}</ul>
  </section>`;
}

/** The members; those who were removed are folded away. */
export function Members({ book, t, ask }) {
  const [sought, setSought] = useState("");
  const wanted = sought.trim().toLowerCase();
  const found = book.members.filter((each) => `${each.name} ${each.member}`.toLowerCase().includes(wanted));
  const living = found.filter((member) => member.state !== "revoked");
  const gone = found.filter((member) => member.state === "revoked");
  return html`<section aria-labelledby="members-title">
    <header class="peers-head">
      <h2 id="members-title">${t("members_title")} <span class="soft count">${living.length}</span></h2>
      <label class="hidden-text" for="members-search">${t("search_members")}</label>
      <input id="members-search" class="field" type="search" placeholder=${t("search_members")} value=${sought}
        onInput=${(event) => setSought(event.target.value)} />
    </header>
    <ul class="listed">${living.map((member) => html`<${Member} key=${member.member} member=${member} book=${book} t=${t} ask=${ask} />`)}</ul>
    ${gone.length > 0 && html`<details class="gone"><summary>${t("removed", { n: gone.length })}</summary>
      <ul class="listed">${gone.map((member) => html`<${Member} key=${member.member} member=${member} book=${book} t=${t} />`)}</ul>
    </details>`}
  </section>`;
}

function Member({ member, book, t, ask }) {
  const name = plain(member.name, 64);
  const mine = member.member === book.group.self;
  const revoke = () => ask({
    title: t("revoke_title", { name }),
    text: t("revoke_text"),
    button: t("revoke"),
    what: { path: "/page/api/group/revoke", json: { member: member.member }, told: t("revoked_told", { name }) },
  });
  const since = t("joined", { time: t.time(1000 * member.joined) });
  const ends = member.state === "revoked"
    ? t("removed_at", { time: t.time(1000 * member.revoked) })
    : t(member.state === "ok" ? "valid_until" : "expired_at", { time: t.time(1000 * member.expires) });
  return html`<li class=${`entry is-${member.state}`} data-member=${member.member}>
    <div class="entry-what"><strong><bdi>${name}</bdi></strong> <span class="soft member-id">…${member.member.slice(-8)}</span>
      <span class="soft">${since} · ${ends}</span>
      ${member.reports > 0 && html`<span class="reported">${t("reported", { n: member.reports })}</span>`}</div>
    <span class=${`badge state-${member.state}`}>${t(`role_${highest(member.roles)}`)}</span>
    ${mine ? html`<span class="soft">${t("this_one")}</span>`
      : ask && html`<button class="button danger" type="button" onClick=${revoke}
          aria-label=${t("revoke_this", { name })}>${t("revoke")}</button>`}
  </li>`;
}

function named(invite, t) {
  return plain(invite.name, 64) || t("nameless", { id: invite.id.slice(0, 6) });
}

/** The role that says all: who may do more may do what comes before, too. */
function highest(roles) {
  return ["authority", "admin", "peer", "client"].find((role) => roles.includes(role)) ?? "none";
}
