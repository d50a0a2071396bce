// Every response of the service: how to cause it, what it means, what an app does about it.

/** A request for a session; `changes` replaces parts of it. */
export const ask = (c, token, changes = {}) => ({
  method: "POST", url: c.endpoint,
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  body: JSON.stringify(c.body ?? { patientContext: { id: c.patient } }),
  ...changes,
});

const withToken = (kind) => async (c) => ask(c, await c.token(kind));
const withBody = (body, type = "application/json") => async (c) => {
  const token = await c.token("valid");
  return ask(c, token, { headers: { Authorization: `Bearer ${token}`, "Content-Type": type }, body });
};

export const CATALOGUE = [
  {
    status: 200, code: "OK", means: "The token is valid, and the response has what Vapi’s SDK needs.",
    app: "Give apiKey and assistantId to the SDK, one SDK object for each call.", make: withToken("valid"),
  },
  {
    status: 400, code: "INVALID_REQUEST", means: "The body is not valid JSON: it ends in the middle.",
    app: "Correct the request. A retry has the same result.", make: withBody('{"patientContext": {"id": '),
  },
  {
    status: 400, code: "INVALID_PATIENT_CONTEXT", means: "patientContext has an id that is not valid.",
    app: "Omit patientContext, or send the id of the signed-in patient.",
    make: withBody('{"patientContext": {"id": ""}}'),
  },
  {
    status: 401, code: "AUTH_TOKEN_MISSING", means: "The request has no Authorization header.",
    app: "Sign the patient in.",
    make: async (c) => ask(c, "", { headers: { "Content-Type": "application/json" } }),
  },
  {
    status: 401, code: "AUTH_TOKEN_INVALID", means: "The token was signed with another key.",
    app: "Ask the patient to sign in again. Do not retry with the same token.", make: withToken("forged"),
  },
  {
    status: 401, code: "AUTH_TOKEN_EXPIRED", means: "The token has expired.",
    app: "Refresh the token and try once more.", make: withToken("expired"),
  },
  {
    status: 401, code: "AUTH_TOKEN_REVOKED", means: "The token or the patient was revoked.",
    app: "Sign the patient out.", make: withToken("revoked"),
  },
  {
    status: 403, code: "FORBIDDEN", means: "The token is valid, but its role is nurse, not patient.",
    app: "Do not offer voice to this user.", make: withToken("nurse"),
  },
  {
    status: 403, code: "INSUFFICIENT_SCOPE", means: "The token does not grant the scope for voice.",
    app: "Request the scope at sign-in.", make: withToken("scopeless"),
  },
  {
    status: 403, code: "PATIENT_MISMATCH", means: "The body names another patient than the token.",
    app: "Send the id of the signed-in patient, or none.",
    make: withBody('{"patientContext": {"id": "pt_other"}}'),
  },
  {
    status: 403, code: "ASSISTANT_NOT_ALLOWED", means: "The assistant does not exist, or is not for this patient.",
    app: "Offer the assistants of this patient, or omit assistant.", make: withBody('{"assistant": "nobody"}'),
  },
  {
    status: 403, code: "CONSENT_REQUIRED", means: "The patient has not given a consent that the clinic requires.",
    app: "Show the text that details names, ask for consent, and retry.", make: withToken("no_consent"),
  },
  {
    status: 404, code: "NOT_FOUND", means: "The path does not exist.", app: "Correct the address.",
    make: async (c) => ask(c, await c.token("valid"), { url: c.endpoint.replace(/start$/, "begin") }),
  },
  {
    status: 405, code: "METHOD_NOT_ALLOWED", means: "The path accepts POST only.", app: "Send POST.",
    make: async (c) => ask(c, await c.token("valid"), { method: "GET", body: undefined }),
  },
  {
    status: 408, code: "REQUEST_TIMEOUT", slow: true,
    means: "The body did not arrive in time. A browser cannot send so slowly, so the sandbox sends the request.",
    app: "Retry on a better connection.", make: withToken("valid"), send: (c, request) => c.stall(request),
  },
  {
    status: 413, code: "PAYLOAD_TOO_LARGE", means: "The body is larger than MAX_BODY_BYTES.",
    app: "Send a smaller body.",
    make: (c) => withBody(JSON.stringify({ padding: "x".repeat(c.config.maxBodyBytes) }))(c),
  },
  {
    status: 415, code: "UNSUPPORTED_MEDIA_TYPE", means: "The Content-Type of the body is not JSON.",
    app: "Send Content-Type: application/json.", make: withBody("patient=pt_1001", "text/plain"),
  },
  {
    status: 429, code: "RATE_LIMITED", means: "This patient requested too many sessions. The page sent requests until the limit was reached.",
    app: "Wait for Retry-After seconds, then retry.",
    make: async (c) => ask(c, await c.token("valid", "pt_often"), { body: "{}" }),
    send: (c, request) => c.untilLimited(request),
  },
  {
    status: 429, code: "CALL_LIMIT_REACHED", means: "The patient's minutes of the last 24 hours are used up.",
    app: "Say when to try again, from Retry-After. Do not retry by itself.", make: withToken("used_up"),
  },
  {
    status: 500, code: "INTERNAL_ERROR", means: "An unexpected failure, which the sandbox injected.",
    app: "Apologize, and report the request id.", make: withToken("crash"),
  },
  {
    status: 503, code: "VAPI_SESSION_FAILED", slow: true,
    means: "Vapi is down. The page switched the stand-in off and on again.",
    app: "Wait for Retry-After seconds, then retry.",
    make: withToken("valid"), send: (c, request) => c.withoutVapi(request),
  },
  {
    status: 503, code: "AUTH_UNAVAILABLE", means: "Tokens cannot be checked now. This is not a 401, which would log patients out.",
    app: "Wait for Retry-After seconds, then retry. Keep the patient signed in.", make: withToken("unavailable"),
  },
  {
    status: 503, code: "AUDIT_UNAVAILABLE", means: "The audit log cannot be written: no session without its audit line.",
    app: "Wait for Retry-After seconds, then retry. Keep the patient signed in.", make: withToken("unrecorded"),
  },
  {
    status: 504, code: "SESSION_TIMEOUT", slow: true, means: "The response was not ready within SESSION_BUDGET_SECONDS.",
    app: "Retry once.", make: withToken("stuck"),
  },
];

/** Find the entry of an answer, by its status and the code in its body. */
export const known = (status, body) =>
  CATALOGUE.find((entry) => entry.status === status && entry.code === (body?.error?.code ?? "OK"));
