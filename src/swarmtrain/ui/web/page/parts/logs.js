// The lines of the workers: only those that are in view are elements, however many there are.

import { LineStore, picker } from "../data/lines.js";
import { clock } from "../data/format.js";
import { byId, el, say } from "./dom.js";

const ROW = 20; // pixels, as the style sheet has it
const HIGHEST = 10_000_000; // pixels of what scrolls: browsers know no element that is much higher
const SLICE = 8; // milliseconds of a frame that a search may take

export class Logs {
  store = new LineStore();

  #found = null;
  #searched = 0;
  #pick = null;
  #top = 0;
  #isFollowing = true;
  #frame = 0;
  #rows = [];
  #own = 0;
  #view;
  #space;
  #count;
  #below;
  #rank;
  #node;
  #text;
  #isRegex;
  #follow;
  #all;
  #whole;

  /** @param all asks for every line of the run; null where there are no others. */
  constructor(all) {
    this.#text = el("input", {
      type: "search",
      placeholder: "Find in the lines",
      "aria-label": "Find in the lines",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: false,
      oninput: () => this.#filter(),
    });
    this.#isRegex = el("input", { type: "checkbox", onchange: () => this.#filter() });
    this.#rank = el(
      "select",
      { "aria-label": "Rank", onchange: () => this.#filter() },
      el("option", { value: "" }, "all ranks"),
    );
    this.#node = el(
      "select",
      { "aria-label": "Node", onchange: () => this.#filter() },
      el("option", { value: "" }, "all nodes"),
    );
    this.#follow = el(
      "button",
      { type: "button", "aria-pressed": "true", onclick: () => this.#keep(!this.#isFollowing) },
      "Follow",
    );
    this.#all = all
      ? el(
          "button",
          {
            type: "button",
            onclick: () => {
              this.#all.hidden = true;
              all();
            },
          },
          "Load every line",
        )
      : el("span");
    this.#count = el("span", { class: "quiet", role: "status" });
    this.#space = el("div", { class: "space" });
    this.#view = el(
      "div",
      {
        class: "lines",
        tabIndex: 0,
        role: "log",
        "aria-live": "off",
        "aria-label": "What the workers write. Arrow keys, Page Up, Page Down, Home and End move.",
        onscroll: () => this.#scrolled(),
        onkeydown: (event) => this.#key(event),
      },
      this.#space,
    );
    this.#below = el("div", { class: "unfinished", role: "group", "aria-label": "Lines that go on" });
    this.#whole = el("div", { class: "whole", hidden: true });
    byId("logs-body").append(
      el(
        "div",
        { class: "bar controls" },
        this.#text,
        el("label", { class: "check" }, this.#isRegex, " regular expression"),
        this.#rank,
        this.#node,
        this.#follow,
        this.#all,
        this.#count,
      ),
      this.#view,
      this.#below,
      this.#whole,
    );
    new ResizeObserver(() => this.#draw()).observe(this.#view);
  }

  focus() {
    this.#text.focus();
  }

  clear() {
    this.store = new LineStore();
    this.#searched = 0;
    if (this.#found) this.#found = [];
    this.#top = 0;
    this.unfinished([]);
    this.#draw();
  }

  add(rows) {
    this.store.push(rows);
    this.#offer(
      this.#rank,
      [...this.store.ranks].sort((one, other) => one - other),
      (rank) => `rank ${rank}`,
    );
    this.#offer(this.#node, this.store.nodes, (node) => node);
    this.#draw();
  }

  unfinished(rows) {
    this.#below.replaceChildren(
      ...rows.map((row) => el("div", {}, el("span", { class: "rank" }, `[${row[2]}]`), ` ${row[4]}`)),
    );
  }

  /** How many lines fit. */
  get shown() {
    return this.#found ? this.#found.length : this.store.count;
  }

  #offer(select, values, name) {
    if (select.options.length === values.length + 1) return;
    const had = select.value;
    select.replaceChildren(
      select.options[0],
      ...values.map((value) => el("option", { value: String(value) }, name(value))),
    );
    select.value = had;
  }

  #filter() {
    try {
      this.#pick = picker({
        text: this.#text.value,
        isRegex: this.#isRegex.checked,
        rank: this.#rank.value,
        node: this.#node.value,
      });
      this.#text.removeAttribute("aria-invalid");
    } catch {
      this.#text.setAttribute("aria-invalid", "true");
      this.#count.textContent = "this is no regular expression";
      return;
    }
    this.#found = this.#pick ? [] : null;
    this.#searched = 0;
    this.#top = 0;
    this.#draw();
  }

  #keep(isFollowing) {
    this.#isFollowing = isFollowing;
    this.#follow.setAttribute("aria-pressed", String(isFollowing));
    this.#draw();
  }

  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawNow();
    });
  }

  #drawNow() {
    if (this.#pick && this.#searched < this.store.count) {
      this.#searched = this.store.search(this.#searched, this.#pick.fits, this.#found, performance.now() + SLICE);
      if (this.#searched < this.store.count) this.#draw();
    }
    const count = this.shown;
    const high = this.#view.clientHeight;
    const most = Math.max(0, count - high / ROW);
    if (this.#isFollowing) this.#top = most;
    this.#top = Math.min(this.#top, most);
    const full = Math.min(Math.max(count * ROW, high), HIGHEST);
    this.#space.style.height = `${full}px`;
    const scroll = most ? (this.#top / most) * (full - high) : 0;
    if (Math.abs(this.#view.scrollTop - scroll) >= 1) {
      this.#own = scroll;
      this.#view.scrollTop = scroll;
    }
    this.#paint(Math.floor(this.#top), Math.ceil(high / ROW) + 1, this.#view.scrollTop);
    const total = this.store.count.toLocaleString("en-GB");
    const part = this.#pick
      ? `${count.toLocaleString("en-GB")} of ${total} lines${this.#searched < this.store.count ? " so far" : ""}`
      : `${total} lines`;
    if (this.#count.textContent !== part) this.#count.textContent = part;
  }

  #paint(first, rows, above) {
    while (this.#rows.length < rows) {
      const row = el(
        "div",
        { class: "line", onclick: (event) => this.#show(event.currentTarget) },
        el("time"),
        el("span", { class: "rank" }),
        el("span", { class: "text" }),
      );
      this.#rows.push(row);
      this.#space.append(row);
    }
    const shift = (first - this.#top) * ROW; // of the first one a part is above
    this.#rows.forEach((row, at) => {
      const line =
        at < rows && first + at < this.shown
          ? this.store.line(this.#found ? this.#found[first + at] : first + at)
          : null;
      row.hidden = !line;
      if (!line) return;
      row.line = line;
      row.style.transform = `translateY(${above + at * ROW + shift}px)`;
      const [time, rank, text] = row.children;
      time.textContent = clock(line.time);
      rank.textContent = `[${line.rank}]`;
      rank.className = `rank rank-${line.rank % 8}`;
      this.#write(text, line.text);
    });
  }

  #write(place, text) {
    const pattern = this.#pick?.pattern;
    const match = pattern && text.match(pattern);
    if (!match || !match[0]) {
      place.textContent = text;
      return;
    }
    place.replaceChildren(
      text.slice(0, match.index),
      el("mark", {}, match[0]),
      text.slice(match.index + match[0].length),
    );
  }

  #show({ line }) {
    if (getSelection().toString()) return;
    this.#whole.hidden = false;
    this.#whole.replaceChildren(
      el(
        "p",
        { class: "quiet" },
        `rank ${line.rank} on ${line.node}, generation ${line.generation}, ${clock(line.time, true)} `,
        el(
          "button",
          {
            type: "button",
            onclick: () => {
              this.#whole.hidden = true;
              this.#view.focus();
            },
          },
          "Close",
        ),
      ),
      el("pre", {}, line.text),
    );
  }

  #scrolled() {
    const high = this.#view.clientHeight;
    const most = Math.max(0, this.shown - high / ROW);
    const reach = this.#space.offsetHeight - high;
    if (Math.abs(this.#view.scrollTop - this.#own) < 2) return;
    this.#own = this.#view.scrollTop;
    this.#top = reach > 0 ? (this.#view.scrollTop / reach) * most : 0;
    const isAtEnd = this.#view.scrollTop >= reach - 2;
    if (isAtEnd !== this.#isFollowing) this.#keep(isAtEnd);
    this.#draw();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#view.clientHeight / ROW) - 1);
    const to = {
      ArrowUp: this.#top - 1,
      ArrowDown: this.#top + 1,
      PageUp: this.#top - page,
      PageDown: this.#top + page,
      Home: 0,
      End: this.shown,
    }[event.key];
    if (event.key === "Enter" && this.#rows[0]?.line) {
      this.#show(this.#rows[0]);
      say(this.#rows[0].line.text);
      return;
    }
    if (to === undefined) return;
    event.preventDefault();
    const most = Math.max(0, this.shown - this.#view.clientHeight / ROW);
    this.#top = Math.max(0, Math.min(most, event.key === "End" ? most : Math.round(to)));
    this.#keep(this.#top >= most);
    const line = this.store.line(this.#found ? this.#found[Math.floor(this.#top)] : Math.floor(this.#top));
    if (line) say(`rank ${line.rank}: ${line.text}`);
  }
}
