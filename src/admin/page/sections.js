// The parts of the page below the state, each made of what the API says of it.

import * as charts from "./charts.js";
import {
  age, badge, by, bytes, clock, count, duration, facts, h, line, many, quiet, rate, row, say, share, sync,
} from "./elements.js";
import { between, classes, grown, percentile } from "./history.js";
import { problems, summary } from "./state.js";

const MOST_ROUTES = 100;
const MOST_UPSTREAMS = 100;
const FIRST_REFUSALS = 10;
const CODES = 5;

/** All of it; `filter` and `sort` are of the routes, `all` says whether each refusal is shown. */
export function showData(known, { filter, sort, all }) {
  tiles(known);
  requestChart(known);
  durationChart(known);
  refusalChart(known);
  refusals(known, all);
  upstreams(known);
  providers(known);
  cache(known);
  routes(known, filter, sort);
  config(known);
}

function tiles({ stats, cache: tokens, history }) {
  const [now, minute] = [history.span(10), history.span(60)];
  const perSecond = now && grown(now.from.requests.requests, now.to.requests.requests) / now.seconds;
  const all = minute && grown(minute.from.requests.requests, minute.to.requests.requests);
  const by_class = minute && classes(minute.from.requests, minute.to.requests);
  const failed = all ? by_class.server / all : 0;
  const refused = minute && refusedIn(minute.from, minute.to);
  const durations = of(stats, minute, (look) => look.requests.duration);
  const overhead = of(stats, minute, (look) => look.requests.overhead);
  facts(by("tiles"), [
    ["Requests", rate(perSecond), `${count(stats.requests.requests)} since the start`],
    ["5xx", minute ? share(failed) : "…", "of the last minute", failed > 0.01 ? "bad" : failed > 0 ? "warn" : null],
    ["Refusals", minute ? count(refused) : "…", "in the last minute"],
    ["Median", durations(0.5), `p90 ${durations(0.9)}`],
    ["p99", durations(0.99), "of the last minute"],
    ["Own time", overhead(0.5), `p99 ${overhead(0.99)}`],
    ["In flight", count(stats.requests_in_flight), many(stats.connections_open, "connection")],
    ["Token cache", tokens.hit_rate === null ? "–" : share(tokens.hit_rate), "found ready"],
  ]);
}

/** Percentiles between the looks of `span`, as text. */
function of(stats, span, histogram) {
  const buckets = span ? between(histogram(span.from), histogram(span.to)) : [];
  return (part) => duration(percentile(stats.bounds_seconds, buckets, part));
}

const refusedIn = (from, to) =>
  Object.entries(to.refusals).reduce((sum, [code, n]) => sum + grown(from.refusals[code], n), 0);

function requestChart({ history }) {
  const series = [
    { name: "2xx, 3xx", color: "ok" }, { name: "4xx", color: "client" }, { name: "5xx", color: "server" }, { name: "gone", color: "gone" },
  ];
  const points = history.points((from, to, seconds) => {
    const { ok, client, server, gone } = classes(from.requests, to.requests);
    return { values: [ok, client, server, gone].map((n) => n / seconds) };
  });
  charts.stack(by("chart-requests"), "Requests per second", series, points);
}

function durationChart({ stats, history }) {
  const series = [{ name: "p50", color: "low" }, { name: "p90", color: "middle" }, { name: "p99", color: "high" }];
  const points = history.points((from, to) => {
    const buckets = between(from.requests.duration, to.requests.duration);
    return { values: [0.5, 0.9, 0.99].map((part) => percentile(stats.bounds_seconds, buckets, part)) };
  });
  charts.lines(by("chart-duration"), "Duration of requests", series, points);
}

