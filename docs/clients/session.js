// Gets a voice session from the service. No dependencies; runs in browsers, React Native and
// Node.js. Copy this file into the app.

/**
 * @typedef {object} Session
 * @property {string} apiKey  For Vapi's SDK: a public key or a session token.
 * @property {"public_key" | "session_token"} credentialType
 * @property {string | null} expiresAt  RFC 3339; null for a public key.
 * @property {string} assistantId
 * @property {{ id: string, validatedAt: string }} patientContext
 * @property {string} [patientProof]  For the assistant's tools; see `assistantOverrides`.
 */

/**
 * @typedef {object} SessionOptions
 * @property {string} url  The service's endpoint.
 * @property {() => Promise<string>} getToken  Gives the patient's token.
 * @property {() => Promise<string>} refreshToken  Gives a new token, after the first has expired.
 * @property {string} [patientId]  When set, the service checks that the token is this patient's.
 * @property {string} [assistant]  The name of an assistant, when the patient may choose.
 * @property {Record<string, string>} [consent]  What the patient agreed to, version by name, when
 *   the clinic requires consent.
 * @property {number} [timeoutMs]  For one request. The service answers within 3 seconds; the rest
 *   is for a poor connection.
 * @property {number} [maxWaitMs]  The longest `Retry-After` to wait for.
 */

/**
 * Why there is no session or no call: `code` is the service's, `TIMEOUT` or `UNREACHABLE`, or, of
 * voice-call.js, `MICROPHONE_REFUSED`, `CALL_FAILED` or `CONNECTION_LOST`.
 */
export class SessionError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ status?: number, details?: string, retryAfter?: number | null, requestId?: string | null }} [more]
   */
  constructor(code, message, { status = 0, details = "", retryAfter = null, requestId = null } = {}) {
    super(message);
    this.name = "SessionError";
    this.code = code;
    this.status = status;
    this.details = details;
    this.retryAfter = retryAfter;
    this.requestId = requestId;
  }
}

// These may pass by themselves. A request creates nothing, so a repeated one does no harm.
const RETRIABLE = new Set([
  "RATE_LIMITED", "VAPI_SESSION_FAILED", "AUTH_UNAVAILABLE", "AUDIT_UNAVAILABLE",
  "SESSION_TIMEOUT", "REQUEST_TIMEOUT", "TIMEOUT", "UNREACHABLE",
]);

// VAPI_SESSION_FAILED without Retry-After: the service is misconfigured or sessions are paused.
/** @param {SessionError} error */
const isRetriable = ({ code, retryAfter }) =>
  RETRIABLE.has(code) && !(code === "VAPI_SESSION_FAILED" && retryAfter === null);

/**
 * Get a session. Refreshes the token once, retries once, and waits for `Retry-After` in between.
 * Throws `SessionError`, and what `getToken` and `refreshToken` throw.
 *
 * @param {SessionOptions} options
 * @returns {Promise<Session>}
 */
export async function getSession({
  url, getToken, refreshToken, patientId, assistant, consent, timeoutMs = 5000, maxWaitMs = 10000,
}) {
  const patientContext = patientId === undefined ? undefined : { id: patientId };
  const body = JSON.stringify({ patientContext, assistant, consent });
  let token = await getToken();
  let refreshed = false;
  let retried = false;
  for (;;) {
    try {
      return await request(url, token, body, timeoutMs);
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      if (error.code === "AUTH_TOKEN_EXPIRED" && !refreshed) {
        refreshed = true;
        token = await refreshToken();
        continue;
      }
      const waitMs = error.retryAfter === null ? 300 + Math.random() * 400 : error.retryAfter * 1000;
      if (!isRetriable(error) || retried || waitMs > maxWaitMs) throw error;
      retried = true;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}

/**
 * @param {string} url
 * @param {string} token
 * @param {string} body
 * @param {number} timeoutMs
 * @returns {Promise<Session>}
 */
async function request(url, token, body, timeoutMs) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body,
      signal: abort.signal,
    });
    const answer = await response.json();
    if (response.ok) return answer.data;
    throw refusal(response, answer.error);
  } catch (error) {
    if (error instanceof SessionError) throw error;
    if (abort.signal.aborted) throw new SessionError("TIMEOUT", "No answer in time");
    throw new SessionError("UNREACHABLE", "The service cannot be reached");
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {Response} response
 * @param {{ code: string, message: string, details: string }} error
 */
function refusal(response, { code, message, details }) {
  const retryAfter = response.headers.get("Retry-After");
  return new SessionError(code, message, {
    status: response.status,
    details,
    retryAfter: retryAfter === null ? null : Number(retryAfter),
    requestId: response.headers.get("X-Request-ID"),
  });
}

/**
 * Give what to pass to Vapi's SDK as `assistantOverrides`: the patient proof, when there is one.
 * The app does not read the proof. The assistant's tools verify it.
 *
 * @param {Session} session
 */
export function assistantOverrides({ patientProof }) {
  return patientProof === undefined ? undefined : { variableValues: { patientProof } };
}

/** @param {number} seconds */
const minutes = (seconds) => (seconds <= 60 ? "a minute" : `${Math.ceil(seconds / 60)} minutes`);

/**
 * Give a text for the patient. Never show them `message` or `details`: these are for developers.
 *
 * @param {unknown} error
 */
export function inWords(error) {
  if (!(error instanceof SessionError)) return "Something went wrong. Please try again.";
  switch (error.code) {
    case "AUTH_TOKEN_MISSING":
    case "AUTH_TOKEN_INVALID":
    case "AUTH_TOKEN_EXPIRED":
      return "Please sign in again.";
    case "AUTH_TOKEN_REVOKED":
      return "Your access has ended. Please sign in again or ask your clinic.";
    case "FORBIDDEN":
    case "INSUFFICIENT_SCOPE":
    case "ASSISTANT_NOT_ALLOWED":
      return "The voice assistant is not available for your account.";
    case "CONSENT_REQUIRED":
      return "Please agree to the terms of the voice assistant first.";
    case "RATE_LIMITED":
      return `Too many tries. Please wait ${error.retryAfter ?? 60} seconds.`;
    case "CALL_LIMIT_REACHED":
      if (error.retryAfter === null) return "You cannot start another call now. Please try again later.";
      return `Your call time is used up. Please try again in ${minutes(error.retryAfter)}.`;
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
    case "MICROPHONE_REFUSED":
      return "Please allow the microphone in the settings, then call again.";
    case "CONNECTION_LOST":
      return "The connection was lost. Please call again.";
    case "CALL_FAILED":
      return "The call could not be started. Please try again.";
    case "VAPI_SESSION_FAILED":
      if (error.retryAfter === null) return "The voice assistant is not available today.";
    // falls through: with Retry-After it will pass
    default:
      return "The voice assistant cannot be reached. Please try again in a minute.";
  }
}
