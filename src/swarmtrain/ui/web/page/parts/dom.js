// Elements of the page. Text is only ever set as text: what workers write is never read as markup.

/** An element with its properties, attributes (`aria-...`, `data-...`, `role`) and children. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && !key.includes("-")) made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Say something to whoever does not see the page. */
export function say(text) {
  byId("said").textContent = text;
}

/** A table with a caption; a cell is text or an element. It scrolls sideways by itself, also by keyboard. */
export function table(caption, columns, rows) {
  return el(
    "div",
    { class: "scroll", tabIndex: 0, role: "group", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, caption),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          columns.map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((row) =>
          el(
            "tr",
            {},
            row.map((cell, at) => (at ? el("td", {}, cell) : el("th", { scope: "row" }, cell))),
          ),
        ),
      ),
    ),
  );
}

/** Put children into an element, but leave the focus where it is if what had it is still there by name. */
export function fill(place, ...children) {
  const had = document.activeElement;
  const name = had && place.contains(had) ? had.getAttribute("data-name") || had.getAttribute("aria-label") : null;
  const scrolled = [...place.querySelectorAll(".scroll")].map((each) => [each.scrollLeft, each.scrollTop]);
  place.replaceChildren(...children.flat().filter(Boolean));
  [...place.querySelectorAll(".scroll")].forEach((each, at) => {
    if (scrolled[at]) [each.scrollLeft, each.scrollTop] = scrolled[at];
  });
  if (name === null) return;
  const again = [...place.querySelectorAll("[data-name], [aria-label]")].find(
    (each) => (each.getAttribute("data-name") || each.getAttribute("aria-label")) === name,
  );
  again?.focus({ preventScroll: true });
}

/** Have these children in a place and no others. What is there already is not moved, so that it keeps the focus. */
export function arrange(place, wanted) {
  for (const each of [...place.childNodes]) if (!wanted.includes(each)) each.remove();
  let next = place.firstChild;
  for (const each of wanted) {
    if (each === next) next = next.nextSibling;
    else place.insertBefore(each, next);
  }
}

/** A bar of a share from 0 to 1, with its text. */
export function meter(share, text, kind = "") {
  const full = el("i", { class: kind });
  full.style.width = `${Math.round(Math.max(0, Math.min(1, share || 0)) * 100)}%`;
  return el("span", { class: "meter" }, el("span", { class: "track", "aria-hidden": "true" }, full), text);
}
