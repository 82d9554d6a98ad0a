// Elements out of data, and numbers for people. Whatever comes from the gateway becomes text here, never markup.

/** An element of `name` with `attributes`; `children` are elements, or what becomes text. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

export const by = (id) => document.getElementById(id);

/** Writes `text` where it is not there yet, so that readers are not told twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `parent` those that `make` gives for `items`; one whose item, by `key`, is what it
 * was stays in its place, with its selection and its focus.
 */
export function sync(parent, items, key, make) {
  const old = new Map([...parent.children].map((child) => [child.syncKey, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const [name, mark] = [key(item), JSON.stringify(item)];
    let child = old.get(name);
    old.delete(name);
    if (child?.syncMark !== mark) {
      const fresh = make(item);
      Object.assign(fresh, { syncKey: name, syncMark: mark });
      if (child) {
        if (child === at) at = fresh;
        replace(child, fresh);
      }
      child = fresh;
    }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const child of old.values()) child.remove();
}

function replace(old, fresh) {
  const [before, after] = [old, fresh].map((root) => [...root.querySelectorAll("details")]);
  const focused = before.findIndex((details) => details.firstElementChild === document.activeElement);
  before.forEach((details, i) => { if (after[i]) after[i].open = details.open; });
  old.replaceWith(fresh);
  after[focused]?.firstElementChild.focus({ preventScroll: true });
}

/** A row of a table; `labels` are said beside the cells where there is no room for columns. */
export function row(labels, cells) {
  const cell = (content, i) => h("td", { role: "cell", "data-label": labels[i] }, ...[content].flat());
  return h("tr", { role: "row" }, ...cells.map(cell));
}

/** A word with a colour, and a sign for those who see none. */
export function badge(kind, text) {
  const sign = { good: "●", warn: "▲", bad: "■", quiet: "○" }[kind];
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, sign), ` ${text}`);
}

export const quiet = (text) => h("span", { class: "quiet" }, text);
export const line = (...content) => h("div", { class: "line" }, ...content);

/** Terms with what is said of them. */
export function facts(element, entries) {
  const items = entries.filter((entry) => entry !== null);
  sync(element, items, ([term]) => term, ([term, text, note, kind]) => h(
    "div", { class: kind ?? "" }, h("dt", {}, term), h("dd", {}, text), note ? h("dd", { class: "quiet" }, note) : null,
  ));
}

const whole = new Intl.NumberFormat("en");
export const count = (n) => whole.format(n);
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function rate(n) {
  if (n === null) return "…";
  if (n === 0) return "0/s";
  return n < 0.1 ? "< 0.1/s" : `${n < 10 ? n.toFixed(1) : count(Math.round(n))}/s`;
}

export function share(n) {
  if (n > 0 && n < 0.001) return "< 0.1 %";
  return `${(100 * n).toFixed(n > 0 && n < 0.1 ? 1 : 0)} %`;
}

export function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds === Infinity) return "> 60 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${seconds < 0.01 ? (seconds * 1e3).toFixed(1) : Math.round(seconds * 1e3)} ms`;
  return `${seconds.toFixed(1)} s`;
}

export function age(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const power = Math.min(3, Math.floor(Math.log2(n) / 10));
  return `${(n / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB"][power]}`;
}

/** The clock of whoever looks, by the time that the gateway wrote. */
export function clock(rfc3339) {
  const time = new Date(rfc3339);
  return Number.isNaN(time.getTime()) ? String(rfc3339) : time.toLocaleTimeString("en-GB");
}
