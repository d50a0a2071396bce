// Runs the web recipe in a page, with Vapi's own SDK: `run(options)`, for the test.
import SdkModule from "@vapi-ai/web";
import { startCall } from "../web.js";
import { faults, microphones } from "./daily.js";
import { idle, ignoreProgress, moment, onMoment } from "./moments.js";

const Sdk = SdkModule.default ?? SdkModule;

const report = async (shown) => {
  await idle();
  return { shown, microphones: microphones.map(({ readyState }) => readyState) };
};

/** Start a call by the recipe, hang up at a moment, and report once nothing happens any more. */
globalThis.run = async ({ hangUpAt, joinFault, withoutProgress, refuseMicrophone, tokens, ...options }) => {
  const shown = [];
  faults.join = joinFault;
  if (withoutProgress) ignoreProgress(Sdk);
  if (refuseMicrophone) {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"));
  }
  await new Promise((resolve) => {
    let call;
    const act = (name) => name === hangUpAt && call.stop();
    onMoment(act);
    call = startCall({
      ...options,
      auth: { getToken: async () => tokens[0], refreshToken: async () => tokens[1] },
      show(text) {
        shown.push(text);
        if (text === "Connected.") moment("connected");
        if (text !== "Connecting…" && !(hangUpAt && text === "Connected.")) resolve();
      },
    });
    act("tap");
  });
  return report(shown);
};

/** Start a call with the SDK alone, and call its `stop` at a moment. */
globalThis.runWithoutRecipe = async ({ hangUpAt, apiKey, assistantId, vapiUrl }) => {
  const vapi = new Sdk(apiKey, vapiUrl);
  vapi.on("error", () => {});
  onMoment((name) => name === hangUpAt && vapi.stop());
  await vapi.start(assistantId);
  return report([]);
};
