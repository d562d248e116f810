// Requests to the service that this page came from, and what they may run into.

let key = "";

/** Use an API key from now on; it stays in this page's memory. */
export function useKey(given) {
  // Other characters stand in no header, and in no key: the service says that this is none.
  key = given.trim().replace(/[^\x21-\x7e]/g, "?");
}

export const hasKey = () => key !== "";

/** What the service refused or failed at (RFC 9457), or that it cannot be reached. */
export class Problem extends Error {
  constructor(body, retryAfterS = null) {
    super(body.detail);
    this.title = body.title;
    this.detail = body.detail;
    this.status = body.status ?? 0;
    this.code = body.code ?? "";
    this.retryable = body.retryable === true;
    this.requestId = body.request_id ?? "";
    this.retryAfterS = retryAfterS;
  }
}

/** Ask the service; `path` is relative to the page. Throws a Problem, or AbortError. */
export async function call(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    const bearer = hasKey() ? { Authorization: `Bearer ${key}` } : {};
    response = await fetch(path, { ...options, headers: { ...headers, ...bearer } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** The whole body of an answer; the connection may break while it comes. */
export async function body(response, kind) {
  try {
    return await response[kind]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
}

function unreachable() {
  return new Problem({
    title: "The server cannot be reached",
    detail: "The connection could not be made, or it broke.",
    code: "unreachable",
    retryable: true,
  });
}

async function problemOf(response) {
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfterS = Number.isFinite(wait) ? wait : null;
  try {
    return new Problem(await response.json(), retryAfterS);
  } catch {
    // Something between here and the service answered in its own words.
    const title = `The server answered ${response.status}`;
    const retryable = response.status >= 500;
    return new Problem({ title, detail: "", status: response.status, retryable }, retryAfterS);
  }
}
