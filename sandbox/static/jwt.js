// Decodes a JWT for display. It verifies nothing: that is the task of the service.
import { el, fill, fromNow, json } from "./dom.js";

const wide = matchMedia("(min-width: 960px)");

/** Describe when something expires, or has expired; `value` is in seconds since the epoch. */
export function expiry(value) {
  return `${value * 1000 < Date.now() ? "expired" : "expires"} ${fromNow(value)}`;
}

const MEANING = {
  id: (value) => `the patient: ${value}`,
  type: (value) => `the role: ${value}`,
  sub: (value) => `the patient: ${value}`,
  aud: (value) => `for the audience ${value}`,
  assistantId: (value) => `for calls of assistant ${value}`,
  scope: (value) => `grants: ${value}`,
  orgId: () => "for one Vapi organization",
  iat: (value) => `issued ${fromNow(value)}`,
  nbf: (value) => `valid from ${fromNow(value)}`,
  exp: expiry,
};

function decode(segment) {
  const bytes = Uint8Array.from(atob(segment.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Return `{ header, claims }`, or null when the text is not a JWT. */
export function read(token) {
  const segments = (token ?? "").split(".");
  if (segments.length !== 3) return null;
  try {
    return { header: decode(segments[0]), claims: decode(segments[1]) };
  } catch {
    return null;
  }
}

function restrictions(token) {
  const limits = token?.restrictions;
  if (!limits) return [];
  return [
    token.tag === "public" && "can start a web call, and do nothing else",
    limits.allowedAssistantIds && `only with assistant ${limits.allowedAssistantIds.join(", ")}`,
    limits.allowTransientAssistant === false && "never with an assistant of the caller’s own",
    limits.allowedOrigins && `only from ${limits.allowedOrigins.join(", ")}`,
  ].filter(Boolean);
}

/** One part of a token, which can be collapsed. */
const part = (title, open, ...content) =>
  el("details", { class: "fold", open }, el("summary", {}, title), el("pre", { tabindex: 0, "aria-label": title }, ...content));

/** Fill a panel with a token: first an explanation, then its parts. */
export function show(panel, token, parts) {
  const [h, p, g] = token.split(".");
  const words = Object.keys(MEANING).filter((name) => name in parts.claims).map((name) => MEANING[name](parts.claims[name]));
  const facts = [...words, ...restrictions(parts.claims.token)];
  fill(
    panel,
    el("ul", { class: "facts" }, ...facts.map((fact) => el("li", {}, fact))),
    part("Claims", wide.matches, ...json(parts.claims)),
    part("Header", false, ...json(parts.header)),
    part("As sent", false, el("span", { class: "h" }, h), ".", el("span", { class: "p" }, p), ".", el("span", { class: "g" }, g)),
  );
}

export const hasExpired = (parts) => parts.claims.exp !== undefined && parts.claims.exp * 1000 < Date.now();
