// Requests to our own service; a refusal becomes one sentence for the reader.

const csrf = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

// Nothing is read for longer: whoever waits for it would never ask again.
const PATIENCE = 10000; // milliseconds

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function checked(response) {
  if (response.status === 401) {
    location.assign("/login");
    throw new Refused(401, "Your session has ended; log in again.");
  }
  if (!response.ok) {
    let sentence = `The service answered ${response.status}; try again.`;
    if ((response.headers.get("content-type") ?? "").includes("json")) {
      const problem = await response.json();
      sentence = problem.errors?.map((error) => error.sentence).join("; ") || problem.detail || sentence;
    }
    throw new Refused(response.status, sentence);
  }
  return response;
}

function silent() {
  throw new Refused(0, "The service does not answer.");
}

async function ask(address, options) {
  return checked(await fetch(address, { credentials: "same-origin", ...options }).catch(silent));
}

/** A piece of a page as text; `kind` is "rows" or "panel". */
export async function fragment(address, kind) {
  const headers = { "X-Fragment": kind, Accept: "text/html" };
  const response = await ask(address, { headers, signal: AbortSignal.timeout(PATIENCE) });
  return response.text().catch(silent);
}

export async function bytes(address) {
  return (await ask(address, {})).blob();
}

/** Without an ETag the change is tried on whatever is there. */
export async function post(address, body, etag) {
  const headers = { "X-CSRF-Token": csrf, "If-Match": etag ? `"${etag}"` : "*" };
  if (body) headers["Content-Type"] = "application/json";
  return ask(address, { method: "POST", headers, body: body ? JSON.stringify(body) : undefined });
}