function refusalChart({ history }) {
  const looks = history.looks;
  const [first, last] = [looks[0]?.refusals ?? {}, looks.at(-1)?.refusals ?? {}];
  const came = Object.entries(last)
    .map(([code, n]) => [code, grown(first[code], n)])
    .filter(([, n]) => n > 0)
    .sort(([one, n], [other, m]) => m - n || one.localeCompare(other));
  const named = came.slice(0, CODES).map(([code]) => code).sort();
  const series = named.map((name, i) => ({ name, color: `code-${i}` }));
  const rest = came.slice(CODES).map(([code]) => code);
  if (rest.length > 0) series.push({ name: "others", color: "gone" });
  const points = history.points((from, to, seconds) => {
    const each = (code) => grown(from.refusals[code], to.refusals[code]) / seconds;
    const values = named.map(each);
    if (rest.length > 0) values.push(rest.map(each).reduce((sum, n) => sum + n, 0));
    return { values };
  });
  charts.stack(by("chart-refusals"), "Refusals per second", series, points);
}

function refusals({ refusals: last, byCode }, all) {
  const codes = Object.entries(byCode).sort(([, one], [, other]) => other - one);
  say(by("by-code"), codes.length > 0 ? `Since the start: ${codes.map(([code, n]) => `${code} ${count(n)}`).join(", ")}` : "");
  const labels = ["Time", "Code", "Request", "Why"];
  const shown = all ? last : last.slice(0, FIRST_REFUSALS);
  sync(by("refusals"), shown, (it) => it.number, (it) => row(labels, [
    h("time", { datetime: it.time, title: it.time }, clock(it.time)),
    [line(badge(it.status >= 500 ? "bad" : "warn", it.code)), line(quiet(String(it.status)))],
    [
      line(h("code", {}, `${it.method ?? "?"} ${it.path ?? ""}`)),
      line(quiet(`${it.route ? `route ${it.route}, ` : "no route, "}from ${it.client_ip}`)),
      it.user || it.client_id ? line(`user ${it.user ?? "–"}, client ${it.client_id ?? "–"}`) : null,
    ],
    [line(it.reason), line(quiet(it.request_id))],
  ]));
  say(by("refusals-more"), last.length === 0 ? "None since the start." : `${shown.length} of the last ${last.length}, the newest first.`);
  by("refusals-all").hidden = last.length <= FIRST_REFUSALS;
  say(by("refusals-all"), all ? "Show fewer" : "Show all");
  by("refusals-all").setAttribute("aria-expanded", String(all));
}

function upstreams({ stats, upstreams: told, cache: tokens, history }) {
  const span = history.span(60, history.perRoute);
  const hits = new Map(tokens.upstreams.map((it) => [it.upstream, it]));
  const items = [...told.upstreams].sort((one, other) => one.healthy - other.healthy).slice(0, MOST_UPSTREAMS).map((it) => {
    const [from, to] = [span?.from.upstreams.get(it.name), span?.to.upstreams.get(it.name)];
    const buckets = between(from?.duration, to?.duration);
    const [p50, p99] = [0.5, 0.99].map((part) => duration(percentile(stats.bounds_seconds, buckets, part)));
    const perSecond = span ? rate(grown(from?.duration.count, to?.duration.count) / span.seconds) : "…";
    return { it, perSecond, retries: to?.retries ?? 0, p50, p99, hits: hits.get(it.name) ?? null };
  });
  const labels = ["Name", "Endpoints", "Requests", "p50 / p99", "Token cache"];
  sync(by("upstreams"), items, ({ it }) => it.name, ({ it, perSecond, retries, p50, p99, hits: found }) => row(labels, [
    [line(badge(it.healthy ? "good" : "bad", it.name)), line(quiet(it.urls.join(", "))), it.health_check ? null : line(quiet("no health check"))],
    it.endpoints.map(endpoint),
    [line(perSecond), retries > 0 ? line(quiet(many(retries, "retry", "retries"))) : null],
    `${p50} / ${p99}`,
    found?.hit_rate == null ? quiet("–") : share(found.hit_rate),
  ]));
  const more = told.total - items.length;
  say(by("upstreams-more"), more > 0 ? `… and ${many(more, "other")}` : "");
}

