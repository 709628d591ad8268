// The page: one run, with others laid over it, from the first question to the last word.

import { Feed } from "./data/feed.js";
import { clock } from "./data/format.js";
import { source } from "./data/source.js";
import { charts } from "./parts/catalogue.js";
import { Chart } from "./parts/chart.js";
import { choose } from "./parts/choose.js";
import { arrange, byId, el, say } from "./parts/dom.js";
import { EventList } from "./parts/events.js";
import { chartHelp } from "./parts/frame.js";
import { Logs } from "./parts/logs.js";
import { clearDiagnosis, showDiagnosis, showStatus } from "./parts/summary.js";
import { Newest, showLinks, showNodes, showRanks } from "./parts/tables.js";
import { timeline, TimeLine } from "./parts/timeline.js";
import { onKeys, onTheme } from "./parts/tools.js";

const TAIL = 20_000; // lines that the page begins with
const LIST_SECONDS = 4; // between two looks at which series there are
const EXPLAIN_SECONDS = 15; // between two questions for what is wrong, when nothing happens

/** What the page knows, and what its parts ask it for. */
class Page {
  runs = [];
  shown = new Map(); // by name of a run: its status document and its events
  chosen = null; // the event that was pointed at
  axis = "step";
  zoomedTo = { time: null, step: null, samples: null };
  list = new Newest([]);
  charts = [];
  #source = source();
  #stop = () => {};
  #over = new Set();
  #listed = 0;
  #explained = 0;
  #isListing = false;
  #tail = TAIL;
  #drawing = 0;

  constructor() {
    this.feed = new Feed(this.#source, this, (text) => this.connection("series", text));
    this.events = new EventList();
    this.logs = new Logs(
      this.#source.isLive
        ? () => {
            this.#tail = null;
            this.follow();
          }
        : null,
    );
    this.line = new TimeLine(
      byId("timeline-body"),
      (event) => this.point(event),
      (range) => {
        this.setAxis("time");
        this.zoom(
          "time",
          range.map((time) => time - this.offset(this.runs[0])),
        );
      },
    );
    this.seen = new IntersectionObserver((entries) => this.#saw(entries), { rootMargin: "200px" });
    byId("main").append(chartHelp());
  }

  // ---- what charts ask for

  get isRelative() {
    return this.runs.length > 1;
  }
  axisOf(spec) {
    return spec.group === "training" ? this.axis : "time";
  }
  range(axis) {
    return this.zoomedTo[axis];
  }
  offset(run) {
    return this.isRelative ? (this.shown.get(run)?.status?.created ?? 0) : 0;
  }
  isOver(run) {
    return this.#over.has(run);
  }

  /** Of the interfaces of a node only those by which the training meets: a machine has many that nobody uses. */
  wants(run, series) {
    if (!series.labels.interface) return true;
    const { status, events = [] } = this.shown.get(run) ?? {};
    const its = [...(status?.members ?? []), ...events]
      .filter((each) => each.node === series.labels.node && each.interface)
      .map((each) => each.interface);
    return !its.length || its.includes(series.labels.interface);
  }

  marks(axis) {
    const { events = [] } = this.shown.get(this.runs[0]) ?? {};
    const shift = this.offset(this.runs[0]);
    const placed = events
      .filter((event) => event.tone !== "plain" || event === this.chosen || event.kind === "generation")
      .map((event) => ({
        event,
        tone: event.tone,
        chosen: event === this.chosen,
        x: axis === "time" ? event.t - shift : axis === "step" ? event.at_step : undefined,
      }));
    return placed.filter((mark) => mark.x !== undefined);
  }

  zoom(axis, range) {
    this.zoomedTo[axis] = range;
    byId("whole").hidden = !Object.values(this.zoomedTo).some(Boolean);
    for (const chart of this.charts)
      if (chart.axis === axis) {
        chart.spoil();
        chart.draw();
      }
    this.feed.changed();
    say(range ? "zoomed in" : "everything is shown");
  }

  point(event) {
    this.chosen = event;
    this.events.point(event);
    for (const chart of this.charts) chart.draw();
  }

  // ---- runs

  async begin() {
    onTheme(() => this.renew());
    onKeys(this.logs);
    for (const input of document.querySelectorAll("input[name=axis]"))
      input.addEventListener("change", () => this.setAxis(input.value));
    byId("whole").addEventListener("click", () => {
      for (const axis of Object.keys(this.zoomedTo)) this.zoom(axis, null);
    });
    byId("choose").addEventListener("click", () => choose(this.#source, this.runs, (runs) => this.show(runs)));
    const wanted = new URLSearchParams(location.hash.startsWith("#run=") ? location.hash.slice(1) : "").getAll(
      "run",
    );
    this.show(wanted.length && this.#source.isLive ? wanted : await this.#source.begin());
    byId("foot").textContent = this.#source.isLive
      ? ""
      : `Kept on ${clock(this.#source.kept, true)}. This file is all of it: it loads nothing.`;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.feed.news();
    });
  }

  show(runs) {
    this.runs = runs;
    this.shown.clear();
    this.#over.clear();
    this.chosen = null;
    for (const axis of Object.keys(this.zoomedTo)) this.zoomedTo[axis] = null;
    byId("whole").hidden = true;
    this.charts.forEach((chart) => this.seen.unobserve(chart.element));
    this.charts = [];
    this.list = new Newest([]);
    this.line.clear();
    clearDiagnosis();
    this.#place();
    this.#listed = this.#explained = 0;
    this.follow();
  }

  follow() {
    this.#stop();
    if (this.runs.length)
      this.#stop = this.#source.follow(this.runs, this.#tail, (name, data) => this.heard(name, data));
  }

  heard(name, data) {
    const run = this.shown.get(data.run);
    const isFirst = data.run === this.runs[0];
    if (name === "begin") {
      for (const each of this.runs) this.shown.set(each, { ...this.shown.get(each), events: [] });
      this.events.clear();
      this.logs.clear();
      this.connection("stream", "");
    } else if (name === "broken")
      this.connection(
        "stream",
        data.closed && this.#over.size < this.runs.length
          ? "the server of this page refuses it: open its whole address again"
          : this.#over.size < this.runs.length
            ? "the server of this page is away; it is asked again"
            : "",
      );
    else if (name === "status") {
      run.status = data.status;
      run.words = data.words;
      if (isFirst) this.connection("coordinator", "");
      this.#told();
    } else if (name === "happened") {
      run.events.push(...data.events);
      if (isFirst) this.events.add(data.events);
      if (data.events.some((event) => event.tone !== "plain")) this.#explained = 0;
      this.#told();
    } else if (name === "lines") this.logs.add(data.lines);
    else if (name === "unfinished") this.logs.unfinished(data.lines);
    else if (name === "note") {
      if (isFirst) this.connection("coordinator", data.text === "the coordinator is back" ? "" : data.text);
    } else if (name === "over") {
      if (data.reason) this.connection("coordinator", data.reason);
      this.feed.news(); // before it is over: what came last is still to be asked for
      setTimeout(
        () => {
          this.#over.add(data.run);
          this.#listed = this.#explained = 0;
          this.charts.forEach((chart) => chart.spoil());
          this.#told();
        },
        this.#source.isLive ? 1500 : 0,
      );
    }
  }

  #told() {
    this.feed.news();
    this.#look();
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.draw();
    });
  }

