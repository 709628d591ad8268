// Series as plots take them: columns that grow, and are laid beside each other. Pure.

const COLUMNS = ["x", "time", "step", "generation", "mean", "low", "high", "points", "bad"];

/** Columns as a series document has them, with those that it leaves out. */
export function whole(columns) {
  const { x, mean } = columns;
  return {
    ...columns,
    low: columns.low || mean,
    high: columns.high || mean,
    points: columns.points || x.map(() => 1),
    bad: columns.bad || x.map(() => 0),
  };
}

/**
 * Newer points behind those that are there: what they cover is replaced. False where they do not fit, so that all is to
 * be asked for anew: another generation has made steps again, or something may lie between.
 */
export function grow(had, newer) {
  const count = newer.x.length;
  if (!count) return true;
  const last = had.x.length - 1;
  if (last < 0) return false;
  if (newer.x[0] > had.x[last] || newer.generation[count - 1] !== had.generation[last]) return false;
  let keep = had.x.length;
  while (keep > 0 && had.x[keep - 1] >= newer.x[0]) keep -= 1;
  for (const name of COLUMNS) {
    had[name] = had[name].slice(0, keep);
    for (const value of newer[name]) had[name].push(value);
  }
  return true;
}

/** The least of the ends of those that still move; null where none has a point. What came to rest is not waited for. */
export function moving(all) {
  const told = all.filter((columns) => columns.x.length);
  if (!told.length) return null;
  const ends = told.map(({ x }) => x[x.length - 1]);
  const last = Math.max(...ends);
  const first = Math.min(...told.map(({ x }) => x[0]));
  return Math.min(...ends.filter((end) => end >= last - Math.max(30, (last - first) * 0.05)));
}

/** Between which points nothing was measured: the places of the later ones. Only time has such gaps. */
export function gaps(columns, axis) {
  const { x, generation } = columns;
  if (axis !== "time" || x.length < 2) return [];
  const steps = [];
  for (let at = 1; at < x.length; at += 1) steps.push(x[at] - x[at - 1]);
  const usual = [...steps].sort((one, other) => one - other)[steps.length >> 1];
  const found = [];
  for (let at = 1; at < x.length; at += 1) {
    const apart = steps[at - 1];
    if (apart > Math.max(10 * usual, 5) || (generation[at] !== generation[at - 1] && apart > 2 * usual))
      found.push(at);
  }
  return found;
}

/**
 * Several series over one ascending axis, as uPlot takes them. Where one has no point of its own there is `undefined`,
 * across which its line goes; where nothing was measured there is `null`, at which it ends.
 */
export function align(all, axis, offsets) {
  const cut = all.map((columns) => new Set(gaps(columns, axis)));
  const places = new Set();
  all.forEach((columns, one) =>
    columns.x.forEach((x, at) => {
      places.add(x - offsets[one]);
      if (cut[one].has(at)) places.add((x + columns.x[at - 1]) / 2 - offsets[one]);
    }),
  );
  const xs = Float64Array.from(places).sort();
  const ys = all.map((columns, one) => {
    const values = new Array(xs.length);
    let to = 0;
    columns.x.forEach((x, at) => {
      const before = to;
      while (xs[to] < x - offsets[one]) to += 1;
      if (cut[one].has(at)) values.fill(null, before + 1, to); // all of it: uPlot looks no further than one place
      values[to] = columns.mean[at];
    });
    return values;
  });
  return [xs, ...ys];
}

const BREAK = 3; // stretches of time without a point, after which something is amiss

/**
 * The means of several series in equal stretches of their axis in which all have points: a column for each group. Of
 * time, `null` stands where nothing was measured for a while.
 */
export function averaged(groups, most, axis) {
  // So few that each has a point of every series, where they come evenly.
  const fewest = Math.min(...groups.flat().map((columns) => columns.x.length));
  const stretches = Math.max(1, Math.min(most, fewest));
  let first = Infinity,
    last = -Infinity;
  for (const columns of groups.flat()) {
    if (!columns.x.length) continue;
    first = Math.min(first, columns.x[0]);
    last = Math.max(last, columns.x[columns.x.length - 1]);
  }
  if (!(last >= first)) return { x: [], values: groups.map(() => []) };
  const width = (last - first) / stretches || 1;
  const sums = groups.map(() => new Float64Array(stretches + 1));
  const counts = groups.map(() => new Float64Array(stretches + 1));
  groups.forEach((group, one) =>
    group.forEach((columns) =>
      columns.x.forEach((x, at) => {
        if (columns.mean[at] === null) return;
        const to = Math.min(stretches, Math.floor((x - first) / width));
        sums[one][to] += columns.mean[at] * columns.points[at];
        counts[one][to] += columns.points[at];
      }),
    ),
  );
  const x = [];
  const values = groups.map(() => []);
  let before = Infinity;
  for (let at = 0; at <= stretches; at += 1) {
    if (counts.some((count) => !count[at])) continue;
    if (axis === "time" && at - before > BREAK) {
      x.push(first + ((before + at + 1) / 2) * width);
      values.forEach((column) => column.push(null));
    }
    x.push(first + (at + 0.5) * width);
    values.forEach((column, one) => column.push(sums[one][at] / counts[one][at]));
    before = at;
  }
  return { x, values };
}

/** The newest value of a series that is finite. */
export function newest(columns) {
  for (let at = columns.mean.length - 1; at >= 0; at -= 1) if (columns.mean[at] !== null) return columns.mean[at];
  return null;
}
