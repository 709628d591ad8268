// What a person sees first: how the run is, in a few numbers, and what is wrong with it, in words.

import { clock, duration, measured, number } from "../data/format.js";
import { byId, el, fill, say } from "./dom.js";

const TONES = {
  running: "good",
  succeeded: "good",
  failed: "bad",
  healing: "warn",
  stopping: "warn",
  starting: "warn",
  stopped: "plain",
};
const SURE = { certain: "certain", likely: "likely", possible: "possible", unknown: "not sure" };

function tile(name, value, more = "") {
  return el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, more) : ""));
}

/** The head of the page and the tiles. @param told the status document. @param newest values of series by name. @param others runs that are laid over it. */
export function showStatus({ status, words }, newest, others) {
  byId("title").replaceChildren(
    status.run,
    ...(others.length ? [el("small", {}, ` and ${others.join(", ")} laid over it`)] : []),
  );
  document.title = `${words.state === "failed" ? "✗ " : ""}${status.run} ${words.state} · swarmtrain`;
  const badge = byId("state");
  if (badge.textContent !== words.state) badge.textContent = words.state;
  badge.className = `badge ${TONES[words.state] || "plain"}`;
  const end = status.ended || status.now;
  const took = status.created && end ? end - status.created : null;
  const nodes = status.members.filter((member) => ["running", "joined", "ended"].includes(member.state)).length;
  const speed = newest("train/samples_per_second");
  const good = status.goodput && status.goodput.total > 0 ? status.goodput.steps / status.goodput.total : null;
  byId("tiles").replaceChildren(
    tile(
      "Step",
      number(status.step),
      status.epoch === null || status.epoch === undefined ? "" : `epoch ${number(status.epoch)}`,
    ),
    tile("Loss", number(status.loss)),
    ...Object.entries(status.eval || {})
      .filter(([key, value]) => typeof value === "number" && !["step", "epoch", "seconds"].includes(key))
      .slice(0, 2)
      .map(([key, value]) => tile(`Evaluation: ${key}`, number(value))),
    tile("Throughput", speed === null ? "–" : `${number(Math.round(speed))}`, speed === null ? "" : "samples/s"),
    tile("A step", measured(status.step_seconds, "s")),
    tile("Ranks", number(status.world_size), `on ${nodes} ${nodes === 1 ? "node" : "nodes"}`),
    tile(
      "Generation",
      number(status.generation),
      status.restarts ? `${status.restarts} ${status.restarts === 1 ? "restart" : "restarts"}` : "",
    ),
    tile(status.ended ? "Took" : "For", duration(took), `since ${clock(status.created, true)}`),
    tile("Goodput", good === null ? "–" : `${Math.round(good * 100)} %`, "of the time in steps that counted"),
  );
  byId("spent").textContent = [words.spent, ...words.troubles].filter(Boolean).join(". ");
}

function command(text) {
  const copy = el(
    "button",
    {
      type: "button",
      "aria-label": `Copy: ${text}`,
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          copy.textContent = "Copied";
          say("copied");
        } catch {
          const range = document.createRange();
          range.selectNodeContents(copy.previousSibling);
          getSelection().removeAllRanges();
          getSelection().addRange(range);
        }
      },
    },
    "Copy",
  );
  return el("div", { class: "command" }, el("code", { tabIndex: 0 }, text), copy);
}

function observation(seen) {
  const who = [seen.rank === undefined || seen.rank === null ? "" : `rank ${seen.rank}`, seen.node]
    .filter(Boolean)
    .join(" on ");
  return el(
    "li",
    {},
    el("p", { class: "who" }, [who, seen.t ? clock(seen.t) : "", seen.place].filter(Boolean).join(" · ")),
    seen.code ? el("pre", { class: "code" }, seen.code) : "",
    el("p", { class: "saw" }, seen.text),
  );
}

/** Nothing is known yet of what is wrong. */
export function clearDiagnosis() {
  const place = byId("diagnosis-body");
  place.dataset.made = "";
  place.replaceChildren(el("p", { class: "quiet" }, "It is being looked at."));
  byId("diagnosis").classList.remove("trouble");
}

/** The diagnosis: verdict, evidence, cause with how sure it is, what to try, and what could not be seen. */
export function showDiagnosis(found) {
  const card = byId("diagnosis");
  const place = byId("diagnosis-body");
  const made = JSON.stringify(found);
  if (place.dataset.made === made) return;
  place.dataset.made = made;
  card.classList.toggle("trouble", found.words.trouble);
  // What is wrong comes first; that nothing is, after how it is.
  if (found.words.trouble) byId("overview").before(card);
  else byId("overview").after(card);
  const parts = [el("p", { class: "verdict", role: found.words.trouble ? "alert" : null }, found.words.verdict)];
  if (found.cause)
    parts.push(
      el(
        "p",
        {},
        el("b", {}, "Cause: "),
        found.cause,
        " ",
        el("span", { class: "badge plain" }, SURE[found.sure] || found.sure),
      ),
    );
  if (found.remedies.length) {
    parts.push(
      el("h3", {}, "Try"),
      el(
        "ol",
        { class: "remedies" },
        found.remedies.map((remedy) =>
          el("li", {}, el("p", {}, remedy.text), remedy.command ? command(remedy.command) : ""),
        ),
      ),
    );
  }
  const evidence = found.evidence.length ? [el("ul", { class: "evidence" }, found.evidence.map(observation))] : [];
  const unseen = found.unseen.length
    ? [
        el("h3", {}, "What could not be seen"),
        el(
          "ul",
          {},
          found.unseen.map((sentence) => el("li", {}, sentence)),
        ),
      ]
    : [];
  if (evidence.length || unseen.length) {
    parts.push(
      el(
        "details",
        { open: found.words.trouble },
        el("summary", {}, found.words.trouble ? "What this rests on" : "What was looked at"),
        ...evidence,
        ...unseen,
      ),
    );
  }
  if (found.words.trouble)
    parts.push(
      el("p", { class: "quiet" }, "More of this kind: ", el("code", {}, `swarmtrain explain ${found.code}`)),
    );
  fill(place, ...parts);
}
