// Lines of the workers, so many that an object for each would be too much: a chunk is one string and some numbers. Pure.

const CHUNK = 4096;

/** All lines of a run, in the order in which they came. */
export class LineStore {
  #chunks = [];
  #open = [];
  #nodes = [];

  count = 0;
  ranks = new Set();

  get nodes() {
    return this.#nodes;
  }

  /** Take rows of time, generation, rank, node, text. */
  push(rows) {
    for (const row of rows) {
      this.ranks.add(row[2]);
      if (!this.#nodes.includes(row[3])) this.#nodes.push(row[3]);
      this.#open.push(row);
      if (this.#open.length === CHUNK) this.#seal();
    }
    this.count += rows.length;
  }

  /** One line; null where there is none. */
  line(at) {
    const chunk = this.#chunks[Math.floor(at / CHUNK)];
    const inside = at % CHUNK;
    if (!chunk) {
      const row = this.#open[at - this.#chunks.length * CHUNK];
      return row ? { time: row[0], generation: row[1], rank: row[2], node: row[3], text: row[4] } : null;
    }
    return {
      time: chunk.time[inside],
      generation: chunk.generation[inside],
      rank: chunk.rank[inside],
      node: this.#nodes[chunk.node[inside]],
      text: chunk.text.slice(chunk.ends[inside], chunk.ends[inside + 1]),
    };
  }

  /** The numbers of lines from one on that fit, for a while; tells how far it has come. */
  search(from, fits, found, until) {
    let at = from;
    while (at < this.count) {
      const stop = Math.min(this.count, at + 512);
      for (; at < stop; at += 1) if (fits(this.line(at))) found.push(at);
      if (performance.now() > until) break;
    }
    return at;
  }

  #seal() {
    const rows = this.#open;
    const ends = new Uint32Array(CHUNK + 1);
    rows.forEach((row, at) => {
      ends[at + 1] = ends[at] + row[4].length;
    });
    this.#chunks.push({
      // Joined and read once, so that no part of what it was made of is kept.
      text: rows.map((row) => row[4]).join(""),
      ends,
      time: Float64Array.from(rows, (row) => row[0]),
      generation: Uint32Array.from(rows, (row) => row[1]),
      rank: Uint32Array.from(rows, (row) => row[2]),
      node: Uint16Array.from(rows, (row) => this.#nodes.indexOf(row[3])),
    });
    this.#open = [];
  }
}

/** What picks lines: of a rank, of a node, with a text or a regular expression in them; null where all fit. */
export function picker({ text, isRegex, rank, node }) {
  let pattern = null;
  if (text) pattern = new RegExp(isRegex ? text : text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu");
  if (!pattern && rank === "" && node === "") return null;
  const wanted = rank === "" ? null : Number(rank);
  const fits = (line) =>
    (wanted === null || line.rank === wanted) &&
    (node === "" || line.node === node) &&
    (!pattern || pattern.test(line.text));
  return { fits, pattern };
}