function endpoint(it) {
  const why = [];
  if (it.unhealthy) why.push(`fails its checks for ${age(it.unhealthy.for_seconds)}: ${it.unhealthy.why}`);
  if (it.ejected) why.push(`left alone for another ${age(it.ejected.left_seconds)}, because requests to it failed`);
  return h(
    "div", { class: "line" },
    badge(it.healthy ? "good" : "bad", it.healthy ? it.endpoint : `${it.endpoint} takes no requests`),
    quiet(`${it.address === it.endpoint ? "" : ` ${it.address ?? "not looked up"}`}${it.requests_in_flight > 0 ? `, ${it.requests_in_flight} in flight` : ""}`),
    why.length > 0 ? line(why.join("; ")) : null,
  );
}

function providers({ stats, providers: told, history }) {
  const span = history.span(60);
  const labels = ["Name", "Keys", "Breaker", "Exchanges", "p50 / p99"];
  const items = told.providers.map((it) => {
    const [from, to] = [span?.from.providers.get(it.name), span?.to.providers.get(it.name)];
    const recent = between(from?.exchange_duration, to?.exchange_duration);
    const buckets = recent.some((n) => n > 0) ? recent : it.totals.exchange_duration.buckets;
    const [p50, p99] = [0.5, 0.99].map((part) => duration(percentile(stats.bounds_seconds, buckets, part)));
    return { it, p50, p99 };
  });
  sync(by("providers"), items, ({ it }) => it.name, ({ it, p50, p99 }) => row(labels, [
    [line(badge(it.keys === null ? "bad" : it.failure ? "warn" : "good", it.name)), line(quiet(`${it.kind}, ${it.issuer}`))],
    [
      line(it.keys === null ? "none yet" : many(it.keys, "key"), it.keys_age_seconds === null ? "" : `, fetched ${age(it.keys_age_seconds)} ago`),
      it.failure ? line(it.failure) : null,
      it.key_ids.length > 0 ? h("details", {}, h("summary", {}, "ids"), ...it.key_ids.map((id) => line(h("code", {}, id)))) : null,
    ],
    [
      line(badge(it.breaker === "closed" ? "good" : "bad", it.breaker)),
      ...it.open_breakers.map((open) => line(
        `${open.calls}: ${open.why}`, quiet(open.left_seconds === null ? ", asking once more" : `, for another ${age(open.left_seconds)}`),
      )),
    ],
    [
      ...Object.entries(it.totals.exchanges).map(([outcome, n]) => line(badge(outcome === "success" ? "good" : "warn", `${outcome} ${count(n)}`))),
      line(quiet(`${it.in_flight} of ${it.max_in_flight} in flight${it.queued > 0 ? `, ${it.queued} waiting` : ""}`)),
    ],
    `${p50} / ${p99}`,
  ]));
}

function cache({ cache: it }) {
  const { hit, miss, shared_hit, coalesced, stale } = it.totals;
  facts(by("cache"), [
    ["Hit rate", it.hit_rate === null ? "–" : share(it.hit_rate), "since the start"],
    ["Found ready", count(hit)],
    ["Asked for", count(miss)],
    ["Shared", count(coalesced), "waited for another's"],
    ["Of replicas", count(shared_hit), "another replica had asked"],
    ["At its end", count(stale), "the provider was down", stale > 0 ? "warn" : null],
    ["Entries", count(it.entries), `of ${count(it.max_entries)}`],
    ["Memory", bytes(it.bytes), `of ${bytes(it.max_bytes)}`],
  ]);
}

