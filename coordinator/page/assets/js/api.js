// Requests to the server that sent this page. Addresses are relative, so a reverse proxy may move it.

const KEY = 'fulger.key';  // in sessionStorage: forgotten with the tab

export class ApiError extends Error {
  // status 0: no answer at all.
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let askForKey = async () => null;

// `ask(wrong)` resolves to a key, or to null when the visitor has none. `wrong`: one was given and refused.
export function onKeyNeeded(ask) {
  askForKey = ask;
}

function headers(body) {
  const key = sessionStorage.getItem(KEY);
  return {
    ...(body === undefined ? {} : {'Content-Type': 'application/json'}),
    ...(key ? {Authorization: `Bearer ${key}`} : {}),
  };
}

async function send(path, {method = 'GET', body, signal} = {}) {
  try {
    return await fetch(path, {method, body, signal, headers: headers(body)});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server cannot be reached.');
  }
}

async function errorOf(response) {
  const text = await response.text().catch(() => '');
  try {
    return new ApiError(response.status, JSON.parse(text).error.message);
  } catch {
    return new ApiError(response.status, text.slice(0, 300) || `The server answered ${response.status}.`);
  }
}

let asking = null;  // one dialog, however many requests want it

async function newKey(used) {
  const now = sessionStorage.getItem(KEY);
  if (now !== used) return now;  // another request has asked meanwhile
  asking ??= askForKey(Boolean(used)).finally(() => { asking = null; });
  const key = await asking;
  if (key) sessionStorage.setItem(KEY, key);
  return key;
}

// The response of a request that was accepted; asks for a key where one is needed. Throws ApiError, and
// AbortError when `signal` fires.
export async function call(path, options = {}) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    const response = await send(path, options);
    if (response.ok) return response;
    if (response.status !== 401 || !(await newKey(used))) throw await errorOf(response);
  }
}

export async function callJson(path, options) {
  return (await call(path, options)).json();
}

// {ready, reachable, message}: never throws, needs no key.
export async function readiness() {
  try {
    const response = await send('health/ready', {signal: AbortSignal.timeout(5000)});
    if (response.ok) return {ready: true, reachable: true, message: ''};
    return {ready: false, reachable: true, message: (await errorOf(response)).message};
  } catch {
    return {ready: false, reachable: false, message: 'The server cannot be reached.'};
  }
}
