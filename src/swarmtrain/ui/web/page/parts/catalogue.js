// Which charts there are: those of what every training and node tells, and one for each thing that a script reports.

const STEP_PARTS = {
  "train/data_seconds": "waiting for data",
  "train/forward_seconds": "forward",
  "train/backward_seconds": "backward",
  "train/communication_seconds": "waiting for others",
  "train/optimizer_seconds": "optimizer",
};

/** Charts that lead, in this order; the text of each is that of its first series unless it has its own. */
const KNOWN = [
  { id: "loss", group: "training", title: "Loss", names: ["train/loss"], log: true },
  { id: "throughput", group: "training", title: "Throughput", names: ["train/samples_per_second"] },
  { id: "step", group: "training", title: "Time of a step", names: ["train/step_seconds"], log: true },
  {
    id: "split",
    group: "training",
    title: "Where a step's time goes",
    names: Object.keys(STEP_PARTS),
    short: STEP_PARTS,
    kind: "stack",
    about: "mean of all ranks, the parts on each other",
  },
  { id: "rate", group: "training", title: "Learning rate", names: ["train/learning_rate"], log: true },
  { id: "norm", group: "training", title: "Gradient norm", names: ["train/gradient_norm"], log: true },
  { id: "cpu", group: "nodes", title: "Processors", names: ["node/cpu_busy_ratio"] },
  { id: "memory", group: "nodes", title: "Memory", names: ["node/memory_used_ratio"] },
  { id: "gpu", group: "nodes", title: "GPUs", names: ["gpu/busy_ratio"] },
  { id: "gpu-memory", group: "nodes", title: "Memory of the GPUs", names: ["gpu/memory_used_bytes"] },
  { id: "heat", group: "nodes", title: "Temperature of the GPUs", names: ["gpu/temperature_celsius"] },
  { id: "power", group: "nodes", title: "Power of the GPUs", names: ["gpu/power_watts"] },
  {
    id: "pressure",
    group: "nodes",
    title: "Pressure",
    names: ["node/pressure_cpu_ratio", "node/pressure_memory_ratio", "node/pressure_io_ratio"],
    about: "of the time: some process waits",
    short: {
      "node/pressure_cpu_ratio": "processor",
      "node/pressure_memory_ratio": "memory",
      "node/pressure_io_ratio": "disk",
    },
  },
  {
    id: "disk",
    group: "nodes",
    title: "Disks",
    names: ["disk/read_bytes_per_second", "disk/write_bytes_per_second"],
    about: "read and written",
    short: { "disk/read_bytes_per_second": "read", "disk/write_bytes_per_second": "written" },
  },
  { id: "receive", group: "links", title: "Received", names: ["interface/receive_bytes_per_second"] },
  { id: "transmit", group: "links", title: "Sent", names: ["interface/transmit_bytes_per_second"] },
  { id: "link-transmit", group: "links", title: "Sent to each node", names: ["link/transmit_bytes_per_second"] },
  { id: "link-receive", group: "links", title: "Received from each node", names: ["link/receive_bytes_per_second"] },
  { id: "round-trip", group: "links", title: "Round trip to each node", names: ["link/round_trip_seconds"] },
  { id: "again", group: "links", title: "Sent again", names: ["link/sent_again_ratio"] },
];

// Told in tables, or of little use as a line.
const QUIET = new Set([
  "train/epoch",
  "train/samples",
  "node/memory_available_bytes",
  "node/container_memory_limit_bytes",
  "gpu/memory_total_bytes",
  "gpu/power_limit_watts",
  "gpu/clock_limit_hertz",
  "node/disk_free_bytes",
  "node/shm_free_bytes",
]);

/** The charts of what was measured. @param list series without points, of all runs together. */
export function charts(list) {
  const there = new Map(list.map((series) => [series.name, series]));
  const found = KNOWN.filter((spec) => spec.names.some((name) => there.has(name))).map((spec) => {
    const names = spec.names.filter((name) => there.has(name));
    const first = there.get(names[0]);
    return {
      ...spec,
      names: spec.kind === "stack" ? spec.names : names,
      unit: first.unit,
      about: spec.about ?? first.about,
    };
  });
  const drawn = new Set(KNOWN.flatMap((spec) => spec.names));
  for (const [name, series] of there) {
    if (drawn.has(name) || QUIET.has(name)) continue;
    const isTold = "rank" in series.labels;
    const isIdle = !isTold && !series.value; // a counter of errors that there are none of, swap that is not used
    if (isIdle) continue;
    const group = isTold ? "training" : name.startsWith("interface/") ? "links" : "nodes";
    found.push({
      id: name,
      group,
      title: title(name),
      names: [name],
      unit: series.unit,
      about: series.about,
      log: group === "training",
    });
  }
  return found;
}

/** What a line of a chart is called: which rank or node, and what of it where the chart has several. */
export function labelOf(spec, series) {
  const { peer, ...others } = series.labels;
  const labels = Object.entries(others).map(([key, value]) =>
    ["node", "interface", "device"].includes(key) ? value : `${key} ${value}`,
  );
  if (peer) labels.push(series.name.includes("receive") ? "←" : "→", peer);
  const isOneOfSeveral = spec.names.length > 1 && spec.kind !== "stack";
  const what = isOneOfSeveral ? [spec.short?.[series.name] ?? title(series.name)] : [];
  return [...what, ...labels].join(" ") || series.name;
}

export const STEP_NAMES = STEP_PARTS;

function title(name) {
  const [family, rest] = name.split("/");
  const words = rest
    .replace(/_?(bytes_per_second|per_second|ratio|celsius|watts|hertz)$/, "")
    .replace(/seconds$/, "time")
    .replace(/bytes$/, "size")
    .replaceAll("_", " ");
  const first =
    {
      train: "",
      eval: "Evaluation: ",
      snapshot: "Snapshot: ",
      gpu: "GPU: ",
      disk: "Disk: ",
      interface: "",
      node: "",
    }[family] ?? `${family}: `;
  const text = first + (words || rest);
  return (text[0].toUpperCase() + text.slice(1)).replace(/^Cpu\b/, "Processors:").replace(/^Shm\b/, "/dev/shm:");
}