function routes({ stats, routes: told, history }, filter, sort) {
  const span = history.span(60, history.perRoute);
  const words = filter.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const matching = told.routes.filter((it) => {
    const text = [it.name, it.match.path, ...it.match.hosts, ...it.match.methods, authText(it.auth), goesTo(it.action)].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const items = matching.map((it) => {
    const [from, to] = [span?.from.routes.get(it.name), span?.to.routes.get(it.name)];
    const { client, server } = classes(from, to);
    return { it, from, to, client, server, requests: span ? grown(from?.requests, to?.requests) : 0 };
  });
  const first = {
    errors: (one, other) => other.server - one.server || other.client - one.client,
    rate: (one, other) => other.requests - one.requests,
    name: () => 0,
  }[sort];
  items.sort((one, other) => first(one, other) || one.it.name.localeCompare(other.it.name));
  const rows = items.slice(0, MOST_ROUTES).map(({ it, from, to, requests, client, server }) => {
    const buckets = between(from?.duration, to?.duration);
    const [p50, p99] = [0.5, 0.99].map((part) => duration(percentile(stats.bounds_seconds, buckets, part)));
    const perSecond = span ? rate(requests / span.seconds) : "…";
    const { requests: _, ...outline } = it;
    return { it: outline, perSecond, client, server, all: (to ?? it.requests).requests, p50, p99 };
  });
  const labels = ["Name", "Match", "Who may call", "Goes to", "Requests", "p50 / p99"];
  sync(by("routes"), rows, ({ it }) => it.name, ({ it, perSecond, client, server, all, p50, p99 }) => row(labels, [
    [line(h("b", {}, it.name)), line(quiet(`line ${it.line}`))],
    [line(h("code", {}, it.match.path)), line(quiet([...it.match.methods, ...it.match.hosts].join(" ")))],
    [
      line(it.open ? badge("warn", "everybody") : authText(it.auth)),
      it.rate_limit ? line(quiet(`${count(it.rate_limit.requests)} per ${age(it.rate_limit.per_ms / 1000)} and ${it.rate_limit.by}${it.rate_limit.shared ? ", over all replicas" : ""}`)) : null,
    ],
    goesTo(it.action),
    [
      line(perSecond, " ", server > 0 ? badge("bad", `${count(server)} × 5xx`) : "", " ", client > 0 ? badge("warn", `${count(client)} × 4xx`) : ""),
      line(quiet(`${count(all)} since the start`)),
    ],
    `${p50} / ${p99}`,
  ]));
  const parts = [`${count(rows.length)} of ${count(told.total)} shown`];
  if (told.next) parts.push(`only the first ${count(told.routes.length)} by name are searched`);
  if (matching.length > rows.length) parts.push("write a filter to see others");
  say(by("routes-count"), parts.join("; "));
}

function authText(auth) {
  if (auth.kind === "none") return "everybody (open)";
  const from = `a token of ${auth.providers.join(" or ")}`;
  if (auth.kind === "any") return from;
  const rules = [
    auth.scopes.length > 0 ? `scope ${auth.scopes.join(" or ")}` : null,
    auth.roles.length > 0 ? `${auth.scopes.length > 0 ? "or " : ""}role ${auth.roles.join(" or ")}` : null,
    auth.callers !== "any" ? `${auth.callers} only` : null,
    auth.clients.length > 0 ? many(auth.clients.length, "client") : null,
    auth.tenants.length > 0 ? many(auth.tenants.length, "tenant") : null,
    ...Object.entries(auth.claims).map(([name, values]) => `${name} is ${values.join(" or ")}`),
  ];
  return `${from}: ${rules.filter((rule) => rule !== null).join(", ")}`;
}

function goesTo(action) {
  if (action.kind === "respond") return `answers ${action.status}`;
  if (action.kind === "redirect") return `${action.status} to ${action.to}`;
  const token = {
    none: "no token", passthrough: "the caller's token", header: `header ${action.token.name}`,
    on_behalf_of: "on behalf of the caller", client_credentials: "in the gateway's name", managed_identity: "managed identity",
  }[action.token.kind] ?? action.token.kind;
  return `${action.upstream}${action.path ? ` ${action.path}` : ""}, ${token}`;
}

function config({ stats, config: it }) {
  const now = Date.parse(stats.time);
  const last = it.last_reload;
  facts(by("config-facts"), [
    ["In force since", clock(it.loaded_at), `${age((now - Date.parse(it.loaded_at)) / 1000)} ago`],
    ["Reloads", `${count(it.reloads.success)} good, ${count(it.reloads.failure)} bad`, "since the start"],
  ]);
  sync(by("last-reload"), last ? [last] : [], () => "last", (reload) => h(
    "div", {},
    line(badge(reload.outcome === "success" ? "good" : "bad", `last reload: ${reload.outcome}`), quiet(` ${clock(reload.at)}, ${reload.cause}`)),
    reload.outcome === "success" ? line(`Changed: ${summary(reload.changes)}`) : null,
    problems(reload.problems),
  ));
  say(by("config"), JSON.stringify(it.config, null, 2));
}
