// The choice of runs: one that is shown whole, and others that are laid over its plots.

import { duration } from "../data/format.js";
import { byId, el } from "./dom.js";

/** Ask which runs to show. @param shown the names of those that are. @param apply is told of others. */
export async function choose(source, shown, apply) {
  const dialog = byId("dialog");
  const body = byId("dialog-body");
  byId("dialog-title").textContent = "Runs";
  body.replaceChildren(el("p", { class: "quiet" }, "They are being looked for."));
  dialog.showModal();
  let all;
  try {
    all = await source.runs();
  } catch (error) {
    body.replaceChildren(el("p", {}, error.message));
    return;
  }
  const boxes = all.map((run) =>
    el("input", { type: "checkbox", value: run.run, checked: shown.includes(run.run) }),
  );
  const options = all.map((run) => el("option", { value: run.run, selected: run.run === shown[0] }, run.run));
  const first = el("select", { "aria-label": "The run that is shown whole" }, options);
  const laid = all.map((run, at) => el("label", { class: "check" }, boxes[at], el("b", {}, run.run), about(run)));
  const legend = el("legend", {}, "With these laid over it");
  body.replaceChildren(
    el("p", {}, el("label", {}, "Show ", first)),
    el("fieldset", { class: "runs" }, legend, laid),
  );
  first.focus();
  const applied = () => {
    const others = boxes.filter((box) => box.checked && box.value !== first.value).map((box) => box.value);
    const wanted = [first.value, ...others];
    if (first.value && wanted.join() !== shown.join()) apply(wanted);
  };
  if (dialog.open) dialog.addEventListener("close", applied, { once: true });
}

function about(run) {
  const ago = run.created ? `, ${duration(Date.now() / 1000 - run.created)} ago` : "";
  return el("span", { class: "quiet" }, ` ${run.state}, on ${run.on}${ago}`);
}
