// Asks the service for a voice session, as the contract wants it asked. No dependencies; runs in
// browsers, React Native and Node.js. Copy it into the app.

/** What went wrong: `code` is the service's, or `TIMEOUT`, `UNREACHABLE`. */
export class SessionError extends Error {
  constructor(code, message, { status = 0, details = "", retryAfter = null, requestId = null } = {}) {
    super(message);
    this.name = "SessionError";
    Object.assign(this, { code, status, details, retryAfter, requestId });
  }
}

// Asking creates nothing, so asking again does no harm; for anything else it does no good.
const WORTH_A_RETRY = new Set([
  "RATE_LIMITED", "VAPI_SESSION_FAILED", "AUTH_UNAVAILABLE", "SESSION_TIMEOUT", "REQUEST_TIMEOUT",
  "TIMEOUT", "UNREACHABLE",
]);

// Without Retry-After the service is set up wrongly, which does not pass by itself.
const worthARetry = ({ code, retryAfter }) =>
  WORTH_A_RETRY.has(code) && !(code === "VAPI_SESSION_FAILED" && retryAfter === null);

/**
 * Get a session: `{ apiKey, credentialType, expiresAt, assistantId, patientContext }`.
 *
 * `getToken()` gives the patient's token, `refreshToken()` a new one. Refreshes once, retries once,
 * and waits as long as the service asks, but no longer than `patienceMs`. Throws `SessionError`.
 */
export async function getSession({
  url, getToken, refreshToken, patientId, timeoutMs = 5000, patienceMs = 10000,
}) {
  let token = await getToken();
  let refreshed = false;
  let retried = false;
  for (;;) {
    try {
      return await ask(url, token, patientId, timeoutMs);
    } catch (error) {
      if (error.code === "AUTH_TOKEN_EXPIRED" && !refreshed) {
        refreshed = true;
        token = await refreshToken();
        continue;
      }
      const waitMs = error.retryAfter === null ? 300 + Math.random() * 400 : error.retryAfter * 1000;
      if (!worthARetry(error) || retried || waitMs > patienceMs) throw error;
      retried = true;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}

async function ask(url, token, patientId, timeoutMs) {
  const abort = new AbortController();
  // The service answers within 3 seconds; the rest is for a poor connection.
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify(patientId === undefined ? {} : { patientContext: { id: patientId } }),
      signal: abort.signal,
    });
    const body = await response.json();
    if (response.ok) return body.data;
    throw refusal(response, body.error);
  } catch (error) {
    if (error instanceof SessionError) throw error;
    if (abort.signal.aborted) throw new SessionError("TIMEOUT", "No answer in time");
    throw new SessionError("UNREACHABLE", "The service cannot be reached");
  } finally {
    clearTimeout(timer);
  }
}

function refusal(response, { code, message, details }) {
  const retryAfter = response.headers.get("Retry-After");
  return new SessionError(code, message, {
    status: response.status,
    details,
    retryAfter: retryAfter === null ? null : Number(retryAfter),
    requestId: response.headers.get("X-Request-ID"),
  });
}

/** Say to a patient what happened. Never show them `details`: that is for developers. */
export function inWords(error) {
  switch (error.code) {
    case "AUTH_TOKEN_MISSING":
    case "AUTH_TOKEN_INVALID":
    case "AUTH_TOKEN_EXPIRED":
      return "Please sign in again.";
    case "AUTH_TOKEN_REVOKED":
      return "Your access has ended. Please sign in again or ask your clinic.";
    case "FORBIDDEN":
    case "INSUFFICIENT_SCOPE":
      return "The voice assistant is not available for your account.";
    case "RATE_LIMITED":
      return `Too many tries. Please wait ${error.retryAfter ?? 60} seconds.`;
    case "TIMEOUT":
    case "UNREACHABLE":
    case "REQUEST_TIMEOUT":
      return "The connection is poor. Please try again.";
    case "INVALID_REQUEST":
    case "INVALID_PATIENT_CONTEXT":
    case "PATIENT_MISMATCH":
    case "NOT_FOUND":
    case "METHOD_NOT_ALLOWED":
    case "PAYLOAD_TOO_LARGE":
    case "UNSUPPORTED_MEDIA_TYPE":
      return "Something is wrong with the app. Please tell your clinic.";
    case "VAPI_SESSION_FAILED":
      if (error.retryAfter === null) return "The voice assistant is not available today.";
    // falls through: with Retry-After it will pass
    default:
      return "The voice assistant cannot be reached. Please try again in a minute.";
  }
}
