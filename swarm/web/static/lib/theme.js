/** Light, dark, or as the system has it. */

import { recall, store } from "/page/lib/storage.js";

/** The choices, in the order in which a switch goes through them. */
export const THEMES = ["auto", "light", "dark"];

/** What was chosen here. */
export function chosenTheme() {
  const theme = recall("theme");
  return THEMES.includes(theme) ? theme : "auto";
}

/** Shows and keeps a choice. */
export function chooseTheme(theme) {
  store("theme", theme === "auto" ? null : theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
