// What the charts show, asked for: everything once, and what came since whenever the run has told something.

const [LEAST, MOST] = [200, 1200]; // points of a series that a chart has
const TOGETHER = 24_000; // points of all its series, about: many ranks have fewer each
const REST = 900; // milliseconds between two questions for what is new

export class Feed {
  #source;
  #state;
  #isAsking = false;
  #isWanted = false;
  #last = 0;

  /** @param state has the runs and their charts, and the range of each axis. @param failed is told of what cannot be had. */
  constructor(source, state, failed) {
    this.#source = source;
    this.#state = state;
    this.failed = failed;
  }

  /** The run has told something: ask for what is new, soon. */
  news() {
    this.#isWanted = true;
    this.#soon();
  }

  /** Charts have come into view, or show another part: ask for all of that now. */
  changed() {
    this.#last = 0;
    this.news();
  }

  #soon() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    setTimeout(
      async () => {
        this.#isWanted = false;
        try {
          await this.#ask();
          this.failed("");
        } catch (error) {
          this.failed(error.message);
        }
        this.#last = performance.now();
        this.#isAsking = false;
        if (this.#isWanted) this.#soon();
      },
      Math.max(0, this.#last + REST - performance.now()),
    );
  }

  async #ask() {
    const seen = this.#state.charts.filter((chart) => chart.isSeen);
    for (const run of this.#state.runs) {
      for (const axis of new Set(seen.map((chart) => chart.axis))) {
        const [here, old] = [[], []];
        for (const chart of seen) if (chart.axis === axis) (chart.isStale(run) ? old : here).push(chart);
        await this.#whole(run, axis, old);
        if (this.#source.isLive && !this.#state.range(axis)) await this.#newer(run, axis, here);
      }
    }
  }

  #most(charts) {
    const series = Math.max(1, ...namesOf(charts).map((name) => this.#state.list.all(name).length));
    return Math.max(LEAST, Math.min(MOST, Math.floor(TOGETHER / series)));
  }

  async #whole(run, axis, charts) {
    if (!charts.length) return;
    const range = this.#state.range(axis);
    const shift = axis === "time" ? this.#state.offset(run) : 0;
    const part = range ? { start: range[0] + shift, end: range[1] + shift } : {};
    const found = await this.#source.series(run, {
      names: namesOf(charts),
      x: axis,
      most: this.#most(charts),
      ...part,
    });
    for (const chart of charts)
      chart.setWhole(
        run,
        found.filter((series) => chart.spec.names.includes(series.name)),
      );
  }

  async #newer(run, axis, charts) {
    if (!charts.length || this.#state.isOver(run)) return;
    const starts = charts.map((chart) => chart.since(run));
    const start = starts.includes(null) ? null : Math.min(...starts); // one has no point yet: from the beginning
    const found = await this.#source.series(run, {
      names: namesOf(charts),
      x: axis,
      most: this.#most(charts),
      start,
    });
    const again = charts.filter(
      (chart) =>
        !chart.setNewer(
          run,
          found.filter((series) => chart.spec.names.includes(series.name)),
        ),
    );
    await this.#whole(run, axis, again);
  }
}

const namesOf = (charts) => [...new Set(charts.flatMap((chart) => chart.spec.names))];
