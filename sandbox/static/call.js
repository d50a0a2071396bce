// Starts calls at the stand-in, with the sandbox's class or Vapi's real SDK, and explains the result.
import { badge, el, fill, find } from "./dom.js";
import { read, hasExpired } from "./jwt.js";

/** The sandbox's class, or the real one (`real`), when it is bundled. */
export const loadSdk = async (kind) =>
  (await import(kind === "real" ? "./vapi-sdk.js" : "/playground/vapi.js")).default;

// What Vapi's texts mean for an app's developer: a part of the text, what happened, what to do.
const MEANINGS = [
  ["Key doesn't allow assistantId", "This credential does not allow that assistant.", "It can start only the assistant that it was issued for."],
  ["Key doesn't allow transient", "This credential does not allow a prompt of your own.", "It can start only the assistant that it was issued for, unchanged."],
  ["Key doesn't allow origin", "This credential does not allow this web site.", "VAPI_ALLOWED_ORIGINS lists the allowed sites."],
  ["must be a UUID", "The assistant id is not a UUID.", "Pass on assistantId of the service’s answer; check VAPI_ASSISTANT_ID."],
  ["Couldn't Get Assistant", "Vapi does not know that assistant.", "Check VAPI_ASSISTANT_ID."],
  ["should not exist", "The call has a field that Vapi does not know.", "Check the names in assistantOverrides."],
  ["Over Concurrency Limit", "Too many calls are active.", "Wait until one ends, or raise the organization’s limit at Vapi."],
  ["Rate limit exceeded", "Too many requests.", "Try again in a moment."],
  ["Stand-in:", "The stand-in does not allow squads and workflows.", "What Vapi does with them here is unknown: see docs/vapi.md."],
  ["Invalid Key", "Vapi does not accept this credential.", "Ask the service for a new session."],
];
const UNKNOWN = ["Vapi could not start the call.", "Try again in a moment."];

/** Vapi's text; for invalid fields it is a list. */
const text = (error) => [error?.message ?? error].flat().join("; ");

/** Explain an error of Vapi to a developer; Vapi's own text is shown below it. */
function explain(error, credential) {
  const token = read(credential);
  if (token && hasExpired(token)) {
    return ["The session token has expired.", "Ask the service for a new session, then start the call again."];
  }
  const [, ...meaning] = MEANINGS.find(([part]) => text(error).includes(part)) ?? [null, ...UNKNOWN];
  return meaning;
}

function step(started, text) {
  const at = `${Math.round(performance.now() - started)} ms`;
  find("steps").append(el("li", {}, el("span", { class: "at" }, at), el("span", {}, text)));
}

/** Start a call; resolves to `{ accepted, error }` as soon as Vapi's answer is known. */
function start(Sdk, vapiUrl, credential, options) {
  const vapi = new Sdk(credential, vapiUrl);
  const started = performance.now();
  return new Promise((resolve) => {
    vapi.on("call-start-progress", ({ stage, status, metadata }) => {
      step(started, `${stage.replaceAll("-", " ")}: ${status}`);
      if (stage === "web-call-creation" && status === "completed") resolve({ accepted: metadata.callId });
      // The call above has the whole conversation.
      if (stage === "daily-call-join" && status === "started") setTimeout(() => vapi.stop());
    });
    // Without a listener the SDK's emitter throws; a refusal by Vapi comes as `error.error`.
    vapi.on("error", ({ error }) => resolve({ error: error?.error ?? error }));
    vapi.start(...options).catch((error) => resolve({ error }));
  });
}

/** Start a call and show how it goes; `options` are the SDK's: assistant, overrides and so on. */
export async function call(Sdk, vapiUrl, credential, ...options) {
  fill(find("steps"));
  badge(find("call-badge"), "calling…");
  const { accepted, error } = await start(Sdk, vapiUrl, credential, options);
  const [head, todo] = accepted
    ? ["The call was accepted.", "The conversation would begin now; here the page hangs up."]
    : explain(error, credential);
  badge(find("call-badge"), accepted ? "201 accepted" : `${error?.statusCode ?? "no"} refused`, accepted ? "good" : "bad");
  const words = accepted ? `Call ${accepted}` : `Vapi: ${text(error)}`;
  fill(find("call-verdict"), el("p", { class: "head" }, head), el("p", { class: "todo" }, todo), el("p", {}, el("code", {}, words)));
  return accepted ? { accepted } : { refused: head };
}
