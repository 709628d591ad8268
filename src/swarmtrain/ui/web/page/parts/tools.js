// What the whole page has: light and dark, and keys.

import { byId, el, fill } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const KEYS = [
  ["?", "these keys"],
  ["/", "find in the lines"],
  ["Tab", "to the next plot, mark, table or list"],
  ["← →", "along a plot or the time line; with Shift ten points of a plot"],
  ["Home End", "to the first or the last"],
  ["+ −", "zoom a plot in and out; all plots of that axis follow"],
  ["Escape", "show everything again"],
  ["Enter", "on a generation of the time line: zoom to it; on the lines: the whole of the first one"],
  ["↑ ↓ Page Up Page Down", "through the lines; End follows them"],
];

function remembered() {
  try {
    return localStorage.getItem("swarmtrain-theme");
  } catch {
    return null;
  }
}

/** Light, dark or as the system has it; told when the colours change. */
export function onTheme(changed) {
  const button = byId("theme");
  let theme = THEMES.includes(remembered()) ? remembered() : "system";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    changed();
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem("swarmtrain-theme", theme);
    } catch {
      /* a page that may keep nothing forgets it */
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

/** Keys that hold everywhere but where somebody writes. */
export function onKeys(logs) {
  const help = () => {
    byId("dialog-title").textContent = "Keys";
    fill(
      byId("dialog-body"),
      el(
        "dl",
        { class: "keys" },
        KEYS.flatMap(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)]),
      ),
    );
    byId("dialog").showModal();
  };
  byId("keys").addEventListener("click", help);
  document.addEventListener("keydown", (event) => {
    if (
      event.target.matches("input, select, textarea") ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      byId("dialog").open
    )
      return;
    if (event.key === "?") help();
    else if (event.key === "/") logs.focus();
    else return;
    event.preventDefault();
  });
}
