// Verify the patient proof of a Vapi call. Copy this file into the tool server. Version 3.
//
// Needs Node.js 20 and `npm install jose@6`. Authenticate the webhook first, see
// `vapi-webhook.mjs`: without that, `call` can say anything.
import { compactVerify, importJWK } from "jose";

const LEEWAY = 30; // seconds
const MAX_LENGTH = 4096; // characters; the service writes at most 600 in most configurations
const COMPACT_JWS = /^[\w-]+\.[\w-]+\.[\w-]+$/;
const RFC3339 =
  /^(\d{4}-\d\d-(\d\d))T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

const DEFAULT_OVERRIDES = ["variableValues.patientProof"];
const DEFINITIONS = ["assistant", "squad", "squadId", "workflow", "workflowId", "assistantVersion"];

/**
 * The proof is refused. `reason` is one word for programs; the message is a sentence for the log,
 * and repeats nothing of the proof.
 */
export class ProofError extends Error {
  constructor(reason, message) {
    super(message);
    this.name = "ProofError";
    this.reason = reason;
  }
}

/** Throws `ProofError` unless the condition is true. */
export function ensure(condition, reason, message) {
  if (!condition) throw new ProofError(reason, message);
}

/**
 * Resolves to the patient id of a proof, or rejects with `ProofError`.
 *
 * `call` is `message.call` of the webhook, `jwks` the parsed key set of the service, `issuer` and
 * `audience` are its PROOF_ISSUER and PROOF_AUDIENCE. `allowedOverrides` are the overrides that
 * the app may start the call with, see `changedOverrides`.
 */
export async function verifyPatient(proof, call, { jwks, issuer, audience, allowedOverrides }) {
  return (await verifyClaims(proof, call, { jwks, issuer, audience, allowedOverrides })).sub;
}

/**
 * Verifies as `verifyPatient` does, and resolves to all claims of the proof. With consents
 * required, `consent` has their versions by name.
 */
export async function verifyClaims(
  proof, call, { jwks, issuer, audience, allowedOverrides = DEFAULT_OVERRIDES },
) {
  // Vapi sends the template itself, {{patientProof}}, when the app did not set the variable.
  const text = typeof proof === "string";
  const unset = proof === undefined || proof === null || proof === "" || (text && proof.startsWith("{{"));
  ensure(!unset, "missing", "The call carries no patient proof");
  const compact = text && proof.length <= MAX_LENGTH && COMPACT_JWS.test(proof);
  ensure(compact, "malformed", "The proof is not a compact JWS, or is too long");
  const [headerData, payload] = proof.split(".").map(decode);
  const header = readObject(headerData);
  ensure(header.alg === "ES256", "algorithm", "The proof is not signed with ES256 (alg)");
  ensure(header.typ === "patient-proof+jwt", "type", "The token is not a patient proof (typ)");
  const extended = "crit" in header || "b64" in header;
  ensure(!extended, "extension", "The proof requires an extension of JWS (crit or b64)");
  const keys = await findKeys(jwks, header.kid);
  const verdicts = await Promise.all(keys.map((key) => verifies(proof, key)));
  ensure(verdicts.some(Boolean), "signature", "The signature of the proof does not verify");
  const claims = readObject(payload);
  const ours = isText(claims.iss) && claims.iss === issuer;
  ensure(ours, "issuer", "The proof was issued by another service (iss)");
  const forUs = isText(claims.aud) && claims.aud === audience;
  ensure(forUs, "audience", "The proof was issued for another audience (aud)");
  for (const [name, isValid] of [["sub", isText], ["jti", isText], ["iat", isDate], ["exp", isDate]]) {
    ensure(isValid(claims[name]), "claims", `The proof has no valid ${name}`);
  }
  checkCall(claims, call);
  const locked = changedOverrides(call, allowedOverrides).length === 0;
  ensure(locked, "overrides", "The call was started with overrides that are not allowed");
  return claims;
}

