// What the page asks of its server: same origin, with the token where one was given.

const retries = 2;
const longestWait = 15_000;
let token = '';

// An answer other than 2xx, with what RFC 9457's problem+json says.
export class Problem extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status; // 0: there was no answer
    this.retryAfter = retryAfter; // milliseconds; undefined: trying again is no use
  }
}

export function setToken(value) {
  token = value.trim();
}

// Relative to the page, which a proxy may show under a path of its own.
export function urlOf(path) {
  return new URL(path, document.baseURI);
}

async function problemOf(response) {
  const text = await response.text().catch(() => '');
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch { /* a proxy's page */ }
  const detail = problem.detail || `${response.status} ${response.statusText}`.trim();
  let wait;
  if (response.status === 429 || response.status === 503) {
    const seconds = Number(response.headers.get('Retry-After') ?? 1);
    wait = problem.retry_after_ms ?? (Number.isFinite(seconds) ? seconds * 1000 : 1000);
  }
  return new Problem(response.status, detail, wait);
}

// The response, if it is 2xx. Throws a Problem, and the signal's reason if that ended it.
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  // A header takes no more than Latin-1; what does not fit is no token of this server.
  if (token && /^[\x21-\x7e]+$/.test(token)) headers.set('Authorization', `Bearer ${token}`);
  let response;
  try {
    response = await fetch(urlOf(path), {...options, headers, cache: 'no-store'});
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw new Problem(0, error.message);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

function pause(milliseconds, signal) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, {once: true});
  });
}

// Sends the photo's bytes as they are. Comes back when the server asks for it, up to twice;
// `onWait(milliseconds)` tells before.
export async function classify(model, photo, signal, onWait) {
  for (let attempt = 0; ; ++attempt) {
    try {
      const response = await ask(`v1/models/${encodeURIComponent(model)}:classify?top_k=5`, {
        method: 'POST',
        body: photo,
        headers: {'Content-Type': 'application/octet-stream'},
        signal,
      });
      return await response.json();
    } catch (error) {
      if (error.retryAfter === undefined || attempt === retries) throw error;
      // Not all at the same moment, and longer the second time.
      const wait = Math.min(error.retryAfter * (1 + attempt + Math.random() / 2), longestWait);
      onWait(wait);
      await pause(wait, signal);
    }
  }
}
