// Where the page's data comes from: the server, or the file itself. Both answer the same questions.

/** The server: questions by fetch, news by server-sent events. */
class LiveSource {
  isLive = true;
  kept = null;

  async begin() {
    return (await this.#ask("page")).runs;
  }
  async runs() {
    return (await this.#ask("runs")).runs;
  }
  async explain(run) {
    return this.#ask("explain", { run });
  }

  /** What was measured of a run: series with columns of points; without points where `list` is set. */
  async series(run, { names = [], x = "time", start, end, most = 1000, list = false }) {
    const asked = { run, name: names, x, most };
    if (start !== undefined && start !== null) asked.start = start;
    if (end !== undefined && end !== null) asked.end = end;
    if (list) asked.list = 1;
    return (await this.#ask("series", asked)).series;
  }

  /** Tell a listener everything that happens to runs; returns what ends that. A broken connection begins anew. */
  follow(runs, tail, listener) {
    const query = new URLSearchParams(runs.map((run) => ["run", run]));
    if (tail !== null) query.set("tail", tail);
    const stream = new EventSource(`api/live?${query}`);
    const left = new Set(runs);
    for (const name of ["begin", "status", "happened", "lines", "unfinished", "note", "over"]) {
      stream.addEventListener(name, (event) => {
        const data = JSON.parse(event.data);
        if (name === "over") left.delete(data.run);
        if (left.size === 0) stream.close();
        listener(name, data);
      });
    }
    stream.addEventListener("error", () =>
      listener("broken", { closed: stream.readyState === EventSource.CLOSED }),
    );
    return () => stream.close();
  }

  async #ask(what, query = {}) {
    const words = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) for (const each of [value].flat()) words.append(key, each);
    const answer = await fetch(`api/${what}?${words}`);
    const body = (answer.headers.get("content-type") || "").includes("json") ? await answer.json() : {};
    if (!answer.ok || body.error) throw new Error(body.error || `the server answers ${answer.status}`);
    return body;
  }
}

/** A kept page: everything is in the file. */
class KeptSource {
  isLive = false;

  constructor(told) {
    this.kept = told.kept;
    this.#runs = new Map(told.runs.map((run) => [run.run, run]));
  }

  #runs;

  async begin() {
    return [...this.#runs.keys()];
  }
  async runs() {
    return [...this.#runs.values()];
  }
  async explain(run) {
    return this.#runs.get(run).explain;
  }

  async series(run, { names = [], x = "time", start, end, list = false }) {
    const found = this.#runs
      .get(run)
      .series[list ? "time" : x].filter((each) => !names.length || names.includes(each.name));
    if (list) return found;
    return found
      .map((each) => ({ ...each, columns: within(each.columns, start ?? -Infinity, end ?? Infinity) }))
      .filter((each) => each.columns.x.length);
  }

  follow(runs, tail, listener) {
    queueMicrotask(() => {
      listener("begin", { runs });
      runs.forEach((name, at) => {
        const run = this.#runs.get(name);
        listener("status", { run: name, status: run.status, words: run.words });
        listener("happened", { run: name, events: run.events });
        if (at === 0) listener("lines", { run: name, lines: run.lines });
        listener("over", { run: name, reason: "", hint: "" });
      });
    });
    return () => {};
  }
}

/** The part of columns between two places, both included. */
function within(columns, start, end) {
  let first = 0,
    last = columns.x.length;
  while (first < last && columns.x[first] < start) first += 1;
  while (last > first && columns.x[last - 1] > end) last -= 1;
  return Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, values.slice(first, last)]));
}

export function source() {
  const kept = document.getElementById("kept");
  return kept ? new KeptSource(JSON.parse(kept.textContent)) : new LiveSource();
}
