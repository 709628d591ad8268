// The frame of a chart: its title, its buttons, and the places for its plot, its legend and its table.

import { el } from "./dom.js";

const HELP =
  "Arrow keys move along the plot, with Shift ten points; plus and minus zoom, Escape shows everything.";

/** @param acts what the chart does: `key`, `enter` and `leave` of its plot, `tabulate`, and `log` with whether it is. */
export function frame(spec, acts) {
  const id = `chart-${spec.id.replace(/\W/g, "-")}`;
  const body = el("div", {
    class: "plot",
    tabIndex: 0,
    role: "img",
    "aria-labelledby": `${id}-title`,
    "aria-describedby": "chart-help",
    onkeydown: acts.key,
    onfocus: acts.enter,
    onblur: acts.leave,
  });
  const legend = el("ul", { class: "legend", "aria-label": "Lines; press one to hide or show it" });
  const table = el("div", { hidden: true });
  const buttons = [
    toggle("Table", "aria-expanded", `Table: ${spec.title}`, (isOn) => {
      table.hidden = !isOn;
      acts.tabulate();
    }),
  ];
  if (spec.log)
    buttons.unshift(toggle("Log", "aria-pressed", `Log: ${spec.title} on a logarithmic scale`, acts.log));
  const title = el(
    "div",
    {},
    el("h3", { id: `${id}-title` }, spec.title),
    el("p", { class: "quiet" }, spec.about),
  );
  const caption = el("figcaption", { class: "bar" }, title, el("div", { class: "buttons" }, buttons));
  return { element: el("figure", { class: "card chart", id }, caption, body, legend, table), body, legend, table };
}

function toggle(text, state, label, act) {
  const button = el("button", { type: "button", [state]: "false", "aria-label": label }, text);
  button.addEventListener("click", () => {
    const isOn = button.getAttribute(state) !== "true";
    button.setAttribute(state, String(isOn));
    act(isOn);
  });
  return button;
}

/** What every plot is described by, for who does not see it. */
export const chartHelp = () => el("p", { id: "chart-help", class: "unseen" }, HELP);
