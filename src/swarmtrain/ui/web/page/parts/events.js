// What happened, in words: a line an event, as `swarmtrain events` prints them.

import { clock } from "../data/format.js";
import { byId, el } from "./dom.js";

const SHOWN = 400;

export class EventList {
  #list = el("ol", { class: "events", tabIndex: 0, "aria-label": "Events, the newest last" });
  #more = el("p", { class: "quiet" });
  #events = [];
  #isWhole = false;

  constructor() {
    byId("events-body").append(this.#more, this.#list);
    byId("events-faults").addEventListener("change", () => this.#show());
  }

  clear() {
    this.#events = [];
    this.#show();
  }

  add(events) {
    this.#events.push(...events);
    this.#show();
  }

  /** Bring an event into view, and mark it. */
  point(event) {
    for (const each of this.#list.children)
      each.classList.toggle("chosen", Number(each.dataset.seq) === event?.seq);
    const found = this.#list.querySelector(".chosen");
    if (found) this.#list.scrollTop = found.offsetTop - this.#list.clientHeight / 2;
  }

  #show() {
    const wanted = byId("events-faults").checked
      ? this.#events.filter((event) => event.tone !== "plain")
      : this.#events;
    const shown = this.#isWhole ? wanted : wanted.slice(-SHOWN);
    const isAtEnd = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 30;
    this.#more.replaceChildren(
      ...(shown.length < wanted.length
        ? [
            `${wanted.length - shown.length} earlier ones. `,
            el(
              "button",
              {
                type: "button",
                onclick: () => {
                  this.#isWhole = true;
                  this.#show();
                },
              },
              "Show all",
            ),
          ]
        : []),
    );
    this.#list.replaceChildren(
      ...shown.map((event) =>
        el(
          "li",
          { class: event.tone, "data-seq": event.seq },
          el("time", {}, clock(event.t)),
          el("span", { class: "sign", "aria-hidden": "true" }, { bad: "!", good: "+" }[event.tone] || ""),
          el("span", {}, event.tone === "bad" ? el("span", { class: "unseen" }, "Wrong: ") : "", event.text),
        ),
      ),
    );
    if (!shown.length)
      this.#list.append(
        el(
          "li",
          { class: "quiet" },
          byId("events-faults").checked && this.#events.length
            ? "Nothing has gone wrong."
            : "Nothing has happened yet.",
        ),
      );
    if (isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}
