// What is made of counters that only go up: rates and percentiles, from the difference of two looks.

const KEPT_SECONDS = 300;

/** The looks at one run of the gateway, the oldest first. */
export class History {
  looks = [];
  perRoute = [];
  startedAt = null;

  /** Takes `stats`; says whether all counts began anew. */
  add(stats) {
    const last = this.looks.at(-1);
    const anew = last !== undefined
      && (this.startedAt !== stats.started_at || stats.requests.requests < last.requests.requests);
    if (anew) this.looks = this.perRoute = [];
    this.startedAt = stats.started_at;
    const { uptime_seconds: at, requests, refusals } = stats;
    const providers = new Map(stats.providers.map((it) => [it.provider, it]));
    // A second answer of the same moment has nothing to divide by.
    if (anew || last === undefined || at - last.at > 0.2) {
      this.looks = [...this.looks, { at, requests, refusals, providers }];
      this.looks = this.looks.filter((look) => at - look.at <= KEPT_SECONDS);
    }
    return anew;
  }

  /** Takes the counts by route and upstream, which may come less often. */
  addRoutes(stats) {
    const at = stats.uptime_seconds;
    const routes = new Map(stats.routes.map((it) => [it.route, it]));
    const upstreams = new Map(stats.upstreams.map((it) => [it.upstream, it]));
    this.perRoute = [...this.perRoute, { at, routes, upstreams }].filter((look) => at - look.at <= 60);
  }

  /** The two looks that are `seconds` apart, or as far as there are. */
  span(seconds, looks = this.looks) {
    const newest = looks.at(-1);
    const oldest = looks.find((look) => newest.at - look.at <= seconds + 0.5);
    return newest && oldest !== newest ? { from: oldest, to: newest, seconds: newest.at - oldest.at } : null;
  }

  /** `make(from, to, seconds)` for each look, over about 10 s before it: single looks jump about. */
  points(make) {
    const points = [];
    for (let i = 1, first = 0; i < this.looks.length; i += 1) {
      const to = this.looks[i];
      while (first < i - 1 && to.at - this.looks[first].at > 10) first += 1;
      const from = this.looks[first];
      points.push({ at: to.at, ...make(from, to, to.at - from.at) });
    }
    return points;
  }
}

/** What came to a count between two looks. */
export const grown = (from, to) => Math.max(0, (to ?? 0) - (from ?? 0));

/** Requests that ended between two totals, by class of status. */
export function classes(from, to) {
  const sums = { ok: 0, client: 0, server: 0, gone: grown(from?.gone, to?.gone) };
  for (const [status, count] of Object.entries(to?.by_status ?? {})) {
    const more = grown(from?.by_status[status], count);
    if (status >= 500) sums.server += more;
    else if (status >= 400) sums.client += more;
    else sums.ok += more;
  }
  return sums;
}

/** The difference of two histograms, as counts beside `bounds` and one beyond. */
export function between(from, to) {
  return (to?.buckets ?? []).map((count, i) => grown(from?.buckets[i], count));
}

/**
 * The value below which `share` of the durations in `buckets` are, in seconds; evenly spread within
 * a bucket. `null` for none, `Infinity` beyond the last bound.
 */
export function percentile(bounds, buckets, share) {
  const all = buckets.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  const rank = share * all;
  let below = 0;
  for (const [i, count] of buckets.entries()) {
    if (count > 0 && below + count >= rank) {
      if (i >= bounds.length) return Infinity;
      const low = i === 0 ? 0 : bounds[i - 1];
      return low + (bounds[i] - low) * ((rank - below) / count);
    }
    below += count;
  }
  return Infinity;
}