/**
 * Returns the overrides of a call that are not allowed, and what else defines its assistant.
 *
 * An allowed name is a dotted path, and allows what lies below it. Of each override that is not
 * allowed, the shortest path is returned. A key that contains a dot is never allowed.
 */
export function changedOverrides(call, allowed = DEFAULT_OVERRIDES) {
  const own = (name) => (Object.hasOwn(call, name) ? call[name] : null) ?? null;
  const names = DEFINITIONS.filter((name) => own(name) !== null);
  const overrides = own("assistantOverrides");
  if (overrides === null) return names;
  if (!isObject(overrides)) return [...names, "assistantOverrides"];
  return [...names, ...notAllowed([], overrides, [...allowed].map((each) => each.split(".")))];
}

/** Finds the overrides below `parent` that are not allowed. */
function notAllowed(parent, values, allowed) {
  return Object.entries(values).flatMap(([key, value]) => {
    const path = [...parent, key];
    const below = allowed.filter((each) => path.every((part, place) => each[place] === part));
    // The parts of an allowed path contain no dot.
    if (below.some((each) => each.length === path.length)) return [];
    const leads = below.length > 0 && isObject(value) && Object.keys(value).length > 0;
    return leads ? notAllowed(path, value, allowed) : [path.join(".")];
  });
}

/** Returns whether the signature of a proof verifies with a key. */
const verifies = (proof, key) =>
  compactVerify(proof, key, { algorithms: ["ES256"] }).then(() => true, () => false);

/** Finds the public P-256 keys with a key id in a JWK Set (RFC 7517). */
export async function findKeys(jwks, keyId) {
  ensure(isObject(jwks) && Array.isArray(jwks.keys), "jwks", "The key set is not a JWK Set");
  const expected = { kty: "EC", crv: "P-256", use: "sig", alg: "ES256", kid: keyId };
  const keys = [];
  for (const entry of isText(keyId) ? jwks.keys : []) {
    const jwk = isObject(entry) ? { use: "sig", alg: "ES256", ...entry } : {};
    // A published private key (d) proves nothing.
    if ("d" in jwk || Object.entries(expected).some(([name, value]) => jwk[name] !== value)) continue;
    const { x, y } = jwk;
    const key = await importJWK({ kty: "EC", crv: "P-256", x, y }, "ES256").catch(() => null);
    if (key) keys.push(key);
  }
  ensure(keys.length, "key", "The key set has no usable key with the kid of the proof");
  return keys;
}

/** Checks that the proof is for the call's assistant, and was valid when the call began. */
function checkCall({ assistantId, iat, exp }, call) {
  ensure(isObject(call), "call", "The webhook has no call");
  const same = isText(assistantId) && call.assistantId === assistantId;
  ensure(same, "assistant", "The proof was issued for another assistant");
  const createdAt = readTime(call.createdAt);
  const inWindow = iat - LEEWAY <= createdAt && createdAt <= exp + LEEWAY;
  ensure(inWindow, "window", "The call was not created while the proof was valid");
}

/** Reads an RFC 3339 time; returns seconds since the epoch. */
function readTime(value) {
  const [, date, day] = (typeof value === "string" && RFC3339.exec(value)) || [];
  // Date.parse takes 30 February for 2 March.
  const valid = date !== undefined && new Date(`${date}T00:00:00Z`).getUTCDate() === Number(day);
  ensure(valid, "created_at", "The call has no valid createdAt");
  return Date.parse(value) / 1000;
}

/** Decodes base64url; of several spellings of the same bytes one is accepted. */
function decode(segment) {
  const bytes = Buffer.from(segment, "base64url");
  const canonical = bytes.toString("base64url") === segment;
  ensure(canonical, "malformed", "The proof is not made of base64url");
  return bytes;
}

/** Reads a JSON object in UTF-8. */
function readObject(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const value = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // Refused below.
  }
  throw new ProofError("malformed", "The proof is not made of JSON objects");
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const isText = (value) => typeof value === "string" && value !== "";
const isDate = (value) => typeof value === "number" && Math.abs(value) < 2 ** 53;
