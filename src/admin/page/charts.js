// Charts in SVG: the last five minutes, drawn anew for each look.

import { duration, h, rate, svg } from "./elements.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [360, 130, 44, 16, 6];
/** How far back the axis goes: as far as there is something to see. */
const SPANS = [60, 120, 300];
const DECADES = [0.0001, 0.001, 0.01, 0.1, 1, 10, 100];

/** Areas on each other: `series` are `{ name, color }`, and each point has a `values[i]` for each. */
export function stack(parent, title, series, points) {
  const sums = points.map((point) => point.values.reduce((sum, value) => sum + value, 0));
  const top = niceTop(Math.max(0, ...sums));
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const x = across(points);
  const base = points.map(() => 0);
  const shapes = series.map(({ color }, i) => {
    const lower = points.map((point, j) => [x(point), y(base[j])]);
    points.forEach((point, j) => { base[j] += point.values[i]; });
    const upper = points.map((point, j) => [x(point), y(base[j])]);
    return svg("path", { class: `area ${color}`, d: path([...upper, ...lower.reverse()], "Z") });
  });
  const ticks = [top, top / 2, 0].map((value) => [y(value), axis(value)]);
  const last = points.at(-1);
  const keys = series.map(({ name, color }, i) => [name, color, last ? rate(last.values[i]) : "…"]);
  draw(parent, title, ticks, shapes, keys, points);
}

/** Lines of durations on a scale of powers of ten; a value may be `null`: there was none. */
export function lines(parent, title, series, points) {
  const values = points.flatMap((point) => point.values).filter((value) => value !== null);
  const first = Math.max(0, DECADES.findLastIndex((it) => it <= Math.min(0.001, ...values)));
  const end = DECADES.findIndex((it) => it >= Math.max(0.1, ...values));
  const decades = DECADES.slice(first, (end < 0 ? DECADES.length - 1 : end) + 1);
  const [low, high] = [decades[0], decades.at(-1)].map(Math.log10);
  const y = (value) => {
    const at = (Math.log10(Math.min(Math.max(value, decades[0]), decades.at(-1))) - low) / (high - low);
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - at);
  };
  const x = across(points);
  const shapes = series.map(({ color }, i) => {
    const runs = [[]];
    for (const point of points) {
      if (point.values[i] === null) runs.push([]);
      else runs.at(-1).push([x(point), y(point.values[i])]);
    }
    const drawn = runs.filter((run) => run.length > 0);
    // One point alone is a line too, of the width of its stroke.
    const d = drawn.map((run) => path(run.length > 1 ? run : [run[0], run[0]], "")).join("");
    return svg("path", { class: `curve ${color}`, d });
  });
  const ticks = decades.map((value) => [y(value), axisDuration(value)]);
  const last = points.at(-1);
  const keys = series.map(({ name, color }, i) => [name, color, last ? duration(last.values[i]) : "…"]);
  draw(parent, title, ticks, shapes, keys, points);
}

function draw(parent, title, ticks, shapes, keys, points) {
  const grid = ticks.flatMap(([y, text]) => [
    svg("path", { class: "grid", d: `M${LEFT} ${y.toFixed(1)}H${WIDTH}` }),
    svg("text", { class: "tick", x: LEFT - 5, y: (y + 3).toFixed(1), "text-anchor": "end" }, text),
  ]);
  const times = [
    svg("text", { class: "tick", x: LEFT, y: HEIGHT - 3 }, `${reach(points) / 60} min ago`),
    svg("text", { class: "tick", x: WIDTH, y: HEIGHT - 3, "text-anchor": "end" }, "now"),
  ];
  const now = keys.map(([name, , value]) => `${name} ${value}`).join(", ");
  const label = points.length > 0 ? `${title}, now: ${now || "none"}` : `${title}: measuring`;
  const chart = svg(
    "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, ...grid, ...shapes, ...times,
  );
  const key = ([name, color, value]) => h(
    "li", {}, h("span", { class: `swatch ${color}` }), name, " ", h("b", {}, value),
  );
  const legend = keys.length > 0 ? keys.map(key) : [h("li", {}, points.length > 0 ? "none" : "measuring …")];
  parent.replaceChildren(chart, h("ul", { class: "legend", "aria-hidden": "true" }, ...legend));
}

const across = (points) => {
  const now = points.at(-1)?.at ?? 0;
  const seconds = reach(points);
  return (point) => WIDTH - (WIDTH - LEFT) * Math.min(1, (now - point.at) / seconds);
};

function reach(points) {
  const known = points.length > 0 ? points.at(-1).at - points[0].at : 0;
  return SPANS.find((span) => span >= known) ?? SPANS.at(-1);
}

function path(corners, end) {
  if (corners.length === 0) return "";
  return `M${corners.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}${end}`;
}

/** The next of 1, 2, 5, 10 … */
function niceTop(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

function axis(value) {
  return value >= 10_000 ? `${value / 1000}k` : String(value);
}

function axisDuration(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${Math.round(seconds * 1e3)} ms` : `${seconds} s`;
}
