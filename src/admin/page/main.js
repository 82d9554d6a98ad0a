// The loop of the page: it asks every two seconds while somebody looks, one request at a time.

import { Failed, ask, reload, token } from "./api.js";
import { by, say } from "./elements.js";
import { History } from "./history.js";
import { showData } from "./sections.js";
import { showOutcome, showState } from "./state.js";

const EVERY_MS = 2000;
/** With more routes than this, they are asked for less often: one answer may be of a megabyte. */
const FEW_ROUTES = 100;
const SELDOM = 5;

/** All that is known; an answer replaces its part. */
const known = {
  stats: null, refusals: [], byCode: {}, upstreams: null, providers: null, cache: null, routes: null, config: null,
  history: new History(), version: null, restarted: null, problem: null, heard: null,
};
let [timer, polling, again, paused, names] = [null, false, false, false, false];
/** Polls until what seldom changes is asked for again. */
let [untilRoutes, untilConfig] = [0, 0];

async function poll() {
  clearTimeout(timer);
  if (polling) {
    again = true;
    return;
  }
  polling = true;
  again = false;
  try {
    await look();
    known.problem = null;
    known.heard = Date.now();
    by("ask").hidden = true;
  } catch (error) {
    if (!(error instanceof Failed)) console.error(error);
    known.problem = error instanceof Failed ? error : new Failed("refused", `this page has a mistake: ${error}`);
  } finally {
    polling = false;
  }
  show();
  if (known.problem?.kind === "token") return askForToken();
  if (again) return poll();
  if (!paused && !document.hidden) timer = setTimeout(poll, EVERY_MS);
}

async function look() {
  const few = (known.stats?.routes_total ?? Infinity) <= FEW_ROUTES;
  const withRoutes = few || untilRoutes <= 0;
  const stats = await ask(withRoutes ? "stats" : "stats?limit=1");
  const before = known.stats;
  if (known.history.add(stats)) {
    known.restarted = stats.started_at;
    known.refusals = [];
  }
  if (withRoutes) known.history.addRoutes(stats);
  known.stats = stats;
  untilRoutes = withRoutes ? SELDOM - 1 : untilRoutes - 1;

  const asked = names;
  const since = known.refusals[0]?.number ?? 0;
  const fresh = await ask(`refusals?since=${since}${asked ? "&names=true" : ""}`);
  if (asked === names) known.refusals = [...fresh.refusals, ...known.refusals].slice(0, 100);
  known.byCode = fresh.by_code;
  known.upstreams = await ask("upstreams");
  known.providers = await ask("providers");
  known.cache = await ask("cache");
  const anew = before?.started_at !== stats.started_at || before?.config_loaded_at !== stats.config_loaded_at;
  untilConfig -= 1;
  if (anew || known.config === null || untilConfig <= 0) {
    untilConfig = SELDOM;
    known.config = await ask("config");
  }
  // Times are in whole seconds, and there may be two reloads in one.
  const version = `${stats.started_at} ${known.config.loaded_at} ${known.config.reloads.success}`;
  if (version !== known.version) {
    known.routes = await ask("routes");
    known.version = version;
  }
}

function show() {
  showState(known, paused);
  const locked = known.problem?.kind === "token";
  by("forget").hidden = token.get() === null;
  by("pause").hidden = by("reload").hidden = locked;
  by("data").hidden = known.routes === null || locked;
  if (!by("data").hidden) showData(known, { filter: by("filter").value, sort: by("sort").value, all: by("refusals-all").ariaExpanded === "true" });
}

function askForToken() {
  const tried = token.get() !== null;
  token.forget();
  // What was shown is not for whoever has the token no more.
  if (known.stats !== null) return location.reload();
  by("ask").hidden = false;
  by("forget").hidden = true;
  say(by("ask-why"), tried ? "The gateway says that this is not the admin token. Try another." : "This gateway asks for its admin token.");
  by("token").value = "";
  by("token").focus();
}

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const value = by("token").value.trim();
  if (value === "") return;
  if (/[\u0000-\u001f\u007f]/.test(value)) {
    say(by("ask-why"), "A token has no control characters. Try another.");
    return;
  }
  token.set(value);
  by("token").value = "";
  poll();
});

by("forget").addEventListener("click", () => {
  token.forget();
  location.reload();
});

by("pause").addEventListener("click", () => {
  paused = !paused;
  by("pause").setAttribute("aria-pressed", String(paused));
  say(by("pause"), paused ? "Go on" : "Pause");
  if (paused) {
    clearTimeout(timer);
    show();
  } else {
    poll();
  }
});

by("names").addEventListener("change", () => {
  names = by("names").checked;
  // What was said with names is not kept without.
  known.refusals = [];
  show();
  poll();
});

by("refusals-all").addEventListener("click", () => {
  by("refusals-all").ariaExpanded = String(by("refusals-all").ariaExpanded !== "true");
  show();
});

for (const [id, event] of [["filter", "input"], ["sort", "change"]]) by(id).addEventListener(event, show);

by("reload").addEventListener("click", async () => {
  const button = by("reload");
  button.disabled = true;
  say(button, "Reloading …");
  try {
    showOutcome(await reload());
  } catch (error) {
    if (error.kind === "token") {
      known.problem = error;
      show();
      askForToken();
    } else {
      showOutcome({ good: null, detail: error.message });
    }
  }
  button.disabled = false;
  say(button, "Reload the file");
  untilConfig = 0;
  if (by("ask").hidden) poll();
});

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !paused && by("ask").hidden) poll();
});

poll();
