// One chart: a plot that can be read with the eyes, by keyboard, and as a table.

import { align, averaged, grow, moving, newest, whole } from "../data/columns.js";
import { measured, place } from "../data/format.js";
import { labelOf } from "./catalogue.js";
import { el, say, table } from "./dom.js";
import { frame } from "./frame.js";
import { colours, drawSoon, options, sizeOf, span, uPlot } from "./plot.js";

const [STRETCHES, ROWS] = [160, 60]; // of a stack, of a table

export class Chart {
  tracks = [];
  layers = [];
  isLog = false;
  isSeen = false;

  #page;
  #plot = null;
  #data = [[]];
  #body;
  #legend;
  #table;
  #at = null;
  #hidden = new Set();
  #whole = new Set();
  #signature = "";
  #values = [];

  /** @param spec what it shows: see catalogue.js. @param page asked for axis, range, runs, offsets and marks. */
  constructor(spec, page) {
    this.spec = spec;
    this.unit = spec.unit;
    this.isStack = spec.kind === "stack";
    this.#page = page;
    const made = frame(spec, {
      key: (event) => this.#key(event),
      enter: () => this.#place(this.#at ?? this.#data[0].length - 1),
      leave: () => this.#plot?.setCursor({ left: -10, top: -10 }),
      tabulate: () => this.#tabulate(),
      log: (isLog) => {
        this.isLog = isLog;
        this.renew();
      },
    });
    this.element = made.element;
    this.#body = made.body;
    this.#legend = made.legend;
    this.#table = made.table;
    new ResizeObserver(() => this.#resize()).observe(this.#body);
  }

  get axis() {
    return this.#page.axisOf(this.spec);
  }
  get isRelative() {
    return this.#page.isRelative;
  }
  get isMany() {
    return this.tracks.length > 8;
  }
  // ---- its data

  /** All of what was measured of a run, in place of what was there. */
  setWhole(run, found) {
    const kept = this.tracks.filter((track) => track.run !== run);
    const told = found.filter((series) => this.#page.wants(run, series));
    this.tracks = [...kept, ...told.map((series) => this.#track(run, series))];
    this.#whole.add(run);
    this.draw();
  }

  /** Whether all of a run is to be asked for: nothing of it is here, or what is here is of another part. */
  isStale(run) {
    return !this.#whole.has(run);
  }

  /** What is here is of another part, of other runs or of another axis. */
  spoil() {
    this.#whole.clear();
  }

  /** What came since. False where that does not fit, so that all is to be asked for again. */
  setNewer(run, found) {
    for (const series of found.filter((each) => this.#page.wants(run, each))) {
      const track = this.tracks.find((each) => each.run === run && each.key === keyOf(series));
      if (!track || !grow(track.columns, whole(series.columns))) return false;
    }
    if (found.length) this.draw();
    return this.tracks.every((track) => track.columns.x.length < Math.min(4000, 80_000 / this.tracks.length));
  }

  /** From where on a run's newer points are to be asked for: the least of the lines that still move. */
  since(run) {
    return moving(this.tracks.filter((track) => track.run === run).map((track) => track.columns));
  }

  #track(run, series) {
    const label = labelOf(this.spec, series);
    return {
      run,
      key: keyOf(series),
      name: series.name,
      label: this.#page.runs.length > 1 ? `${run} ${label}` : label,
      columns: whole(series.columns),
      offset: 0,
      shown: true,
      colour: "",
      isSpread: Boolean(series.columns.low),
    };
  }

  // ---- its picture

  /** Draw soon, once, however often it is asked to; only where somebody sees it. */
  draw() {
    if (!this.isSeen) return;
    drawSoon(this, () => this.#drawNow());
  }

  /** Draw with other options: another axis, other colours. */
  renew() {
    this.#signature = "";
    this.draw();
  }

  range() {
    const zoomed = this.#page.range(this.axis);
    if (zoomed) return zoomed;
    const xs = this.#data[0];
    if (!xs.length) return [0, 1];
    return xs[0] === xs[xs.length - 1] ? [xs[0] - 1, xs[0] + 1] : [xs[0], xs[xs.length - 1]];
  }

  span() {
    if (!this.isStack)
      return span(
        this.tracks.filter((track) => track.shown),
        this.range(),
        this.unit,
        this.isLog,
      );
    const top = this.#data[1] || [];
    return [0, Math.max(1e-9, ...top.filter((value) => value !== null)) * 1.05];
  }

  marks() {
    return this.#page.marks(this.axis);
  }
  zoomed(range) {
    this.#page.zoom(this.axis, range);
  }

  #drawNow() {
    const ink = colours();
    const isByRun = this.#page.runs.length > 1;
    this.tracks.sort(
      (one, other) =>
        this.#page.runs.indexOf(one.run) - this.#page.runs.indexOf(other.run) ||
        one.label.localeCompare(other.label, "en", { numeric: true }),
    );
    this.tracks.forEach((track, at) => {
      track.colour = ink.lines[(isByRun ? this.#page.runs.indexOf(track.run) : at) % ink.lines.length];
      track.dash = !isByRun && at >= ink.lines.length ? [6, 3] : undefined;
      track.offset = this.axis === "time" ? this.#page.offset(track.run) : 0;
      track.shown = !this.#hidden.has(track.run + track.key);
    });
    if (this.isStack) this.#stack(ink);
    else
      this.#data = align(
        this.tracks.map((track) => track.columns),
        this.axis,
        this.tracks.map((track) => track.offset),
      );
    const signature = [
      this.axis,
      this.isRelative,
      this.isLog,
      ...(this.isStack ? this.layers : this.tracks).map((each) => each.label + each.colour + each.shown),
    ].join("|");
    if (this.#plot && signature === this.#signature) this.#plot.setData(this.#data);
    else {
      this.#plot?.destroy();
      this.#signature = signature;
      this.#plot = this.#data[0].length
        ? new uPlot(options(this, sizeOf(this.#body), ink), this.#data, this.#body)
        : null;
      this.#list();
    }
    this.#body.classList.toggle("empty", !this.#data[0].length);
    this.#tell(this.#at);
    if (!this.#table.hidden) this.#tabulate();
  }

  /** The parts of the first run's steps, laid on each other: the mean of its ranks. */
  #stack(ink) {
    const of = (name) =>
      this.tracks
        .filter((track) => track.name === name && track.run === this.#page.runs[0])
        .map((track) => track.columns);
    const names = this.spec.names.filter((name) => of(name).length);
    const { x, values } = averaged(names.map(of), STRETCHES, this.axis);
    const sums = x.map(() => 0);
    const stacked = values.map((part) => part.map((value, at) => (value === null ? null : (sums[at] += value))));
    const offset = this.axis === "time" ? this.#page.offset(this.#page.runs[0]) : 0;
    this.layers = names
      .map((name, at) => ({
        label: this.spec.short[name],
        colour: ink.lines[this.spec.names.indexOf(name) % ink.lines.length],
      }))
      .reverse();
    this.#values = values.reverse();
    this.#data = [x.map((each) => each - offset), ...stacked.reverse()];
  }

  #resize() {
    const size = sizeOf(this.#body);
    if (this.#plot && Math.abs(this.#plot.width - size.width) > 1) this.#plot.setSize(size);
  }

  // ---- its words

  #list() {
    const entries = this.isStack ? this.layers : this.tracks;
    this.#legend.replaceChildren(
      ...entries.map((entry) => {
        const swatch = el("i", { "aria-hidden": "true" });
        swatch.style.background = entry.colour;
        entry.told = el("b", {});
        if (this.isStack) return el("li", {}, swatch, `${entry.label} `, entry.told);
        const name = entry.run + entry.key;
        return el(
          "li",
          {},
          el(
            "button",
            {
              type: "button",
              "aria-pressed": String(entry.shown),
              onclick: (event) => {
                if (!this.#hidden.delete(name)) this.#hidden.add(name);
                event.currentTarget.setAttribute("aria-pressed", String(!this.#hidden.has(name)));
                const at = [...this.#legend.children].indexOf(event.currentTarget.parentNode);
                this.#drawNow();
                this.#legend.children[at]?.firstChild.focus();
              },
            },
            swatch,
            `${entry.label} `,
            entry.told,
          ),
        );
      }),
    );
  }

  /** The values at a place of the plot, or the newest. */
  #told(at) {
    if (this.isStack)
      return this.layers.map((layer, one) => [
        layer,
        this.#values[one]?.[at ?? this.#values[one].length - 1] ?? null,
      ]);
    return this.tracks.map((track, one) => {
      if (at === null) return [track, newest(track.columns)];
      const column = this.#data[one + 1] || [];
      for (let back = at; back >= 0; back -= 1) if (column[back] !== undefined) return [track, column[back]];
      return [track, null];
    });
  }

  #tell(at) {
    for (const [entry, value] of this.#told(at))
      if (entry.told) entry.told.textContent = measured(value, this.unit);
  }

  /** uPlot's cursor is at a point, by mouse or by keyboard; or has left. */
  pointed(at, isThere) {
    const to = isThere && at !== null && at !== undefined ? at : null;
    if (to === this.#at) return;
    this.#at = to;
    if (this.isSeen) this.#tell(to);
  }

  #place(at) {
    if (!this.#plot || !this.#data[0].length) return;
    const to = Math.max(0, Math.min(this.#data[0].length - 1, at));
    this.#plot.setCursor({
      left: this.#plot.valToPos(this.#data[0][to], "x"),
      top: this.#plot.over.clientHeight / 2,
    });
    const told = this.#told(to)
      .filter(([entry, value]) => entry.shown !== false && value !== null)
      .slice(0, 6);
    say(
      `${place(this.axis, this.#data[0][to], this.isRelative)}: ${told.map(([entry, value]) => `${entry.label} ${measured(value, this.unit)}`).join(", ")}`,
    );
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#plot) return;
    const xs = this.#data[0];
    const [from, to] = this.range();
    const first = Math.max(
      0,
      xs.findIndex((x) => x >= from),
    );
    const at = this.#at ?? xs.length - 1;
    const by = event.shiftKey ? 10 : 1;
    const middle = xs[at] >= from && xs[at] <= to ? xs[at] : (from + to) / 2;
    const scale = (factor) => this.zoomed([middle - (middle - from) * factor, middle + (to - middle) * factor]);
    const acts = {
      ArrowLeft: () => this.#place(at - by),
      ArrowRight: () => this.#place(at + by),
      Home: () => this.#place(first),
      End: () => this.#place(xs.length - 1),
      "+": () => scale(0.5),
      "=": () => scale(0.5),
      "-": () => scale(2),
      Escape: () => this.zoomed(null),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  #tabulate() {
    if (this.#table.hidden) return;
    const xs = this.#data[0];
    const every = Math.max(1, Math.ceil(xs.length / ROWS));
    const places = [...xs.keys()].filter((at) => at % every === 0 || at === xs.length - 1);
    const heads = (this.isStack ? this.layers : this.tracks).slice(0, 12).map((entry) => entry.label);
    const rows = places.map((at) => [
      place(this.axis, xs[at], this.isRelative),
      ...this.#told(at)
        .slice(0, 12)
        .map(([, value]) => measured(value, this.unit)),
    ]);
    this.#table.replaceChildren(
      table(this.spec.title, [{ time: "Time", step: "Step", samples: "Samples" }[this.axis], ...heads], rows),
    );
  }
}

const keyOf = (series) => series.name + JSON.stringify(series.labels);
