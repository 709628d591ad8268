// The time line: generations as bars, what happened as marks that one can point at, by mouse and by keyboard.

import { clock, duration } from "../data/format.js";
import { el, say } from "./dom.js";

const MARKED = new Set([
  "failure",
  "recovered",
  "stall",
  "straggler",
  "left_out",
  "snapshot_failed",
  "snapshot_skipped",
  "snapshot_again",
  "warning",
  "chaos",
  "resize",
  "stop",
  "pausing",
  "coordinator",
  "moved",
  "ended",
  "leaving",
  "kept",
  "spawner",
]);
const CLOSE = 0.012; // of the width, within which marks are one

/** Bars and marks of events. Times are Unix times. @param end now, or of the run's end. */
export function timeline(events, begin, end) {
  const bars = [],
    marks = [];
  let last = null;
  let wasFormed = 0;
  for (const event of events) {
    if (event.kind === "generation") {
      wasFormed += 1;
      if (last) last.to ??= event.t;
      last = { generation: event.generation, from: event.t, to: null, text: event.text, ranks: event.ranks };
      bars.push(last);
    } else if (["stopping", "regather", "ended"].includes(event.kind) && last) last.to ??= event.t;
    const isLate = event.kind === "joined" && wasFormed > 0;
    if (MARKED.has(event.kind) || isLate || event.tone !== "plain")
      marks.push({ from: event.t, tone: event.tone, events: [event] });
  }
  if (last) last.to ??= end;
  const width = Math.max(end - begin, 1e-6);
  const grouped = [];
  for (const mark of marks) {
    const before = grouped[grouped.length - 1];
    if (before && (mark.from - before.from) / width < CLOSE) {
      before.events.push(...mark.events);
      if (mark.tone === "bad" || before.tone === "plain") before.tone = before.tone === "bad" ? "bad" : mark.tone;
    } else grouped.push({ ...mark });
  }
  return { bars, marks: grouped, begin, end };
}

/** What stands on a mark: how many events it is of, or how the only one strikes people. */
const signOf = ({ events, tone }) =>
  events.length > 1 ? String(events.length) : ({ bad: "!", good: "+" }[tone] ?? "·");

const wordsOf = ({ events }) =>
  (events.length > 1 ? `${events.length} events: ` : "") +
  events.map((event) => `${clock(event.t)} ${event.text}`).join("; ");

export class TimeLine {
  #place;
  #chosen = null;
  #choose;
  #zoom;
  #signature = "";
  #detail;
  #strip;

  /** @param choose is told of the event that was pointed at. @param zoom of the part of time that was. */
  constructor(place, choose, zoom) {
    this.#place = place;
    this.#choose = choose;
    this.#zoom = zoom;
    this.#strip = el("div", {
      class: "strip",
      role: "toolbar",
      "aria-label": "What happened; arrow keys go from one to the next",
    });
    this.#detail = el("div", { class: "detail", "aria-live": "polite" });
    place.append(
      this.#strip,
      el("div", { class: "scale quiet", "aria-hidden": "true" }, el("span"), el("span"), el("span")),
      this.#detail,
    );
  }

  /** Another run is to be shown. */
  clear() {
    this.#signature = "";
    this.#chosen = null;
    this.#detail.replaceChildren();
  }

  show(line) {
    const width = Math.max(line.end - line.begin, 1e-6);
    const at = (time) => `${Math.max(0, Math.min(100, ((time - line.begin) / width) * 100))}%`;
    const [first, middle, last] = this.#place.querySelector(".scale").children;
    first.textContent = clock(line.begin, true);
    middle.textContent = duration(width);
    last.textContent = clock(line.end);
    const signature =
      line.bars.map((bar) => bar.generation).join() +
      line.marks.map((mark) => mark.events.length + mark.tone).join();
    if (signature !== this.#signature) {
      this.#signature = signature;
      this.#build(line);
    }
    const [bars, marks] = this.#strip.children;
    line.bars.forEach((bar, one) => {
      bars.children[one].style.left = at(bar.from);
      bars.children[one].style.width = `calc(${at(bar.to)} - ${at(bar.from)})`;
      bars.children[one].bar = bar;
    });
    line.marks.forEach((mark, one) => {
      marks.children[one].style.left = at(mark.from);
    });
  }

  #build(line) {
    const hadFocus = this.#strip.contains(document.activeElement)
      ? [...this.#strip.querySelectorAll("button")].indexOf(document.activeElement)
      : -1;
    const button = (tone, label, text, act) =>
      el(
        "button",
        {
          type: "button",
          class: `${tone}`,
          tabIndex: -1,
          "aria-label": label,
          title: label,
          onclick: act,
          onfocus: act,
          onmouseenter: act,
          onkeydown: (event) => this.#key(event),
        },
        text,
      );
    const bars = line.bars.map((bar) => {
      const made = button(
        "bar-of",
        `Generation ${bar.generation}, ${bar.ranks ?? "?"} ranks`,
        `generation ${bar.generation}`,
        () =>
          this.#tell(
            [
              {
                t: made.bar.from,
                tone: "plain",
                text: `${bar.text}; for ${duration(made.bar.to - made.bar.from)}`,
              },
            ],
            null,
          ),
      );
      made.bar = bar;
      made.addEventListener("dblclick", () => this.#zoom([made.bar.from, made.bar.to]));
      made.addEventListener("keydown", (event) => {
        if (event.key === "Enter") this.#zoom([made.bar.from, made.bar.to]);
      });
      return made;
    });
    const marks = line.marks.map((mark) =>
      button(`mark ${mark.tone}`, wordsOf(mark), el("span", { "aria-hidden": "true" }, signOf(mark)), () =>
        this.#tell(mark.events, mark.events[0]),
      ),
    );
    this.#strip.replaceChildren(el("div", { class: "bars" }, bars), el("div", { class: "marks" }, marks));
    const all = this.#strip.querySelectorAll("button");
    if (all.length) all[all.length - 1].tabIndex = 0;
    if (hadFocus >= 0) all[Math.min(hadFocus, all.length - 1)]?.focus({ preventScroll: true });
    if (!this.#detail.childElementCount) {
      const wrong = line.marks.findLast?.((mark) => mark.tone === "bad") ?? null;
      this.#detail.replaceChildren(
        el(
          "p",
          { class: "quiet" },
          wrong
            ? "Point at a mark, or go to it with the arrow keys: it tells what happened, and the plots show where."
            : "Nothing has gone wrong.",
        ),
      );
    }
  }

  #tell(events, chosen) {
    if (this.#chosen === events) return;
    this.#chosen = events;
    this.#detail.replaceChildren(
      el(
        "ol",
        { class: "told" },
        events.map((event) => el("li", { class: event.tone }, el("time", {}, clock(event.t)), ` ${event.text}`)),
      ),
    );
    this.#choose(chosen);
  }

  #key(event) {
    const all = [...this.#strip.querySelectorAll("button")];
    const at = all.indexOf(event.currentTarget);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = all[Math.max(0, Math.min(all.length - 1, to))];
    all.forEach((each) => {
      each.tabIndex = each === next ? 0 : -1;
    });
    next.focus();
    say(next.getAttribute("aria-label"));
  }
}
