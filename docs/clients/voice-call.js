// One voice call with Vapi's web or React Native SDK, from the session to the end of the call.
// Copy this file into the app, beside session.js.
import { assistantOverrides, getSession, SessionError } from "./session.js";

/**
 * What is used of the SDK's object; both SDKs have it.
 * @typedef {object} Sdk
 * @property {(assistantId: string, overrides?: { variableValues: object }) => Promise<object | null>} start
 * @property {() => unknown} stop
 * @property {(event: SdkEvent, listener: (value?: any) => void) => unknown} on
 */

/** @typedef {"call-start" | "call-end" | "call-start-progress" | "camera-error" | "error"} SdkEvent */

/**
 * @typedef {object} CallOptions
 * @property {new (apiToken: string, apiBaseUrl?: string, dailyConfig?: any) => Sdk} Vapi  The SDK's
 *   class.
 * @property {string} [vapiUrl]  Vapi's address, for a stand-in; leave it out in production.
 * @property {{ avoidEval?: boolean }} [dailyConfig]  Of the web SDK.
 * @property {() => Promise<void>} [askForMicrophone]  Fails when the patient refuses. A session token
 *   does not wait for a dialog, and Vapi ends a call without audio after 15 seconds.
 * @property {import("./session.js").SessionOptions} session
 * @property {() => void} onConnected  The assistant listens.
 * @property {(error: unknown) => void} onEnded  The call has ended, or there is none; called once.
 *   `error` is null when the call ended as it should, else a text for it is in `inWords(error)`.
 */

/**
 * Start a call. `stop()` hangs up, at any time: also while the call is still connecting, when the
 * SDK cannot. Then no microphone is opened, or it is closed again.
 *
 * @param {CallOptions} options
 * @returns {{ stop: () => void }}
 */
export function startVoiceCall({
  Vapi, vapiUrl, dailyConfig, askForMicrophone, session: sessionOptions, onConnected, onEnded,
}) {
  let active = true;
  /** @type {Sdk | undefined} */
  let vapi;

  /** @param {unknown} error */
  function end(error) {
    if (!active) return;
    active = false;
    onEnded(error);
  }

  function stop() {
    end(null);
    vapi?.stop();
  }

  /** @param {string} why */
  function refused(why) {
    end(new SessionError("MICROPHONE_REFUSED", why));
    vapi?.stop();
  }

  async function connect() {
    try {
      await askForMicrophone?.();
    } catch (error) {
      return refused(String(error));
    }
    if (!active) return;
    const session = await getSession(sessionOptions);
    if (!active) return;
    // One object for one call: no SDK refreshes a credential, and all objects share the latest.
    vapi = new Vapi(session.apiKey, vapiUrl, dailyConfig);
    let started = false;
    let left = false;
    /** @type {SessionError | null} */
    let lost = null;
    // Without a listener for `error` the SDK throws. A refusal by Vapi is in `error.error`. A call
    // that the assistant or the clinic ends is an `error` too, "Meeting has ended", before the end.
    vapi.on("error", (event) => {
      const fault = event?.error?.error ?? event?.error ?? event;
      if (active) console.warn("Vapi", fault);
      if (fault?.type === "connection-error") lost = new SessionError("CONNECTION_LOST", "Daily's connection failed");
    });
    vapi.on("camera-error", () => refused("The SDK may not use the microphone"));
    // While the SDK connects, its `stop()` does nothing. It reports each step from inside `start`,
    // so an exception here makes it give up and clean up before the next step.
    vapi.on("call-start-progress", () => {
      if (!active) throw new Error("Hung up while connecting");
    });
    vapi.on("call-start", () => {
      if (active) onConnected();
    });
    // After a failed start the SDK may report the end too, even later than `start` returns.
    vapi.on("call-end", () => {
      left = true;
      if (started) end(lost);
    });
    const call = await vapi.start(session.assistantId, assistantOverrides(session));
    started = true;
    if (!active) vapi.stop();
    else if (call === null) end(new SessionError("CALL_FAILED", "Vapi did not start the call"));
    else if (left) end(lost);
  }

  connect().catch(end);
  return { stop };
}
