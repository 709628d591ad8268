// Values as people say them; the same as swarmtrain/control/views/format.py where both say one.

export const NOTHING = "–";

export function number(value) {
  if (value === null || value === undefined) return NOTHING;
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return value.toLocaleString("en-GB");
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2);
  return size >= 1000 ? Math.round(value).toLocaleString("en-GB") : String(Number(value.toPrecision(5)));
}

function scaled(value, step, units) {
  let at = 0;
  while (Math.abs(value) >= step && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${units[at]}`;
}

/** A value with its unit, as docs/metrics.md names the units. */
export function measured(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  switch (unit) {
    case "s":
      return value === 0
        ? "0 s"
        : Math.abs(value) < 0.1
          ? `${Number((value * 1000).toPrecision(3))} ms`
          : value < 100
            ? `${Number(value.toPrecision(3))} s`
            : duration(value);
    case "B":
      return scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]);
    case "B/s":
      return scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);
    case "Hz":
      return scaled(value, 1000, ["Hz", "kHz", "MHz", "GHz"]);
    case "ratio":
      return `${Number((value * 100).toPrecision(3))} %`;
    case "":
      return number(value);
    default:
      return `${number(value)} ${unit}`;
  }
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [unit, name, below, belowName] of [
    [86400, "d", 3600, "h"],
    [3600, "h", 60, "min"],
    [60, "min", 1, "s"],
  ]) {
    if (whole >= unit) {
      const rest = Math.floor((whole % unit) / below);
      return `${Math.floor(whole / unit)} ${name}${rest ? ` ${rest} ${belowName}` : ""}`;
    }
  }
  return `${whole} s`;
}

const two = (value) => String(value).padStart(2, "0");

/** A Unix time as a clock shows it here; with its date where that is asked for. */
export function clock(time, dated = false) {
  if (!time) return NOTHING;
  const date = new Date(time * 1000);
  const hours = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return dated ? `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${hours}` : hours;
}

/** A place on an axis. */
export function place(axis, x, relative) {
  if (axis === "time") return relative ? duration(x) : clock(x);
  return `${axis === "step" ? "step" : "sample"} ${number(Math.round(x))}`;
}
