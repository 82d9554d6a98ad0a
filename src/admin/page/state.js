// What is seen first: how the gateway is, what needs attention, and what changed.

import { age, badge, by, clock, count, h, line, many, quiet, say, share, sync } from "./elements.js";
import { classes, grown } from "./history.js";

const MOST = 8;

/** The verdict, with what needs attention. */
export function showState(known, paused) {
  const { problem, stats } = known;
  const attention = problem || !stats || !known.config ? [] : needsAttention(known);
  const [kind, verdict] = judge(known, attention);
  by("state").className = `card ${kind}`;
  say(by("verdict"), paused && !problem ? `${verdict} (paused)` : verdict);
  document.title = `${{ good: "", waiting: "" }[kind] ?? "! "}obo-gateway: ${verdict}`;
  const shown = attention.slice(0, MOST);
  if (attention.length > MOST) shown.push({ kind: "warn", text: `… and ${attention.length - MOST} more, below` });
  sync(by("attention"), shown, (it) => it.text, ({ kind: how, text }) => h("li", { class: how }, text));
  if (stats) {
    say(by("version"), `${stats.version}${stats.commit ? ` (${stats.commit.slice(0, 12)})` : ""}`);
    say(by("changed"), changed(known));
  }
}

function judge({ problem, heard, stats }, attention) {
  if (problem?.kind === "token") return ["waiting", "Locked"];
  if (problem) {
    const what = problem.kind === "unreachable" ? `Can't be reached: ${problem.message}`
      : problem.kind === "busy" ? `Not answering: ${problem.message}` : `Nothing is shown: ${problem.message}`;
    return ["bad", heard ? `${what}. What is below was so at ${new Date(heard).toLocaleTimeString("en-GB")}.` : what];
  }
  if (!stats) return ["waiting", "Asking the gateway …"];
  if (stats.not_ready.length > 0) return ["bad", "Not ready"];
  if (attention.some(({ kind }) => kind === "bad")) return ["bad", "Ready, with failures"];
  return attention.length > 0 ? ["warn", "Ready, with warnings"] : ["good", "Ready, nothing needs attention"];
}

function needsAttention(known) {
  const items = [];
  const bad = (text) => items.push({ kind: "bad", text });
  const warn = (text) => items.push({ kind: "warn", text });
  const { stats, config, cache } = known;
  stats.not_ready.forEach(bad);
  const last = config.last_reload;
  if (last?.outcome === "failure") {
    bad(`The last reload, at ${clock(last.at)}, failed with ${many(last.problems.length, "problem")}: the configuration before it stays in force`);
  }
  requests(known, bad, warn);
  providers(known.providers.providers, bad, warn);
  upstreams(known.upstreams.upstreams, bad, warn);
  if (last?.needs_restart.length > 0) warn(`Takes effect with a restart: ${last.needs_restart.join(", ")}`);
  if (cache.entries >= cache.max_entries) warn(`The token cache is full: ${count(cache.entries)} entries (cache.max_entries)`);
  if (stats.log_lines_dropped > 0) warn(`${many(stats.log_lines_dropped, "line")} of the log lost, because nobody read them`);
  return items.sort((one, other) => one.kind.localeCompare(other.kind));
}

function requests({ history }, bad, warn) {
  const span = history.span(60);
  if (!span) return;
  const { from, to } = span;
  const all = grown(from.requests.requests, to.requests.requests);
  const { server } = classes(from.requests, to.requests);
  if (server > 0) {
    const worst = worstRoute(history);
    const where = worst ? `, most of them on route ${worst}` : "";
    const text = `${many(server, "answer")} with 5xx in the last minute, ${share(server / all)} of all${where}`;
    (server / all > 0.01 ? bad : warn)(text);
  }
  const refused = Object.entries(to.refusals)
    .map(([code, n]) => [code, grown(from.refusals[code], n)])
    .filter(([, n]) => n > 0)
    .sort(([, one], [, other]) => other - one);
  const sum = refused.reduce((all, [, n]) => all + n, 0);
  if (sum > all / 20) {
    const codes = refused.slice(0, 3).map(([code, n]) => `${code} ${count(n)}`).join(", ");
    warn(`${many(sum, "refusal")} in the last minute, ${share(Math.min(1, sum / all))} of all: ${codes}`);
  }
}

function worstRoute(history) {
  const span = history.span(60, history.perRoute);
  if (!span) return null;
  let [worst, most] = [null, 0];
  for (const [name, totals] of span.to.routes) {
    const { server } = classes(span.from.routes.get(name), totals);
    if (server > most) [worst, most] = [name, server];
  }
  return worst;
}

