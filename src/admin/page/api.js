// How the page asks the gateway: one request at a time, with the token of this tab.

const KEY = "obo-gateway-admin-token";
const PATIENCE_MS = 10_000;
const RELOAD_PATIENCE_MS = 120_000;

/** An answer that is none: `kind` is `token`, `refused`, `busy` or `unreachable`. */
export class Failed extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The JSON of `path` below `/api/v1/`. */
export async function ask(path) {
  const { response, body } = await send(path, "GET", PATIENCE_MS);
  if (!response.ok) throw refusal(response, body);
  return body;
}

/** Has the file read again: what the gateway says, whether it was good or not. */
export async function reload() {
  const { response, body } = await send("reload", "POST", RELOAD_PATIENCE_MS);
  if (response.ok || response.status === 422) return { good: response.ok, ...body };
  throw refusal(response, body);
}

async function send(path, method, patience) {
  const headers = { accept: "application/json" };
  const known = token.get();
  if (known !== null) headers.authorization = `Bearer ${asField(known)}`;
  try {
    const signal = AbortSignal.timeout(patience);
    const init = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
    const response = await fetch(`api/v1/${path}`, init);
    const text = await response.text();
    return { response, body: parse(text, response) };
  } catch (error) {
    if (error instanceof Failed) throw error;
    const late = error.name === "TimeoutError";
    throw new Failed("unreachable", late ? `no answer within ${patience / 1000} s` : "no connection");
  }
}

/** Fields are bytes: what is beyond ASCII goes as UTF-8, as in the file. */
function asField(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function parse(text, response) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Failed("refused", `an answer with status ${response.status} that is no JSON: is this the gateway?`);
  }
}

function refusal(response, problem) {
  const why = String(problem.detail ?? problem.title ?? `status ${response.status}`);
  if (response.status === 401) return new Failed("token", why);
  if (response.status === 429 || response.status === 503) return new Failed("busy", `${problem.title ?? "busy"}. ${why}`);
  return new Failed("refused", why);
}
