// What a tool server needs around `verify-patient.mjs`: copy both files. Version 3.
//
// Authentication of Vapi's webhooks, the key set of the service, protection against replay.
// Refusals are `ProofError`.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { ensure, isText, verifyClaims } from "./verify-patient.mjs";

const MAX_BODY_BYTES = 1_048_576;
const KEEP_USED = 50_000; // seconds: longer than the longest proof (1 hour) and call (12 hours) together

/**
 * Checks a webhook that Vapi signs. `body` is the body as received, a Buffer; `signature` is the
 * header `x-signature`, the HMAC-SHA256 of `{timestamp}.{body}` in hex; `timestamp` is
 * `x-timestamp`, at most `window` seconds away.
 */
export function authenticateHmac(body, signature, timestamp, { secret, window = 300 }) {
  ensure(isText(secret), "webhook", "The server has no secret to check webhooks with");
  ensure(isText(signature), "webhook", "The webhook has no signature");
  ensure(/^\d{1,15}$/.test(timestamp ?? ""), "webhook", "The webhook has no timestamp");
  const expected = createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest("hex");
  ensure(isSame(signature, expected), "webhook", "The signature of the webhook does not match");
  const sent = Number(timestamp);
  // Public sources do not say whether Vapi counts seconds or milliseconds: both are read.
  const age = Math.abs(Date.now() / 1000 - (sent < 1e11 ? sent : sent / 1000));
  ensure(age <= window, "webhook", "The webhook was not sent just now");
}

/** Checks a webhook by the header `Authorization`, which carries the token of the credential. */
export function authenticateBearer(authorization, { token }) {
  ensure(isText(token), "webhook", "The server has no token to check webhooks with");
  const [scheme, ...given] = (authorization ?? "").split(" ");
  const same = isSame(given.join(" "), token) && scheme.toLowerCase() === "bearer";
  ensure(same, "webhook", "The bearer token does not match");
}

/** Compares in constant time: `timingSafeEqual` takes values of equal length only. */
function isSame(given, expected) {
  const digest = (text) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/**
 * Returns `{ id, name, args }` of each tool call in `message`, in all the shapes that Vapi's
 * documentation and SDKs show. Arguments that are not a JSON object are null: answer that call with
 * an error. Each result needs `toolCallId`, `name`, and `result` or `error` on one line.
 */
export function readToolCalls(message) {
  return message.toolCallList.map((toolCall) => {
    const { name, arguments: given, parameters } = toolCall.function ?? toolCall;
    const args = given ?? parameters ?? {};
    const read = typeof args === "string" ? readJson(args) : args;
    const valid = typeof read === "object" && read !== null && !Array.isArray(read);
    return { id: toolCall.id, name, args: valid ? read : null };
  });
}

/** Reads JSON; returns null when it is not. */
function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Returns whether a webhook asks for tools; answer any other with 200 and `{}`. */
export const isToolCalls = (message) => message?.type === "tool-calls";

/**
 * Returns whether a body of this `Content-Length` must be refused with 413 before it is read; so
 * must one without a length.
 */
export const isTooLarge = (contentLength) =>
  !/^\d{1,15}$/.test(contentLength ?? "") || Number(contentLength) > MAX_BODY_BYTES;

/**
 * The key set of the service: cached, and fetched at once when a key id is not in it.
 *
 * Fetches are at least `cooldown` seconds apart and take at most 2 seconds. While one runs or
 * fails, old keys are used up to `maxStale` seconds. `url` is the address of `/.well-known/jwks.json`.
 */
export class ProofKeys {
  #url; #maxAge; #cooldown; #maxStale; #jwks; #fetching;
  #fetched = -Infinity;
  #tried = -Infinity;

  constructor(url, { maxAge = 300, cooldown = 5, maxStale = 86_400 } = {}) {
    [this.#url, this.#maxAge, this.#cooldown, this.#maxStale] = [url, maxAge, cooldown, maxStale];
  }

  /** Verifies with the cached keys, then with new ones if the key is not among them. */
  async verify(proof, call, expected) {
    try {
      return await verifyClaims(proof, call, { jwks: await this.get(this.#maxAge), ...expected });
    } catch (error) {
      if (error.reason !== "key") throw error;
    }
    return verifyClaims(proof, call, { jwks: await this.get(0), ...expected });
  }

  /** Resolves to the key set, fetched again when it is older than `maxAge` seconds. */
  async get(maxAge) {
    const now = performance.now() / 1000;
    const due = now - this.#fetched >= maxAge && now - this.#tried >= this.#cooldown;
    if (due && this.#fetching === undefined) {
      this.#tried = now;
      this.#fetching = this.#refresh(now).finally(() => (this.#fetching = undefined));
    }
    const usable = () => performance.now() / 1000 - this.#fetched < this.#maxStale;
    // Only a key id that is not in the cache, or an empty cache, waits for the service.
    if (maxAge === 0 || !usable()) await this.#fetching;
    ensure(usable(), "unavailable", "The keys of the service cannot be fetched");
    return this.#jwks;
  }

  async #refresh(now) {
    try {
      const response = await fetch(this.#url, { signal: AbortSignal.timeout(2000) });
      const jwks = response.ok ? await response.json() : null;
      if (Array.isArray(jwks?.keys)) [this.#jwks, this.#fetched] = [jwks, now];
    } catch {
      // The old keys are used; the next attempt comes after the cooldown.
    }
  }
}

/**
 * Refuses a proof that another call has used.
 *
 * `firstUse(jti, callId)` stores the call id unless the `jti` has one already, in one step, and
 * resolves to the one that is stored. With Redis 7: `SET proof:{jti} {callId} NX GET EX 50000`.
 */
export async function refuseReplay(claims, call, firstUse) {
  ensure(isText(call.id), "call", "The call has no id");
  const first = (await firstUse(claims.jti, call.id)) === call.id;
  ensure(first, "replayed", "Another call has used this proof");
}

/** A `firstUse` for a server of one process. */
export function usedProofs() {
  const calls = new Map();
  return (jti, callId) => {
    const now = performance.now() / 1000;
    for (const [old, { at }] of calls) {
      if (at >= now - KEEP_USED) break;
      calls.delete(old);
    }
    if (!calls.has(jti)) calls.set(jti, { callId, at: now });
    return calls.get(jti).callId;
  };
}