function providers(all, bad, warn) {
  for (const it of all) {
    if (it.keys === null) bad(`Provider ${it.name} has no keys yet${it.failure ? `: ${it.failure}` : ""}`);
    else if (it.failure) warn(`The keys of provider ${it.name} can't be fetched: ${it.failure}`);
    for (const open of it.open_breakers.slice(0, 1)) {
      const more = it.open_breakers_total > 1 ? `, and ${many(it.open_breakers_total - 1, "other")}` : "";
      bad(`Provider ${it.name} is not asked for ${open.calls}${more}: ${open.why}`);
    }
    if (it.queued > 0) warn(`${many(it.queued, "exchange")} ${it.queued === 1 ? "waits" : "wait"} for a turn at provider ${it.name}`);
  }
}

function upstreams(all, bad, warn) {
  for (const it of all) {
    const out = it.endpoints.filter((endpoint) => !endpoint.healthy);
    if (out.length === 0) continue;
    const why = out[0].unhealthy ? `: ${out[0].unhealthy.why}` : out[0].ejected ? ": requests to it failed" : "";
    if (!it.healthy) bad(`Upstream ${it.name} takes no requests${why}`);
    else warn(`Upstream ${it.name}: ${out.length} of ${it.endpoints.length} endpoints ${out.length === 1 ? "takes" : "take"} no requests${why}`);
  }
}

function changed({ stats, config, restarted }) {
  const now = Date.parse(stats.time);
  const ago = (time) => `${clock(time)}, ${age((now - Date.parse(time)) / 1000)} ago`;
  const parts = [];
  if (restarted) parts.push(`Restarted while you looked (or another one answers): counts begin anew.`);
  parts.push(`Started at ${ago(stats.started_at)}.`);
  const last = config?.last_reload;
  if (!last) return [...parts, "Not reloaded since."].join(" ");
  const what = last.outcome === "success" ? `changed ${summary(last.changes)}` : "failed";
  return [...parts, `Last reload at ${ago(last.at)} (${last.cause}): ${what}.`].join(" ");
}

/** `files: changed /tls.crt; routes: added a, removed b; upstreams: changed c` */
export function summary({ files, ...sections }) {
  const parts = [];
  const some = (names) => `${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`;
  for (const [what, difference] of Object.entries({ files: { changed: files }, ...sections })) {
    const named = Object.entries(difference).filter(([, names]) => names.length > 0);
    if (named.length > 0) parts.push(`${what}: ${named.map(([how, names]) => `${how} ${some(names)}`).join(", ")}`);
  }
  return parts.join("; ") || "nothing";
}

/** What became of a reload that was asked for here. */
export function showOutcome(outcome) {
  const { good } = outcome;
  const title = good ? "Reloaded" : good === false ? "The file can't be used: nothing has changed" : "Not reloaded";
  const said = good ? `Changed: ${outcome.summary}.`
    : good === false ? "The configuration before it stays in force. What was found in the file:" : outcome.detail;
  const close = h("button", { type: "button" }, "Close");
  close.addEventListener("click", () => {
    by("outcome").hidden = true;
    by("reload").focus();
  });
  by("outcome").className = `card ${good ? "good" : "bad"}`;
  by("outcome").hidden = false;
  by("outcome").replaceChildren(
    h("div", { class: "outcome-head", role: "alert" }, h("h2", {}, title), close),
    h("p", {}, said),
    outcome.needs_restart?.length > 0 ? h("p", {}, `Takes effect with a restart: ${outcome.needs_restart.join(", ")}`) : "",
    problems(outcome.problems ?? outcome.warnings ?? []),
  );
}

/** Each problem of a file with its place and what to do. */
export function problems(all) {
  const item = ({ severity, file, line: at, column, message, related, hint }) => {
    const place = at === null ? file : `${file}:${at}${column === null ? "" : `:${column}`}`;
    return h(
      "li", {}, line(badge(severity === "error" ? "bad" : "warn", severity), " ", h("code", {}, place)), line(message),
      related ? line(quiet(`line ${related.line}: ${related.message}`)) : null,
      hint ? line(h("b", {}, "Do: "), hint) : null,
    );
  };
  const worstFirst = [...all].sort((one, other) => one.severity.localeCompare(other.severity));
  return h("ul", { class: "problems" }, ...worstFirst.map(item));
}
