/** Icons, drawn with lines of the text's colour. They are decoration: buttons carry their names. */

import { html } from "/page/vendor/preact.js";

const PATHS = {
  sun: "M12 3v2m0 14v2M3 12h2m14 0h2M5.6 5.6 7 7m10 10 1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0Z",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a6.7 6.7 0 0 0 10.5 10.5Z",
  auto: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17Zm0 0v17M12 7h6.5M12 12h8M12 17h6.5",
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5m-6 6 6-6 6 6",
  stop: "M8 8h8v8H8z",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "m5 12.5 4.5 4.5L19 7.5",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19.5 3.5v4.3h-4.3",
  edit: "m4 20 .8-4L16 4.8a1.7 1.7 0 0 1 2.4 0l.8.8a1.7 1.7 0 0 1 0 2.4L8 19.2zM14 7l3 3",
  trash: "M5 7h14M10 4h4M7 7l.8 13h8.4L17 7M10.2 11v5.5m3.6-5.5v5.5",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  close: "m6 6 12 12M18 6 6 18",
  down: "M12 5v14m-6-6 6 6 6-6",
  sliders: "M4 8h8m6 0h2M4 16h2m6 0h8M18 8a3 3 0 1 1-6 0 3 3 0 0 1 6 0ZM12 16a3 3 0 1 1-6 0 3 3 0 0 1 6 0Z",
  search: "M16 10.5a5.5 5.5 0 1 1-11 0 5.5 5.5 0 0 1 11 0Zm-1.2 4.3L20 20",
  route: "M5 18.5a2 2 0 1 0 0-.1ZM19 5.5a2 2 0 1 0 0-.1ZM7 18.5h7a3.5 3.5 0 0 0 0-7h-4a3.5 3.5 0 0 1 0-7h7",
  key: "M14.5 9.5a4.5 4.5 0 1 0-4.2 4.5L12 15.5h2v2h2V20h4v-3.5l-5.6-5.6c.1-.4.1-.9.1-1.4ZM8.5 8.5h.01",
};

/** An icon by its name, 20 px unless `size` says otherwise. */
export function Icon({ name, size = 20 }) {
  return html`<svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true">
    <path d=${PATHS[name]} />
  </svg>`;
}

/** The product's mark. */
export function Mark({ size = 26 }) {
  return html`<svg class="mark" width=${size} height=${size} viewBox="0 0 32 32" aria-hidden="true">
    <path class="mark-cell" d="M16 2.2 27.9 9v14L16 29.8 4.1 23V9z" />
    <path class="mark-home" d="m16 8.6 7 5.6v8.3h-4.6v-5h-4.8v5H9v-8.3z" />
  </svg>`;
}
