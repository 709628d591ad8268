// How uPlot draws: its options, and what is drawn besides its lines (the spread of thinned points, marks of events).

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { gaps } from "../data/columns.js";
import { clock, duration, measured, number } from "../data/format.js";

export { uPlot };

const SLICE = 8; // milliseconds of a frame

// The charts that are to be drawn: as many in a frame as there is time for, at least one.
const waiting = new Map();

/** Draw a chart in one of the next frames, once, however often it is asked to. */
export function drawSoon(chart, draw) {
  if (!waiting.size) requestAnimationFrame(drawSome);
  waiting.set(chart, draw);
}

function drawSome() {
  const end = performance.now() + SLICE;
  for (const [chart, draw] of waiting) {
    waiting.delete(chart);
    draw();
    if (performance.now() > end) break;
  }
  if (waiting.size) requestAnimationFrame(drawSome);
}

/** How large a plot is in its place. */
export function sizeOf(place) {
  return { width: Math.max(200, place.clientWidth), height: place.clientWidth < 480 ? 190 : 230 };
}

/** The page's colours, as its style sheet has them now. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    lines: [0, 1, 2, 3, 4, 5, 6, 7].map((at) => of(`--line-${at}`)),
    text: of("--quiet"),
    grid: of("--grid"),
    bad: of("--bad"),
    good: of("--good"),
    plain: of("--mark"),
    card: of("--card"),
  };
}

/** The least and greatest value of what is shown, with some room; shares and sizes begin at nothing. */
export function span(tracks, [from, to], unit, isLog) {
  let low = Infinity,
    high = -Infinity;
  for (const { columns, offset } of tracks) {
    columns.x.forEach((x, at) => {
      if (columns.mean[at] === null || x - offset < from || x - offset > to) return;
      if (!isLog || columns.low[at] > 0) low = Math.min(low, columns.low[at]);
      high = Math.max(high, columns.high[at]);
    });
  }
  if (!(high >= low)) return isLog ? [0.1, 1] : [0, 1];
  if (isLog) return high > low ? [low * 0.9, high * 1.1] : [low / 2, high * 2];
  if (unit === "ratio") return [0, high > 0.5 ? Math.max(1, high) : high * 1.2 || 0.01];
  if (["s", "B", "B/s", "1/s", "samples/s"].includes(unit) && low >= 0) return [0, high * 1.08 || 1];
  const room = (high - low) * 0.07 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** The spread between least and greatest value, behind the line of the mean. */
function drawSpread(u, tracks, axis) {
  const { ctx } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  for (const { columns, offset, colour, shown, isSpread } of tracks) {
    if (!shown || !isSpread) continue;
    ctx.fillStyle = colour;
    ctx.globalAlpha = 0.16;
    const y = (value) => u.valToPos(value, "y", true);
    let run = [];
    const flush = () => {
      if (run.length > 1) {
        ctx.beginPath();
        run.forEach(([x, , high], at) => (at ? ctx.lineTo(x, high) : ctx.moveTo(x, high)));
        run.reverse().forEach(([x, low]) => ctx.lineTo(x, low));
        ctx.fill();
      }
      run = [];
    };
    const cut = new Set(gaps(columns, axis));
    columns.x.forEach((x, at) => {
      if (cut.has(at)) flush();
      if (columns.mean[at] === null) return flush();
      run.push([u.valToPos(x - offset, "x", true), y(columns.low[at]), y(columns.high[at])]);
    });
    flush();
  }
  ctx.restore();
}

/** A line where something happened: dashed for what went wrong. */
function drawMarks(u, marks, ink) {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  for (const mark of marks) {
    const x = u.valToPos(mark.x, "x", true);
    if (x < left || x > left + width) continue;
    ctx.strokeStyle = ink[mark.tone] || ink.plain;
    ctx.globalAlpha = mark.chosen ? 1 : 0.55;
    ctx.lineWidth = (mark.chosen ? 2 : 1) * devicePixelRatio;
    ctx.setLineDash(mark.tone === "bad" ? [4 * devicePixelRatio, 3 * devicePixelRatio] : []);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
  }
  ctx.restore();
}

/** NaN and infinities have no place on the axis: a mark at the top says where they were. */
function drawBad(u, tracks, ink) {
  const { ctx } = u;
  ctx.save();
  ctx.fillStyle = ink.bad;
  ctx.font = `bold ${12 * devicePixelRatio}px sans-serif`;
  ctx.textAlign = "center";
  for (const { columns, offset, shown } of tracks) {
    if (!shown || !columns.bad.some(Boolean)) continue;
    columns.x.forEach((x, at) => {
      const to = u.valToPos(x - offset, "x", true);
      if (columns.bad[at] && to >= u.bbox.left && to <= u.bbox.left + u.bbox.width)
        ctx.fillText("!", to, u.bbox.top + 12 * devicePixelRatio);
    });
  }
  ctx.restore();
}

/** A time on an axis that is so many seconds long. */
function tick(time, seconds) {
  const [date, hours] = clock(time, true).split(" ");
  return seconds > 172800 ? `${date.slice(5)} ${hours.slice(0, 5)}` : seconds > 3600 ? hours.slice(0, 5) : hours;
}

/** uPlot's options of one chart, which is asked for what it shows whenever it is drawn. */
export function options(chart, size, ink) {
  const { unit, axis, isRelative } = chart;
  const isClock = axis === "time" && !isRelative;
  const axes = [
    {
      stroke: ink.text,
      grid: { stroke: ink.grid, width: 1 },
      ticks: { stroke: ink.grid, width: 1, size: 4 },
      font: "11px system-ui, sans-serif",
      size: 30,
      values: (u, at) =>
        at.map((x) =>
          isClock ? tick(x, u.scales.x.max - u.scales.x.min) : axis === "time" ? duration(x) : number(x),
        ),
      space: 76,
    },
    {
      stroke: ink.text,
      grid: { stroke: ink.grid, width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
      gap: 4,
      size: (u, values) => Math.max(44, ...(values || []).map((value) => 7 * value.length + 12)),
      values: (u, at) =>
        at.map((value) => (value === null ? "" : measured(value, unit.includes("samples") ? "" : unit))),
    },
  ];
  const line = (track) => ({
    label: track.label,
    stroke: track.colour,
    width: chart.isMany || chart.isRelative ? 1 : 1.75,
    alpha: chart.isRelative ? 0.7 : 1,
    dash: track.dash,
    show: track.shown,
    points: { show: track.columns.x.length === 1, size: 6 },
  });
  const layer = (part) => ({
    label: part.label,
    stroke: part.colour,
    width: 1,
    fill: `color-mix(in srgb, ${part.colour} 72%, ${ink.card})`,
    points: { show: false },
  });
  return {
    ...size,
    legend: { show: false },
    padding: [8, 10, 0, 0],
    scales: {
      x: { time: isClock, range: () => chart.range() },
      y: { distr: chart.isLog ? 3 : 1, range: () => chart.span() },
    },
    axes,
    series: [{}, ...(chart.isStack ? chart.layers.map(layer) : chart.tracks.map(line))],
    cursor: {
      sync: { key: `${axis}${isRelative}` },
      drag: { x: true, y: false, setScale: false },
      points: { size: 6 },
      ...(chart.isMany ? { focus: { prox: 24 } } : {}),
    },
    focus: { alpha: 0.25 },
    hooks: {
      drawAxes: [(u) => chart.isStack || drawSpread(u, chart.tracks, axis)],
      draw: [
        (u) => {
          drawMarks(u, chart.marks(), ink);
          if (!chart.isStack) drawBad(u, chart.tracks, ink);
        },
      ],
      setCursor: [(u) => chart.pointed(u.cursor.idx, u.cursor.left >= 0)],
      setSelect: [
        (u) => {
          if (u.select.width < 4) return;
          const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          chart.zoomed(range);
        },
      ],
    },
  };
}
