// Drives Vapi's real web SDK against the stand-in, and says in plain words how it went.
import { badge, el, fill, find } from "./dom.js";
import { read, hasExpired } from "./jwt.js";

export const loadSdk = async () => (await import("./vapi-sdk.js")).default;

/** What Vapi refused, for a person; Vapi's own words stand below it. */
function explain(error, credential) {
  const token = read(credential);
  if (token && hasExpired(token)) {
    return ["The session token has run out.", "Ask the service for a new session, then start the call again."];
  }
  const message = error?.message ?? "";
  if (message.includes("assistantId")) {
    return ["This credential is not good for that assistant.", "It starts the assistant it was made for, and no other."];
  }
  if (message.includes("transient")) {
    return ["This credential does not allow a prompt of your own.", "It starts the assistant it was made for, as it is."];
  }
  if (message.includes("origin")) {
    return ["This credential is not good for this web site.", "VAPI_ALLOWED_ORIGINS lists the sites it is made for."];
  }
  if (message.includes("Couldn't Get Assistant")) {
    return ["Vapi does not know that assistant.", "Check VAPI_ASSISTANT_ID."];
  }
  if (error?.statusCode === 401) {
    return ["Vapi does not accept this credential.", "Ask the service for a new session."];
  }
  return ["Vapi could not start the call.", "Try again in a moment."];
}

function step(started, text) {
  const at = `${Math.round(performance.now() - started)} ms`;
  find("steps").append(el("li", {}, el("span", { class: "at" }, at), el("span", {}, text)));
}

/** Start a call; resolves to `{ accepted, error }` as soon as Vapi's answer is known. */
function start(Sdk, vapiUrl, credential, assistant) {
  const vapi = new Sdk(credential, vapiUrl);
  const started = performance.now();
  return new Promise((resolve) => {
    vapi.on("call-start-progress", ({ stage, status, metadata }) => {
      step(started, `${stage.replaceAll("-", " ")}: ${status}`);
      if (stage === "web-call-creation" && status === "completed") resolve({ accepted: metadata.callId });
      // The stand-in carries no voice: what comes after this would be Vapi's audio.
      if (stage === "daily-call-join" && status === "started") setTimeout(() => vapi.stop());
    });
    // Without a listener the SDK's emitter throws; a refusal by Vapi comes as `error.error`.
    vapi.on("error", ({ error }) => resolve({ error: error?.error ?? error }));
    vapi.start(assistant).catch((error) => resolve({ error }));
  });
}

/** Start a call and show how it goes. */
export async function call(Sdk, vapiUrl, credential, assistant) {
  fill(find("steps"));
  badge(find("call-badge"), "calling…");
  const { accepted, error } = await start(Sdk, vapiUrl, credential, assistant);
  const [head, todo] = accepted
    ? ["The call was accepted.", "With the real Vapi, the conversation would begin now. The stand-in carries no voice."]
    : explain(error, credential);
  badge(find("call-badge"), accepted ? "201 accepted" : `${error?.statusCode ?? "no"} refused`, accepted ? "good" : "bad");
  const words = accepted ? `Call ${accepted}` : `Vapi said: ${error?.message ?? error}`;
  fill(find("call-verdict"), el("p", { class: "head" }, head), el("p", { class: "todo" }, todo), el("p", {}, el("code", {}, words)));
  return accepted ? { accepted } : { refused: head };
}
