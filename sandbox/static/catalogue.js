// Every answer the service can give: how to provoke it, what it means, what an app does about it.

/** A request for a session, each part replaceable. */
const ask = (c, token, changes = {}) => ({
  method: "POST", url: c.endpoint,
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  body: JSON.stringify({ patientContext: { id: c.patient } }),
  ...changes,
});

const withToken = (kind) => async (c) => ask(c, await c.token(kind));
const withBody = (body, type = "application/json") => async (c) => {
  const token = await c.token("valid");
  return ask(c, token, { headers: { Authorization: `Bearer ${token}`, "Content-Type": type }, body });
};

export const CATALOGUE = [
  {
    status: 200, code: "OK", means: "The service trusts the token and hands over what Vapi’s SDK needs.",
    app: "Give apiKey and assistantId to the SDK, one SDK object for each call.", make: withToken("valid"),
  },
  {
    status: 400, code: "INVALID_REQUEST", means: "The body is cut off in the middle of its JSON.",
    app: "A bug in the app: fix it, do not retry.", make: withBody('{"patientContext": {"id": '),
  },
  {
    status: 400, code: "INVALID_PATIENT_CONTEXT", means: "patientContext is there, but its id is no usable id.",
    app: "Leave patientContext out, or send the id of the signed-in patient.",
    make: withBody('{"patientContext": {"id": ""}}'),
  },
  {
    status: 401, code: "AUTH_TOKEN_MISSING", means: "The request brings no Authorization header.",
    app: "Sign the patient in.",
    make: async (c) => ask(c, "", { headers: { "Content-Type": "application/json" } }),
  },
  {
    status: 401, code: "AUTH_TOKEN_INVALID", means: "The token was signed by somebody else.",
    app: "Sign the patient in again; never retry the same token.", make: withToken("forged"),
  },
  {
    status: 401, code: "AUTH_TOKEN_EXPIRED", means: "The token was good, and has run out.",
    app: "Refresh the token and try once more.", make: withToken("expired"),
  },
  {
    status: 401, code: "AUTH_TOKEN_REVOKED", means: "This access was taken back before it ran out.",
    app: "Sign the patient out and say why.", make: withToken("revoked"),
  },
  {
    status: 403, code: "FORBIDDEN", means: "The token is good, but belongs to a nurse, not to a patient.",
    app: "Hide the voice assistant from everybody who is no patient.", make: withToken("nurse"),
  },
  {
    status: 403, code: "INSUFFICIENT_SCOPE", means: "The token does not grant the scope for voice.",
    app: "Ask the sign-in service for the scope.", make: withToken("scopeless"),
  },
  {
    status: 403, code: "PATIENT_MISMATCH", means: "The body names another patient than the token.",
    app: "A bug in the app: the signed-in patient changed under it.",
    make: withBody('{"patientContext": {"id": "pt_somebody_else"}}'),
  },
  {
    status: 404, code: "NOT_FOUND", means: "There is no such path.", app: "Check the address.",
    make: async (c) => ask(c, await c.token("valid"), { url: c.endpoint.replace(/start$/, "begin") }),
  },
  {
    status: 405, code: "METHOD_NOT_ALLOWED", means: "The path is there, but takes POST only.", app: "Send POST.",
    make: async (c) => ask(c, await c.token("valid"), { method: "GET", body: undefined }),
  },
  {
    status: 408, code: "REQUEST_TIMEOUT", slow: true,
    means: "The body never arrived in full. A browser cannot stall like this, so the sandbox does it.",
    app: "Try once more: the connection is poor.", make: withToken("valid"), send: (c, request) => c.stall(request),
  },
  {
    status: 413, code: "PAYLOAD_TOO_LARGE", means: "The body is larger than MAX_BODY_BYTES.",
    app: "Send only what the contract names.",
    make: (c) => withBody(JSON.stringify({ padding: "x".repeat(c.config.maxBodyBytes) }))(c),
  },
  {
    status: 415, code: "UNSUPPORTED_MEDIA_TYPE", means: "The body is announced as something other than JSON.",
    app: "Send Content-Type: application/json.", make: withBody("patient=pt_1001", "text/plain"),
  },
  {
    status: 429, code: "RATE_LIMITED", means: "This patient asked too often. The page asked until the limit was reached.",
    app: "Wait for Retry-After seconds, then try again.",
    make: async (c) => ask({ ...c, patient: "pt_hurried" }, await c.token("valid", "pt_hurried")),
    send: (c, request) => c.hurry(request),
  },
  {
    status: 500, code: "INTERNAL_ERROR", means: "Something unforeseen broke; the sandbox broke it on purpose.",
    app: "Say sorry, and quote the request id to support.", make: withToken("crash"),
  },
  {
    status: 503, code: "VAPI_SESSION_FAILED", slow: true,
    means: "Vapi is down. The page switched the stand-in off and on again.",
    app: "Wait for Retry-After seconds, then try once more.",
    make: withToken("valid"), send: (c, request) => c.withoutVapi(request),
  },
  {
    status: 503, code: "AUTH_UNAVAILABLE", means: "Tokens cannot be checked right now; nobody is logged out for it.",
    app: "Wait for Retry-After seconds, then try once more.", make: withToken("unavailable"),
  },
  {
    status: 504, code: "SESSION_TIMEOUT", slow: true, means: "The budget ran out on the server’s side.",
    app: "Try once more.", make: withToken("stuck"),
  },
];

/** Find what is known about an answer, by its status and the code in its body. */
export const known = (status, body) =>
  CATALOGUE.find((entry) => entry.status === status && entry.code === (body?.error?.code ?? "OK"));
