// The ranks, the nodes and the links between them, as they are now.

import { measured, number, NOTHING } from "../data/format.js";
import { STEP_NAMES } from "./catalogue.js";
import { byId, el, fill, meter, table } from "./dom.js";

/** The newest values of series, by name and label. */
export class Newest {
  #list;

  constructor(list) {
    this.#list = list;
  }

  /** All of a name, of a rank or a node where one is given. */
  all(name, key, value) {
    return this.#list.filter(
      (series) => series.name === name && (key === undefined || series.labels[key] === String(value)),
    );
  }

  /** One value; null where there is none. */
  of(name, key, value) {
    const found = this.all(name, key, value).filter(
      (series) => series.value !== null && series.value !== undefined,
    );
    return found.length ? found[0].value : null;
  }

  has(name) {
    return this.#list.some((series) => series.name === name);
  }
}

const known = (value, unit) => (value === null ? NOTHING : measured(value, unit));
const share = (value, bad = 0.95) =>
  value === null ? NOTHING : meter(value, `${Math.round(value * 100)} %`, value >= bad ? "bad" : "");

/** Each rank, with where its step's time goes. */
export function showRanks(status, newest) {
  const names = Object.keys(STEP_NAMES).filter((name) => newest.has(name));
  const longest = Math.max(
    1e-9,
    ...status.workers.map((worker) => newest.of("train/step_seconds", "rank", worker.rank) ?? 0),
  );
  const rows = status.workers.map((worker) => {
    const rank = (name) => newest.of(name, "rank", worker.rank);
    const parts = names.map((name) => [name, rank(name)]).filter(([, value]) => value !== null);
    return [
      `rank ${worker.rank}`,
      worker.node,
      el(
        "span",
        { class: `badge ${worker.state === "killed" || worker.code ? "bad" : "plain"}` },
        worker.exit || worker.state,
      ),
      number(worker.step),
      known(rank("train/loss"), ""),
      known(rank("train/step_seconds"), "s"),
      ...(names.length ? [parts.length ? split(parts, longest) : NOTHING] : []),
    ];
  });
  const key = names.length
    ? el(
        "ul",
        { class: "legend", "aria-hidden": "true" },
        names.map((name) =>
          el("li", {}, el("i", { class: `part-${Object.keys(STEP_NAMES).indexOf(name)}` }), STEP_NAMES[name]),
        ),
      )
    : null;
  fill(
    byId("ranks-body"),
    rows.length
      ? table(
          "Ranks",
          ["Rank", "Node", "State", "Step", "Loss", "A step", ...(names.length ? ["Of which"] : [])],
          rows,
        )
      : el("p", { class: "quiet" }, "There are no ranks yet."),
    rows.length ? key : null,
  );
}

function split(parts, longest) {
  const text = parts.map(([name, value]) => `${STEP_NAMES[name]} ${measured(value, "s")}`).join(", ");
  const bars = parts.map(([name, value]) => {
    const bar = el("i", { class: `part-${Object.keys(STEP_NAMES).indexOf(name)}` });
    bar.style.width = `${Math.min(100, (value / longest) * 100)}%`;
    return bar;
  });
  return el(
    "span",
    { class: "split", title: text },
    el("span", { class: "track", "aria-hidden": "true" }, bars),
    el("span", { class: "unseen" }, text),
  );
}

/** Each node, with what it has left. */
export function showNodes(status, newest) {
  const hasGpus = newest.has("gpu/busy_ratio");
  const rows = status.members.map((member) => {
    const of = (name) => newest.of(name, "node", member.node);
    const gpus = newest
      .all("gpu/busy_ratio", "node", member.node)
      .map((series) => series.value)
      .filter((value) => value !== null);
    const memory = of("node/memory_available_bytes");
    return [
      member.node,
      el("span", { class: `badge ${member.state === "lost" ? "bad" : "plain"}` }, member.state),
      member.ranks.length ? member.ranks.join(", ") : NOTHING,
      share(of("node/cpu_busy_ratio"), 2),
      share(of("node/memory_used_ratio")),
      memory === null ? NOTHING : measured(memory, "B"),
      known(of("node/disk_free_bytes"), "B"),
      known(of("node/load"), ""),
      ...(hasGpus
        ? [gpus.length ? share(gpus.reduce((sum, value) => sum + value, 0) / gpus.length, 2) : NOTHING]
        : []),
    ];
  });
  fill(
    byId("nodes-body"),
    rows.length
      ? table(
          "Nodes",
          [
            "Node",
            "State",
            "Ranks",
            "Processors",
            "Memory",
            "Memory free",
            "Disk free",
            "Load",
            ...(hasGpus ? ["GPUs"] : []),
          ],
          rows,
        )
      : el("p", { class: "quiet" }, "No node has joined yet."),
  );
}

const RATES = ["receive_bytes", "transmit_bytes"];
const TROUBLES = ["receive_errors", "transmit_errors", "receive_drops", "transmit_drops"];

/** What each node sends and receives through the interface by which the training meets; who waits there for whom. */
export function showLinks(status, events, newest) {
  // What has ended has forgotten its addresses; what happened has them.
  const joined = new Map(events.filter((event) => event.kind === "joined").map((event) => [event.node, event]));
  const members = status.members.map((member) => ({
    ...member,
    address: member.address || joined.get(member.node)?.address,
    interface: member.interface || joined.get(member.node)?.interface,
  }));
  const isShared =
    new Set(members.map((member) => member.address).filter(Boolean)).size <
    members.filter((member) => member.address).length;
  const rate = (member, name) => {
    const found = newest.all(`interface/${name}_per_second`, "node", member.node);
    const own = found.filter((series) => series.labels.interface === member.interface);
    return (own.length ? own : found).reduce((sum, series) => sum + (series.value ?? 0), found.length ? 0 : NaN);
  };
  const most = Math.max(
    1,
    ...members.flatMap((member) => RATES.map((name) => rate(member, name))).filter(Number.isFinite),
  );
  const rows = members.map((member) => {
    const waits = member.ranks
      .map((one) => newest.of("train/communication_seconds", "rank", one))
      .filter((value) => value !== null);
    const wrong = TROUBLES.map((name) => [name.replace("_", " "), rate(member, name)]).filter(
      ([, value]) => value > 0,
    );
    const bar = (name) =>
      Number.isFinite(rate(member, name))
        ? meter(rate(member, name) / most, measured(rate(member, name), "B/s"))
        : NOTHING;
    return [
      member.node,
      member.address || NOTHING,
      member.interface || NOTHING,
      ...RATES.map(bar),
      wrong.length ? wrong.map(([name, value]) => `${number(value)} ${name}/s`).join(", ") : "none",
      waits.length ? measured(Math.max(...waits), "s") : NOTHING,
    ];
  });
  const words = [
    status.master
      ? `Rank 0's store is at ${status.master.address ?? status.master[0]}, port ${status.master.port ?? status.master[1]}.`
      : "",
    isShared ? "Several nodes are on one machine and share its interfaces, so each tells the traffic of all." : "",
    "A rank that waits long in each step has fast links and slow peers; all that wait alike have a slow network.",
  ].filter(Boolean);
  fill(
    byId("links-body"),
    rows.length
      ? table(
          "Links between the nodes",
          ["Node", "Address", "Interface", "Receives", "Sends", "Errors and drops", "Waits for others, a step"],
          rows,
        )
      : null,
    el("p", { class: "quiet" }, words.join(" ")),
  );
}