  draw() {
    const { status, words, events } = this.shown.get(this.runs[0]) ?? {};
    if (!status) return;
    const newest = (name) => this.list.all(name).find((series) => series.value !== null)?.value ?? null;
    showStatus({ status, words }, newest, this.runs.slice(1));
    showRanks(status, this.list);
    showNodes(status, this.list);
    showLinks(status, events, this.list);
    this.line.show(
      timeline(
        events,
        status.created ?? events[0]?.t ?? 0,
        status.ended ?? status.now ?? events[events.length - 1]?.t ?? 1,
      ),
    );
  }

  /** Which series there are, and what is wrong: asked from time to time, and when something has happened. */
  async #look() {
    const now = performance.now() / 1000;
    if (this.#isListing) return;
    this.#isListing = true;
    const [first] = this.runs;
    try {
      if (!this.#listed || now - this.#listed > LIST_SECONDS) {
        this.#listed = now;
        const lists = await Promise.all(this.runs.map((run) => this.#source.series(run, { list: true })));
        if (first === this.runs[0]) {
          this.list = new Newest(lists[0]);
          this.#arrange(charts(lists.flat()));
          this.draw();
        }
      }
      if (!this.#explained || now - this.#explained > EXPLAIN_SECONDS) {
        this.#explained = now;
        const found = await this.#source.explain(first);
        if (first === this.runs[0]) showDiagnosis(found);
      }
      this.connection("questions", "");
    } catch (error) {
      this.connection("questions", error.message);
    }
    this.#isListing = false;
    if (!this.#listed) this.#look();
  }

  // ---- charts

  #arrange(specs) {
    const had = new Map(this.charts.map((chart) => [chart.spec.id, chart]));
    if (
      specs.length === had.size &&
      specs.every((spec) => had.has(spec.id) && had.get(spec.id).spec.names.length === spec.names.length)
    )
      return;
    this.charts = specs.map((spec) => {
      const known = had.get(spec.id);
      if (known && known.spec.names.length === spec.names.length) return known;
      const chart = new Chart(spec, this);
      chart.element.chart = chart;
      this.seen.observe(chart.element);
      return chart;
    });
    this.#place();
  }

  #place() {
    for (const [id, group] of [
      ["training-charts", "training"],
      ["node-charts", "nodes"],
      ["link-charts", "links"],
    ]) {
      const wanted = this.charts.filter((chart) => chart.spec.group === group).map((chart) => chart.element);
      arrange(byId(id), wanted);
      if (!wanted.length && group === "training")
        byId(id).append(el("p", { class: "quiet" }, "Nothing has been measured of the training yet."));
    }
  }

  #saw(entries) {
    let isNew = false;
    for (const { target, isIntersecting } of entries) {
      isNew ||= isIntersecting && !target.chart.isSeen;
      target.chart.isSeen = isIntersecting;
      if (isIntersecting) target.chart.draw();
    }
    if (isNew) this.feed.changed();
  }

  setAxis(axis) {
    this.axis = axis;
    document.querySelector(`input[name=axis][value=${axis}]`).checked = true;
    for (const chart of this.charts)
      if (chart.spec.group === "training") {
        chart.tracks = [];
        chart.spoil();
        chart.renew();
      }
    this.feed.changed();
  }

  renew() {
    for (const chart of this.charts) chart.renew();
  }

  // ---- words

  #notes = new Map();

  connection(what, text) {
    this.#notes.set(what, text);
    const told = [...new Set([...this.#notes.values()].filter(Boolean))].join("; ");
    if (byId("connection").textContent !== told) byId("connection").textContent = told;
  }
}

const page = new Page();
page.begin().catch((error) => page.connection("begin", error.message));
window.swarmtrain = page;
