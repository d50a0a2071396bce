// Takes a JWT apart for reading. Nothing is verified here: that is the service's work.
import { el, fill, fromNow, json } from "./dom.js";

const wide = matchMedia("(min-width: 960px)");

/** Say when something ends, or ended: seconds since the epoch. */
export function runsOut(value) {
  return `${value * 1000 < Date.now() ? "ran" : "runs"} out ${fromNow(value)}`;
}

const MEANING = {
  id: (value) => `says who is asking: ${value}`,
  type: (value) => `says in which role: ${value}`,
  sub: (value) => `names the patient: ${value}`,
  aud: (value) => `is meant for ${value}`,
  assistantId: (value) => `is for calls of assistant ${value}`,
  scope: (value) => `grants: ${value}`,
  orgId: () => "belongs to one Vapi organization",
  iat: (value) => `was made ${fromNow(value)}`,
  nbf: (value) => `holds from ${fromNow(value)}`,
  exp: runsOut,
};

function decode(segment) {
  const bytes = Uint8Array.from(atob(segment.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Return `{ header, claims }`, or null when the text is no JWT. */
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

/** One part of a token, folded away where space is dear. */
const part = (title, open, ...content) =>
  el("details", { class: "fold", open }, el("summary", {}, title), el("pre", { tabindex: 0, "aria-label": title }, ...content));

/** Fill a panel with a token: in plain words first, then its parts. */
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
