/** Numbers and names in words. Names are whatever members call themselves. */

// Controls, and what turns the direction of text around it.
const ODD = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A name on one line, no longer than people read. */
export function plain(text, most = 80) {
  const kept = text.slice(0, 4 * most).replace(ODD, "\ufffd").trim();
  const letters = Array.from(kept);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : kept;
}

/** What a peer is called: its name, or the end of its id. */
export function called(peer) {
  return plain(peer.name, 60) || `…${peer.peer.slice(-6)}`;
}

/** Bytes, as disks count them. */
export function bytes(t, number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${t.number(number, number < 10 && unit > 1 ? 1 : 0)} ${units[unit]}`;
}

/** Bytes of memory, as machines have it. */
export function memory(t, number) {
  const units = ["MiB", "GiB", "TiB"];
  let unit = 0;
  let value = number / 2 ** 20;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${t.number(value, unit && value < 100 && !Number.isInteger(value) ? 1 : 0)} ${units[unit]}`;
}

/** A part of a whole, 0 to 1; null where the whole is not known. */
export function part(used, whole) {
  return whole > 0 ? Math.min(1, Math.max(0, used / whole)) : null;
}

/** Watts and joules, with a mark where they are estimated; null where nothing is known. */
export function energy(t, peer) {
  const told = [];
  if (peer.watts > 0) told.push(`${t.number(peer.watts, peer.watts < 10 ? 1 : 0)} W`);
  if (peer.joules > 0) {
    told.push(t("joules", { joules: t.number(peer.joules, peer.joules < 10 ? 2 : 0) }));
  }
  if (!told.length) return null;
  return `${peer.energy_estimated ? "≈ " : ""}${told.join(" · ")}`;
}

/** How fast it decodes. */
export function speed(t, peer) {
  if (!(peer.decode_seconds > 0)) return null;
  const milliseconds = 1000 * peer.decode_seconds;
  return t("ms", { ms: t.number(milliseconds, milliseconds < 10 ? 1 : 0) });
}

/** How fast it reads prompts. */
export function prefill(t, peer) {
  if (!(peer.prefill_seconds > 0)) return null;
  return t("per_second", { n: Math.round(1 / peer.prefill_seconds), rate: t.number(1 / peer.prefill_seconds) });
}

/** Its state; of a paused one, until when. */
export function condition(t, peer) {
  if (peer.state === "paused" && peer.resumes > 0) {
    const until = new Date(1000 * peer.resumes);
    const time = until.toLocaleTimeString(t.language, { hour: "2-digit", minute: "2-digit" });
    return t("paused_until", { time });
  }
  return t(`state_${peer.state}`);
}
